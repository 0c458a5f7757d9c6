"""Seals, recomputed from their description with nothing of ours."""

import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from finagent.adapters.database.seals import seal_next
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)


def event(number: int) -> DecisionEvent:
    return DecisionEvent(SubjectType.DECISION, f"d{number % 2}", "step", START, "trace", None, {"number": number})


def rows(database: Path, table: str, order: str) -> list[dict[str, object]]:
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]
    connection.close()
    return found


async def sealed(queue: SqliteJobQueue, events_max: int, *, whole: bool = False) -> list[int]:
    """Seal until nothing is left to seal; how many events each seal took."""
    taken = []
    while size := await queue.maintain(partial(seal_next, START, events_max, whole=whole)):
        taken.append(size)
    return taken


async def test_seals_cover_every_event_once_and_can_be_computed_again(open_queue: OpenQueue, database: Path) -> None:
    queue = await open_queue()
    await queue.submit(Effect(events=tuple(event(number) for number in range(7))))

    assert await sealed(queue, 3) == [3, 3, 1]
    assert await sealed(queue, 3) == []

    hashes = [row["hash"] for row in rows(database, "decision_event", "event_id")]
    previous, last = "0" * 64, 0
    for number, row in enumerate(rows(database, "audit_seal", "number"), 1):
        covered = hashes[last : int(str(row["last_event"]))]
        assert (row["number"], row["first_event"], row["previous_hash"]) == (number, last + 1, previous)
        assert row["root_hash"] == hashlib.sha256("".join(map(str, covered)).encode()).hexdigest()
        previous = hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        last = int(str(row["last_event"]))
    assert last == 7


async def test_a_whole_seal_waits_for_all_its_events(open_queue: OpenQueue) -> None:
    queue = await open_queue()
    await queue.submit(Effect(events=tuple(event(number) for number in range(5))))

    assert await sealed(queue, 3, whole=True) == [3]
    await queue.submit(Effect(events=(event(5),)))
    assert await sealed(queue, 3, whole=True) == [3]


async def test_a_new_process_goes_on_behind_the_last_seal(open_queue: OpenQueue, database: Path) -> None:
    """A process that dies before a seal leaves its events to the next one: no seal twice, none left out."""
    first = await open_queue()
    await first.submit(Effect(events=(event(0), event(1))))
    await sealed(first, 10)
    await first.submit(Effect(events=(event(2),)))
    await first.close()
    second = await open_queue()

    assert await sealed(second, 10) == [1]
    found = rows(database, "audit_seal", "number")
    assert [(row["number"], row["first_event"], row["last_event"]) for row in found] == [(1, 1, 2), (2, 3, 3)]
    assert all(a["root_hash"] != b["root_hash"] for a, b in pairwise(found))


async def test_sealing_passes_its_failpoints(open_queue: OpenQueue) -> None:
    passed: list[str] = []
    queue = await open_queue(failpoints=passed.append)
    await queue.submit(Effect(events=(event(0),)))
    await sealed(queue, 10)

    assert passed[-2:] == ["seal.before", "seal.after"]
