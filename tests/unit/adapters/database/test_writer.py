"""The one writer: groups, errors and what each of them means."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.connection import Driver
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.database.sqlite import SqliteConnection
from finagent.adapters.database.writer import EXIT_CODE_UNKNOWN_OUTCOME, Done
from finagent.adapters.job_queue.by_hand import HandOperations
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import InvariantViolated, Transient, Unavailable
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import (
    BrokerOrder,
    Fill,
    Leg,
    OrderClass,
    OrderIntent,
    OrderState,
    OrderType,
    SendOutcome,
    Side,
    TimeInForce,
)
from finagent.domain.portfolio import Position
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.trading_state import MarketClock, TradingState, TradingStateRecord

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)


def a_position(symbol: str) -> Effect:
    return Effect(records=(Position(symbol, 0, Decimal(0), Decimal(0), START),))


def a_state(reason: str) -> Effect:
    return Effect(records=(TradingStateRecord(1, TradingState.ACTIVE, reason, "test", START),))


def rows_of(database: Path, table: str) -> int:
    """Counted by a connection of its own, as another program would."""
    with closing(sqlite3.connect(database)) as connection, connection:
        count = int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    connection.close()
    return count


async def test_what_waits_travels_together(open_queue: OpenQueue) -> None:
    """64 callers that each wait for their own commit share a few; one by one they would need 640."""
    queue = await open_queue()
    sizes: list[int] = []
    queue.on_group.append(lambda size, seconds: sizes.append(size))

    async def caller(name: int) -> None:
        for number in range(10):
            await queue.submit(a_position(f"{name}-{number}"))

    async with asyncio.TaskGroup() as group:
        for name in range(64):
            group.create_task(caller(name))

    assert sum(sizes) == 640
    assert max(sizes) == 64
    assert len(sizes) < 64


async def test_a_group_has_a_bound(open_queue: OpenQueue, policy: WriterPolicy) -> None:
    queue = await open_queue(writer_policy=replace(policy, group_operations_max=3))
    sizes: list[int] = []
    queue.on_group.append(lambda size, seconds: sizes.append(size))

    await asyncio.gather(*(queue.submit(a_position(f"{n}")) for n in range(8)))
    pending = [queue.submit(a_position(f"more-{n}")) for n in range(8)]
    await queue.close()

    assert sizes == [3, 3, 2, 3, 3, 2]
    assert [await future for future in pending] == [[]] * 8


async def test_commits_are_synced_in_full(open_queue: OpenQueue) -> None:
    queue = await open_queue()
    settings: dict[str, int] = {}

    def look(driver: Driver) -> Done:
        for name in ("synchronous", "foreign_keys", "wal_autocheckpoint"):
            settings[name] = driver.execute(f"PRAGMA {name}").fetchall()[0][0]
        settings["wal"] = driver.execute("PRAGMA journal_mode").fetchall()[0][0] == "wal"
        return Done(None, wrote=False)

    await queue._writer.submit(look)

    assert settings == {"synchronous": 2, "foreign_keys": 1, "wal_autocheckpoint": 1000, "wal": 1}


def test_a_store_without_a_write_ahead_log_is_refused(policy: WriterPolicy) -> None:
    """Without one, synchronous=FULL does not promise the same; SQLite stays silent where it cannot make it, as in memory."""
    with pytest.raises(Unavailable, match="the journal mode stays 'memory'"):
        SqliteConnection(Path(":memory:"), policy)


async def test_failpoints_are_passed_around_each_kind_of_commit(open_queue: OpenQueue) -> None:
    passed: list[str] = []
    queue = await open_queue(failpoints=passed.append)

    await queue.submit(Effect(next=(Next("score", "a", run_at=START),)) + a_position("IBM"))
    await queue.submit(Effect())
    await queue.claim(START, 10)

    assert passed == ["epoch_commit.before", "epoch_commit.after", "effect_commit.before", "effect_commit.after"]


async def test_intents_outcomes_and_fills_have_their_own_failpoints(open_queue: OpenQueue) -> None:
    passed: list[str] = []
    queue = await open_queue(failpoints=passed.append)
    run = PipelineRun("run", "open", date(2008, 10, 1), START, RunState.RUNNING, 1, 1, 0, {}, "", None)
    facts = GapFacts(0.03, 100, 103, 104, 102, 103.5, 1e6, 2.0, 1e8, 5)
    found = GapCandidate("d", "run", "IBM", date(2008, 10, 1), Direction.UP, "t", START, facts)
    intents = tuple(
        OrderIntent(name, "d", None, Leg.EXIT, number, "IBM", Side.SELL, 10, OrderType.MARKET, None, None, OrderClass.SIMPLE,
                    TimeInForce.DAY, 0, "TIME", None, START)
        for number, name in enumerate(("fa-0", "fa-1"))
    )  # fmt: skip
    pending = BrokerOrder("fa-0", "d", "IBM", None, Leg.EXIT, None, None, OrderState.PENDING, 0, None, None, "", 0, None, START)
    known = replace(pending, client_order_id="fa-1", outcome=SendOutcome.REFUSED, state=OrderState.REJECTED)
    fill = Fill("x-1", "fa-0", "d", "IBM", Side.SELL, 10, Decimal(103), Decimal(0), START)

    def labels() -> set[str]:
        seen = {label.partition(".")[0] for label in passed}
        assert Counter(passed) == Counter({f"{label}.{side}": 1 for label in seen for side in ("before", "after")})
        passed.clear()
        return seen - {"epoch_commit", "effect_commit"}

    await queue.submit(Effect(records=(run, found)))
    assert labels() == set()
    await queue.submit(Effect(records=(*intents, pending)))
    assert labels() == {"intent_commit"}
    await queue.submit(Effect(records=(known,)))
    assert labels() == {"outcome_commit"}
    await queue.submit(Effect(records=(Set(BrokerOrder, ("fa-0",), {"sends": 1}),)))
    assert labels() == set()
    await queue.submit(Effect(records=(Set(BrokerOrder, ("fa-0",), {"outcome": SendOutcome.CONFIRMED}, {"outcome": None}), fill)))
    assert labels() == {"outcome_commit", "fill_apply"}


async def test_an_idle_instant_writes_nothing(open_queue: OpenQueue, database: Path, clock: VirtualClock) -> None:
    queue = await open_queue(carries_market_clock=True)
    await queue.submit(Effect(records=(MarketClock(1, "source", START, "RUNNING"),)))
    log = database.with_name("finagent.db-wal")
    before = log.read_bytes()

    for minute in range(1, 50):
        clock.set(START + timedelta(minutes=minute))
        assert await queue.claim(clock.now(), 100) == []
        assert await queue.submit(Effect()) == []
        await queue.release([])
        assert await queue.prune() == 0

    assert log.read_bytes() == before


async def test_the_first_commit_of_an_instant_carries_the_market_clock(
    open_queue: OpenQueue, database: Path, clock: VirtualClock
) -> None:
    queue = await open_queue(carries_market_clock=True)
    reads = SqliteReads(database)
    await queue.submit(Effect(records=(MarketClock(1, "source", START, "RUNNING"),)))
    carried = []

    for minute in (1, 2, 3):
        clock.set(START + timedelta(minutes=minute))
        await queue.submit(a_position(f"{minute}"))
        await queue.submit(a_position(f"{minute} again"))
        carried.append(reads.find(MarketClock)[0].at)

    assert carried == [START + timedelta(minutes=minute) for minute in (1, 2, 3)]
    reads.close()


async def test_a_refused_effect_does_not_move_the_market_clock(
    open_queue: OpenQueue, database: Path, clock: VirtualClock
) -> None:
    queue = await open_queue(carries_market_clock=True)
    reads = SqliteReads(database)
    await queue.submit(Effect(records=(MarketClock(1, "source", START, "RUNNING"),)) + a_position("IBM"))
    clock.set(START + timedelta(minutes=1))

    with pytest.raises(InvariantViolated):
        await queue.submit(a_position("AAPL") + a_position("IBM"))
    assert reads.find(MarketClock)[0].at == START
    await queue.submit(a_position("AAPL"))
    assert reads.find(MarketClock)[0].at == clock.now()
    await queue.submit(Effect(records=(Set(MarketClock, (1,), {"at": START, "state": "FINISHED"}),)))
    await queue.submit(a_position("MSFT"))
    assert reads.find(MarketClock)[0].at == START, "it is told once an instant"
    reads.close()


async def test_a_full_disk_undoes_the_group_until_there_is_room(open_queue: OpenQueue, policy: WriterPolicy) -> None:
    """The file may grow to 80 pages and no further."""
    queue = await open_queue(writer_policy=replace(policy, database_bytes_max=80 * 4096, probe_bytes=20_000))
    stored = 0

    async def fill() -> None:
        nonlocal stored
        while True:
            await queue.submit(Effect(next=(Next("score", f"{stored}", {"ballast": "x" * 500}),)))
            stored += 1

    with pytest.raises(Transient, match="disk full"):
        await fill()

    assert queue.disk_full
    answers = await asyncio.gather(queue.submit(a_state("small")), queue.submit(a_position("IBM")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Transient, Transient], "no effect is tried while a probe finds no room"
    assert not await queue.probe()
    assert queue.counts()["RUNNING"] == stored > 5, "what was answered is there, what was refused is not"


async def test_a_disk_that_has_room_again_is_believed(open_queue: OpenQueue, database: Path, policy: WriterPolicy) -> None:
    """One effect is larger than the room left: its group is undone, the probe fits, and everybody goes on."""
    queue = await open_queue(writer_policy=replace(policy, database_bytes_max=80 * 4096))
    large = Effect(next=(Next("score", "large", {"ballast": "x" * 400_000}),))

    answers = await asyncio.gather(queue.submit(large), queue.submit(a_position("IBM")), return_exceptions=True)

    assert [type(answer) for answer in answers] == [Transient, Transient]
    assert queue.disk_full
    assert rows_of(database, "position") == 0
    assert await queue.submit(a_position("IBM")) == []
    assert not queue.disk_full
    assert await queue.probe()


async def test_a_probe_that_meets_something_worse_ends_everything(
    open_queue: OpenQueue, database: Path, policy: WriterPolicy
) -> None:
    reasons: list[str] = []
    queue = await open_queue(writer_policy=replace(policy, database_bytes_max=80 * 4096), abort=reasons.append)
    with pytest.raises(Transient):
        await queue.submit(Effect(next=(Next("score", "large", {"ballast": "x" * 400_000}),)))
    connection = sqlite3.connect(database)
    connection.execute("DROP TABLE meta")
    connection.close()

    with pytest.raises(InvariantViolated):
        await queue.submit(a_position("IBM"))
    assert reasons == ["no such table: meta"]


async def test_a_cancelled_caller_of_a_closing_queue_leaves_its_job_to_the_next_start(open_queue: OpenQueue) -> None:
    queue = await open_queue()
    future = queue.submit(Effect(next=(Next("score", "a"),)))
    future.cancel()
    await queue.close()

    again = await open_queue()

    (job,) = await again.claim(START, 1)
    assert (job.dedup_key, job.crashes) == ("a", 1)


async def test_a_foreign_writer_is_waited_for_and_then_reported(
    open_queue: OpenQueue, database: Path, policy: WriterPolicy
) -> None:
    queue = await open_queue(writer_policy=replace(policy, busy_timeout_seconds=0.05))
    foreign = sqlite3.connect(database, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")

    with pytest.raises(Transient, match="another program holds the write lock"):
        await queue.submit(a_position("IBM"))
    foreign.execute("ROLLBACK")
    foreign.close()

    assert await queue.submit(a_position("IBM")) == []


async def test_an_unknown_outcome_ends_everything(open_queue: OpenQueue, database: Path) -> None:
    """A deferred constraint makes COMMIT itself fail: nobody may go on as if the outcome were known."""
    reasons: list[str] = []
    queue = await open_queue(abort=reasons.append)

    def doubtful(driver: Driver) -> Done:
        driver.execute("PRAGMA defer_foreign_keys=ON")
        driver.execute("INSERT INTO symbol_run VALUES ('no such run', 'IBM', 'SCAN', 'RUNNING', '')")
        return Done(None)

    answers = await asyncio.gather(
        queue.submit(a_position("AAPL")),
        queue._writer.submit(doubtful),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [InvariantViolated, InvariantViolated]
    assert reasons == ["COMMIT: FOREIGN KEY constraint failed"]
    with pytest.raises(InvariantViolated, match="only a new start can tell"):
        await queue.submit(a_position("MSFT"))
    await queue.close()
    assert reasons == ["COMMIT: FOREIGN KEY constraint failed"]
    assert rows_of(database, "position") == 0


async def test_a_damaged_file_ends_everything(open_queue: OpenQueue, database: Path, policy: WriterPolicy) -> None:
    reasons: list[str] = []
    first = await open_queue()
    await first.close()
    with closing(sqlite3.connect(database)) as connection, connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'meta'").fetchone()
    connection.close()
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    queue = SqliteJobQueue(
        database, reads=first._reads, clock=first._clock, policy=first._operations._policy, writer_policy=policy,
        failpoints=lambda label: None, build_hash="", settings_hash="", worker_id="", carries_market_clock=False,
        abort=reasons.append,
    )  # fmt: skip

    with pytest.raises(InvariantViolated, match="unknown"):
        await queue.recover()

    assert len(reasons) == 1
    await queue.close()


async def test_a_fault_of_the_frame_ends_everything(open_queue: OpenQueue) -> None:
    reasons: list[str] = []
    labels: Counter[str] = Counter()

    def broken(label: str) -> None:
        labels[label] += 1
        if label == "effect_commit.before":
            raise ZeroDivisionError

    queue = await open_queue(failpoints=broken, abort=reasons.append)

    with pytest.raises(InvariantViolated):
        await queue.submit(a_position("IBM"))
    assert reasons == ["ZeroDivisionError: "]


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path, open_queue: OpenQueue, policy: WriterPolicy) -> None:
    there = await open_queue()
    queue = SqliteJobQueue(
        tmp_path / "gone" / "finagent.db", reads=there._reads, clock=there._clock, policy=there._operations._policy,
        writer_policy=policy, failpoints=lambda label: None, build_hash="", settings_hash="", worker_id="",
        carries_market_clock=False,
    )  # fmt: skip

    with pytest.raises(Unavailable, match=r"gone/finagent\.db"):
        await queue.recover()
    await queue.close()


async def test_closing_leaves_one_file_with_everything(open_queue: OpenQueue, database: Path) -> None:
    queue = await open_queue()
    await queue.submit(a_position("IBM"))

    await queue.close()

    assert database.with_name("finagent.db-wal").stat().st_size == 0
    assert rows_of(database, "position") == 1


CHILD = """
import asyncio, json, resource, shutil, sqlite3, sys
from datetime import UTC, datetime
from pathlib import Path
from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.connection import Driver
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.effect import Effect
from finagent.domain.errors import Transient
from finagent.domain.jobs import Job, Next
from finagent.services.failpoints import unarmed

def a_job(number):
    return Effect(next=(Next("score", str(number), {"ballast": "x" * 1000}),))

def jobs_in(path):
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return connection.execute("SELECT count(*) FROM job_queue").fetchone()[0]

async def main(folder, file_bytes):
    path, writer_policy = folder / "finagent.db", WriterPolicy(1, 1000, 500, 0, 65536)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(300_000))
    upgrade(path, writer_policy, unarmed)
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    reads = SqliteReads(path)
    queue = SqliteJobQueue(
        path, reads=reads, clock=VirtualClock(datetime(2008, 10, 1, tzinfo=UTC)),
        policy=DurableQueuePolicy(1000, 10, 5, 1000, 30, 500, 2000, 5), writer_policy=writer_policy,
        failpoints=unarmed, build_hash="", settings_hash="", worker_id="", carries_market_clock=False,
    )
    await queue.recover()
    stored = 0
    try:
        while True:
            await queue.submit(a_job(stored))
            stored += 1
            print(stored, flush=True)
    except Transient as error:
        image = folder.parent / "image.db"
        shutil.copy(path, image)
        shutil.copy(f"{path}-wal", f"{image}-wal")
        said = {"error": str(error), "stored": stored, "image": jobs_in(image), "full": [await queue.probe()]}
        ballast.unlink()
        said["full"] += [await queue.probe(), queue.disk_full]
        await queue.submit(a_job("last"))
        await queue.close()
        print(json.dumps({**said, "end": jobs_in(path)}), flush=True)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_a_full_file_system_undoes_what_did_not_fit(tmp_path: Path) -> None:
    """A real file system of one megabyte: SQLite has no room at COMMIT. What was answered is on the disk, what was refused is not
    (in the very files that a kill would leave), and with room again the same process goes on."""
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs {small} && exec {sys.executable} -c "$0" {small} 0'
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a file system of their own")
    child = subprocess.run(["unshare", "-rm", "sh", "-c", mount, CHILD], capture_output=True, text=True, timeout=60, check=False)

    assert child.returncode == 0, child.stderr
    said = json.loads(child.stdout.splitlines()[-1])
    assert "disk full" in said["error"]
    assert said["stored"] == said["image"] > 5
    assert said["full"] == [False, True, False]
    assert said["end"] == said["stored"] + 1


def test_an_error_of_the_disk_ends_the_process_and_loses_nothing(tmp_path: Path) -> None:
    """A real write error (the file may not grow): the process ends at once, what it acknowledged is there for the next one."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "400000"], capture_output=True, text=True, timeout=60, check=False
    )

    assert child.returncode == EXIT_CODE_UNKNOWN_OUTCOME, child.stderr
    assert "database writer stopped: COMMIT: disk I/O error" in child.stderr
    acknowledged = len(child.stdout.split())
    assert acknowledged > 10
    assert rows_of(tmp_path / "finagent.db", "job_queue") >= acknowledged


async def test_neighbours_share_a_transaction_or_a_savepoint_until_one_of_them_is_refused(open_queue: OpenQueue) -> None:
    queue = await open_queue()
    begun: list[str] = []

    def trace(driver: Driver) -> Done:
        assert isinstance(driver, sqlite3.Connection)
        driver.set_trace_callback(lambda sql: begun.append(sql.split()[0]) if sql.startswith(("SAVEPOINT", "BEGIN")) else None)
        return Done(None, wrote=False)

    def positions(name: str) -> list[asyncio.Future[list[Job]]]:
        return [queue.submit(a_position(f"{name}-{number}")) for number in range(50)]

    await queue._writer.submit(trace)
    await asyncio.gather(*positions("first"))
    assert begun == ["BEGIN"]

    begun.clear()
    await asyncio.gather(*positions("beside a claim"), queue.claim(datetime(2008, 10, 6, tzinfo=UTC), 1))
    assert begun == ["BEGIN", "SAVEPOINT", "SAVEPOINT"]

    begun.clear()
    answers = await asyncio.gather(*positions("more"), queue.submit(a_position("first-7")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [list] * 50 + [InvariantViolated]
    assert begun == ["BEGIN", "BEGIN"] + ["SAVEPOINT"] * 51

    begun.clear()
    with pytest.raises(InvariantViolated, match="refused by the database"):
        await queue.submit(a_position("first-7"))
    assert begun == ["BEGIN"]


async def test_an_error_that_nothing_foresaw_ends_the_process_and_nobody_waits_for_ever(open_queue: OpenQueue) -> None:
    """F-09: such as no memory while the log is copied back."""

    def broken(label: str) -> None:
        if label == "checkpoint.before":
            raise MemoryError("nothing left")

    reasons: list[str] = []
    queue = await open_queue(failpoints=broken, abort=reasons.append)

    await asyncio.wait_for(queue.close(), 10)

    assert reasons == ["MemoryError: nothing left"]


async def test_a_slow_store_keeps_nobody_from_anything_else(database: Path, policy: WriterPolicy, clock: VirtualClock) -> None:
    """F-22: while each commit takes as long as it takes, the loop turns, and what was submitted meanwhile shares the next one."""
    commits, held = threading.Semaphore(0), threading.Semaphore(0)

    class SlowConnection(SqliteConnection):
        def commit(self) -> None:
            commits.release()
            assert held.acquire(timeout=20)
            super().commit()

    reads = SqliteReads(database)
    bounds = DurableQueuePolicy(1000, 10, 5, 1000, 30, 500, 2000)
    queue = SqlJobQueue(
        lambda: SlowConnection(database, policy), reads=reads, clock=clock, policy=bounds,
        operations=HandOperations(bounds, EventChains("", ""), "", carries_market_clock=False),
        group_operations_max=500, failpoints=lambda label: None, abort=lambda reason: None,
    )  # fmt: skip
    sizes: list[int] = []
    queue.on_group.append(lambda size, seconds: sizes.append(size))
    recovered = queue.recover()
    assert await asyncio.to_thread(commits.acquire, timeout=20)
    first = queue.submit(a_position("first"))
    turns = 0
    for _ in range(1000):
        await asyncio.sleep(0)
        turns += 1
        if turns % 100 == 0:
            queue.submit(a_position(f"{turns}"))
    assert not recovered.done()
    assert not first.done()

    held.release(10)
    await first
    await queue.close()

    assert (turns, sizes) == (1000, [1, 11])
    assert rows_of(database, "position") == 11
    reads.close()
