"""The keeper of seals and anchor on a real queue: what it writes when, and what it refuses."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finagent.adapters.clock import VirtualClock, wall_now
from finagent.adapters.database.anchor import AnchorFile, objection
from finagent.adapters.database.audit import EPOCHS_SKIPPED, JOB_IDS_SKIPPED, AuditKeeper, AuditPolicy
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.database.verification import verify_file
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.jobs import Next
from finagent.domain.trading_state import LedgerIdentity
from finagent.services.failpoints import unarmed

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
IDENTITY = LedgerIdentity(1, "led-1", "SIM-1", 7, "", "100000", "settings", START)


class Agent:
    """One process on the store: queue and keeper, from start to end."""

    def __init__(self, queue: SqliteJobQueue, reads: SqliteReads, keeper: AuditKeeper, file: AnchorFile) -> None:
        self.queue, self.reads, self.keeper, self.file = queue, reads, keeper, file

    async def tell(self, events: int) -> None:
        told = [DecisionEvent(SubjectType.DECISION, "d", "step", START, body={"step": step}) for step in range(events)]
        await self.queue.submit(Effect(events=tuple(told)))

    def anchored_event(self) -> int:
        return int(json.loads(self.file.path.read_text())["event_id"])


@asynccontextmanager
async def agent(
    database: Path, open_queue: OpenQueue, failpoints: Callable[[str], None] = unarmed, *, anchor: Path | None = None
) -> AsyncIterator[Agent]:
    """Started as the application starts it, and ended as it ends it; the first one on a store gives it its ledger."""
    queue = await open_queue(database, recovered=False)
    reads, file = SqliteReads(database), AnchorFile(anchor or database.with_name("anchor"))
    policy = AuditPolicy(anchor_seconds=0.001, seal_events=4)
    keeper = AuditKeeper(
        file, reads, queue, clock=VirtualClock(START), policy=policy, wall_now=wall_now, failpoints=failpoints, shared=False
    )
    queue.on_group.append(keeper.committed)
    await keeper.prepare()
    await queue.recover()
    if reads.get(LedgerIdentity, 1) is None:
        await queue.submit(Effect((IDENTITY,)))
    await keeper.begin()
    try:
        yield Agent(queue, reads, keeper, file)
    finally:
        await keeper.seal()
        await queue.close()
        await keeper.write_anchor()
        reads.close()


def remembered(database: Path) -> str:
    """What the anchor objects to on the store as it lies there."""
    reads = SqliteReads(database)
    with closing(reads):
        return objection(AnchorFile(database.with_name("anchor")).read(), reads)


async def test_a_start_is_anchored_before_anything_runs_and_an_end_with_all_it_did(database: Path, open_queue: OpenQueue) -> None:
    async with agent(database, open_queue) as one:
        assert one.anchored_event() == 0
        await one.tell(6)
    assert one.anchored_event() == 6
    found = verify_file(database, AnchorFile(one.file.path))
    assert (found.faults, found.events, found.seals) == ([], 6, 2)


async def test_while_it_runs_whole_seals_and_anchors_follow_the_commits(database: Path, open_queue: OpenQueue) -> None:
    loop, written = asyncio.get_running_loop(), asyncio.Semaphore(0)

    def passed(label: str) -> None:
        if label == "anchor.after":
            loop.call_soon_threadsafe(written.release)

    async with agent(database, open_queue, passed) as one, asyncio.timeout(20):
        await written.acquire()
        async with one.keeper.running():
            await one.tell(10)
            while one.anchored_event() < 10 or json.loads(one.file.path.read_text())["seal_number"] < 2:
                await written.acquire()
        assert one.reads.rows("SELECT number, first_event, last_event FROM audit_seal") == [(1, 1, 4), (2, 5, 8)]
    assert remembered(database) == ""


async def test_whatever_stops_the_audit_stops_new_risk(database: Path, open_queue: OpenQueue) -> None:
    """A fault of ours in the middle of a write: held back, tried again, and told apart from a store that is not ours."""
    failed = asyncio.Semaphore(0)
    loop, armed = asyncio.get_running_loop(), False

    def passed(label: str) -> None:
        if armed and label == "anchor.before":
            loop.call_soon_threadsafe(failed.release)
            raise RuntimeError("boom")

    async with agent(database, open_queue, passed) as one, asyncio.timeout(20):
        async with one.keeper.running():
            armed = True
            await one.tell(1)
            await failed.acquire()
            await failed.acquire()  # it is tried again, so the first failure has been noted
            assert one.keeper.held_back() == "the audit failed: RuntimeError: boom"
            armed = False
        await one.keeper.write_anchor()
        assert one.keeper.held_back() == ""


async def test_an_idle_agent_writes_nothing(database: Path, open_queue: OpenQueue) -> None:
    async with agent(database, open_queue) as one:
        await one.tell(1)
        await one.keeper.write_anchor()
        before = one.file.path.stat().st_ino
        await one.keeper.write_anchor()
        assert one.file.path.stat().st_ino == before


async def test_an_older_store_is_held_back_until_a_person_accepts_it(database: Path, open_queue: OpenQueue) -> None:
    """F-18: no id is used again, the anchor keeps what it remembers, a restart does not forget, and the acceptance is told."""
    async with agent(database, open_queue) as one:
        await one.tell(3)
        await one.queue.submit(Effect(next=(Next("scan", "first", {}),)))
    shutil.copy(database, database.with_name("backup.db"))
    async with agent(database, open_queue) as two:
        await two.tell(2)
    shutil.copy(database.with_name("backup.db"), database)

    for _ in range(2):
        async with agent(database, open_queue) as late:
            assert late.keeper.held_back() == "the database is older than its anchor: it ends at event 3, the anchor remembers 5"
            assert late.anchored_event() == 5
    async with agent(database, open_queue) as late:
        await late.tell(4)
        (job,) = await late.queue.submit(Effect(next=(Next("scan", "second", {}),)))
        assert job.id > JOB_IDS_SKIPPED
        assert job.epoch > EPOCHS_SKIPPED
        assert late.anchored_event() == 5

        await late.keeper.accept("yesterday's backup", "ann")
        assert late.keeper.held_back() == ""
        assert late.anchored_event() == 8
        with pytest.raises(BadInput, match="nothing to accept"):
            await late.keeper.accept("again", "ann")
        (body,) = late.reads.rows("SELECT body FROM decision_event WHERE kind = 'store_accepted' AND subject_type = 'ACCOUNT'")[0]
        told = json.loads(body)
        assert (told["by"], told["reason"], told["anchor"]["event_id"]) == ("ann", "yesterday's backup", 5)
    assert verify_file(database, AnchorFile(database.with_name("anchor"))).faults == []


async def test_a_store_that_grew_back_to_its_anchor_is_not_accepted_by_itself(database: Path, open_queue: OpenQueue) -> None:
    """The counters are raised at once, so only the mark in the store still tells."""
    async with agent(database, open_queue):
        pass
    with closing(sqlite3.connect(database)) as spoiled, spoiled:
        spoiled.execute("UPDATE meta SET value = 0 WHERE key = 'epoch'")
    async with agent(database, open_queue) as first:
        assert "epoch 0, the anchor remembers 1" in first.keeper.held_back()
    async with agent(database, open_queue) as second:
        assert "nobody has accepted it yet" in second.keeper.held_back()
    assert [fault.message for fault in verify_file(database, AnchorFile(database.with_name("anchor"))).faults] == [
        "the database was not what its anchor remembers, and nobody has accepted it yet"
    ]


@pytest.mark.parametrize("spoil", ["remove", "tear"])
async def test_a_store_without_its_anchor_is_held_back(database: Path, open_queue: OpenQueue, spoil: str) -> None:
    """F-83: the anchor removed, or made unreadable, while there is a story to hide."""
    async with agent(database, open_queue) as one:
        await one.tell(1)
    one.file.path.unlink() if spoil == "remove" else one.file.path.write_text("torn")

    async with agent(database, open_queue) as two:
        assert two.keeper.held_back()
        await two.keeper.accept("a new disk", "ann")
    assert remembered(database) == ""


async def test_two_agents_on_copies_of_one_ledger_meet_at_the_anchor(
    database: Path, open_queue: OpenQueue, tmp_path: Path
) -> None:
    """F-21: the folder's lock does not reach another host, the anchor on a shared volume does."""
    async with agent(database, open_queue) as one:
        (tmp_path / "copy").mkdir()
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(tmp_path / "copy" / "finagent.db")) as copy:
            source.backup(copy)
        async with agent(tmp_path / "copy" / "finagent.db", open_queue, anchor=one.file.path) as two:
            assert two.keeper.held_back() == ""
            await one.tell(1)
            await one.keeper.write_anchor()
            assert "two agents on one ledger" in one.keeper.held_back()


async def test_an_anchor_that_cannot_be_written_stops_new_risk_until_it_can(
    database: Path, open_queue: OpenQueue, tmp_path: Path
) -> None:
    (volume := tmp_path / "volume").mkdir()
    async with agent(database, open_queue, anchor=volume / "anchor") as one:
        await one.tell(1)
        volume.rename(tmp_path / "away")
        await one.keeper.write_anchor()
        assert "cannot be written" in one.keeper.held_back()
        (tmp_path / "away").rename(volume)
        await one.keeper.write_anchor()
        assert one.keeper.held_back() == ""


async def test_a_store_that_takes_no_writes_is_sealed_later(database: Path, open_queue: OpenQueue, capfd: Any) -> None:
    async with agent(database, open_queue) as one:
        await one.tell(1)
        await one.queue.close()
        await one.keeper.seal()
    assert "seal_postponed" in "".join(capfd.readouterr())


async def test_an_acceptance_that_cannot_be_anchored_does_not_hold(database: Path, open_queue: OpenQueue) -> None:
    async with agent(database, open_queue) as one:
        await one.tell(1)
    one.file.path.unlink()
    async with agent(database, open_queue) as two:
        one.file.path.with_name(".anchor.new").mkdir()
        with pytest.raises(Unavailable, match="cannot be written"):
            await two.keeper.accept("no", "ann")
        assert two.keeper.held_back()
