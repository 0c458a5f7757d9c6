"""Copies made between the commits, and put in the place of a store: whole, sound, and never over something."""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.adapters.database.story import Story

from finagent.adapters.database.anchor import AnchorFile
from finagent.adapters.database.connection import StoreConnection
from finagent.adapters.database.copies import copy_unused, examine, publish, put_in_place
from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.verification import Part, verify_file
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.jobs import Job

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)


def told(number: int) -> Effect:
    body = {"number": number, "note": "x" * 500}
    return Effect(events=(DecisionEvent(SubjectType.DECISION, f"d{number % 3}", "step", START, body=body),))


async def test_what_is_committed_meanwhile_is_in_the_copy_and_waits_for_one_step(
    open_queue: OpenQueue, database: Path, tmp_path: Path
) -> None:
    """Commits that are asked for in the third of many steps are there before the fourth, and in the copy."""
    loop, handed_over = asyncio.get_running_loop(), threading.Event()
    meanwhile: list[asyncio.Future[list[Job]]] = []
    steps, committed_in = 0, set[int]()

    def passed(label: str) -> None:
        nonlocal steps
        if label == "effect_commit.after" and steps:
            committed_in.add(steps)
        if label == "backup_step.before":
            steps += 1
            if steps == 3:
                loop.call_soon_threadsafe(ask)
                handed_over.wait()

    def ask() -> None:
        meanwhile.extend(queue.submit(told(number)) for number in range(100, 110))
        loop.call_soon(handed_over.set)  # behind the turn that hands them to the thread

    queue = await open_queue(failpoints=passed)
    await asyncio.gather(*(queue.submit(told(number)) for number in range(100)))
    await queue.copy(tmp_path / "copy.db", 1)
    await asyncio.gather(*meanwhile)

    assert steps > 50
    assert committed_in == {3}
    copied = examine(tmp_path / "copy.db")
    assert (copied.soundness.faults, copied.soundness.events) == ([], 110)


async def test_a_copy_of_an_agent_that_stops_is_given_up(open_queue: OpenQueue, tmp_path: Path) -> None:
    queue = await open_queue()
    await queue.submit(told(1))
    copying = queue.copy(tmp_path / "copy.db", 1)
    await queue.close()

    with pytest.raises(Unavailable, match="the agent stops"):
        await copying


async def test_a_copy_goes_nowhere_over_a_file_or_into_no_folder(open_queue: OpenQueue, tmp_path: Path) -> None:
    queue = await open_queue()
    (tmp_path / "there").touch()
    with pytest.raises(BadInput, match="overwrites nothing"):
        await queue.copy(tmp_path / "there", 100)
    with pytest.raises(Unavailable, match="cannot be written"):
        await queue.copy(tmp_path / "nowhere" / "copy.db", 100)
    await queue.submit(told(1))


async def test_an_aside_that_fails_concerns_its_caller_alone(open_queue: OpenQueue) -> None:
    queue = await open_queue()

    def fails(_connection: StoreConnection, _let_pass: Callable[[], None]) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await queue._writer.aside(fails)
    cancelled = queue._writer.aside(lambda _connection, let_pass: let_pass())
    cancelled.cancel()
    assert await queue.submit(told(1)) == []


def test_a_store_without_an_agent_is_copied_under_its_lock(story: Story, tmp_path: Path) -> None:
    left: list[tuple[int, int]] = []
    copy_unused(story.path, tmp_path / "copy.db", 4, lambda rest, of: left.append((rest, of)))

    assert left[0][0] > left[-1][0] == 0
    assert examine(tmp_path / "copy.db").soundness.events == 60
    with DatabaseLock(story.path), pytest.raises(BadInput, match="in use"):
        copy_unused(story.path, tmp_path / "other.db", 4, lambda rest, of: None)


def test_what_is_no_copy_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 500)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE trade (id)")

    with pytest.raises(BadInput, match="not a database"):
        examine(tmp_path / "text")
    with pytest.raises(BadInput, match=r"has no table audit_seal"):
        examine(tmp_path / "other.db")


def test_a_copy_gets_its_name_only_where_nothing_has_it(tmp_path: Path) -> None:
    (tmp_path / "partial").write_text("new")
    (tmp_path / "file").write_text("old")
    with pytest.raises(BadInput, match="overwrites nothing"):
        publish(tmp_path / "partial", tmp_path / "file")
    (tmp_path / "file").unlink()
    publish(tmp_path / "partial", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"


@pytest.fixture
def copy(story: Story, tmp_path: Path) -> Path:
    """A copy of the story, which went on since."""
    copy_unused(story.path, tmp_path / "monday.db", 100, lambda rest, of: None)
    story.tell(5)
    story.anchor()
    return tmp_path / "monday.db"


def test_a_restored_store_is_the_copy_and_the_old_one_is_kept_with_its_log(story: Story, copy: Path) -> None:
    story.connection.execute("PRAGMA journal_mode=WAL").fetchall()
    story.tell(1)
    assert story.path.with_name("finagent.db-wal").exists()
    with pytest.raises(BadInput, match="--replace"):
        put_in_place(copy, story.path, replace=False)

    restored, aside = put_in_place(copy, story.path, replace=True)

    assert (restored.soundness.events, aside) == (60, story.path.parent / "runs" / "0001")
    assert not story.path.with_name("finagent.db-wal").exists()
    assert aside is not None
    assert {one.name for one in aside.iterdir()} >= {"finagent.db", "finagent.db-wal"}
    faults = verify_file(story.path, AnchorFile(story.file.path)).faults
    assert [fault.part for fault in faults] == [Part.ANCHOR]
    assert "ends at event 60, the anchor remembers 65" in faults[0].message


def test_a_copy_that_is_not_sound_stays_out(story: Story, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as spoiled, spoiled:
        spoiled.execute("UPDATE decision_event SET body = '{}' WHERE event_id = 9")
    before = story.path.read_bytes()

    restored, aside = put_in_place(copy, story.path, replace=True)

    assert (restored.soundness.first_bad_event, aside) == (9, None)
    assert story.path.read_bytes() == before
    assert not (story.path.parent / "runs").exists()


def test_a_restore_that_dies_anywhere_can_be_run_again(story: Story, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its renames: the folder has the old store, none, or the copy, and never a log of another one beside it."""
    story.connection.execute("PRAGMA journal_mode=WAL").fetchall()
    story.tell(1)
    story.connection.close()
    shutil.copytree(story.path.parent, sound := story.path.parent / "sound", ignore=shutil.ignore_patterns("sound"))
    rename, old = Path.rename, (sound / "finagent.db").read_bytes()
    for last in range(1, 10):
        shutil.copytree(sound, folder := story.path.parent / f"try-{last}")
        store, log = folder / "finagent.db", folder / "finagent.db-wal"
        log.touch()
        renames = 0

        def dying(path: Path, to: Path, last: int = last) -> Path:
            nonlocal renames
            renames += 1
            if renames == last:
                raise KeyboardInterrupt
            return rename(path, to)

        monkeypatch.setattr(Path, "rename", dying)
        try:
            put_in_place(copy, store, replace=True)
        except KeyboardInterrupt:
            assert not log.exists() or store.read_bytes() == old
            monkeypatch.setattr(Path, "rename", rename)
            put_in_place(copy, store, replace=True)
        else:
            assert last > 2
            break
        assert verify_file(store, None).events == 60
    story.connection = sqlite3.connect(story.path, isolation_level=None)
