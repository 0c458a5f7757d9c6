"""The chains of events, recomputed from their description with nothing of ours."""

import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.portfolio import flat

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)


def rows(database: Path) -> list[dict[str, object]]:
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute("SELECT * FROM decision_event ORDER BY event_id")]
    connection.close()
    return found


def event(subject: str, kind: str, **body: object) -> DecisionEvent:
    return DecisionEvent(SubjectType.DECISION, subject, kind, START, "trace", subject, body)


async def test_every_chain_can_be_computed_again(open_queue: OpenQueue, database: Path) -> None:
    queue = await open_queue()
    await queue.submit(Effect(events=(event("a", "found", gap=0.1, symbol="ÄÖ"), event("b", "found"), event("a", "scored"))))
    await queue.submit(Effect(events=(event("a", "planned", price=1.5),)))

    heads: dict[object, tuple[int, str]] = {}
    for row in rows(database):
        number, previous = heads.get(row["subject_id"], (0, "0" * 64))
        claimed = row.pop("hash")
        computed = hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        assert (row["number"], row["previous_hash"], claimed) == (number + 1, previous, computed)
        assert (row["build_hash"], row["settings_hash"]) == ("build", "settings")
        heads[row["subject_id"]] = (number + 1, computed)

    assert {subject: number for subject, (number, _) in heads.items()} == {"a": 3, "b": 1}


async def test_event_ids_have_no_gaps_over_refused_effects_and_restarts(open_queue: OpenQueue, database: Path) -> None:
    queue = await open_queue()
    taken = Effect(records=(flat("IBM", START),))
    await queue.submit(taken + Effect(events=(event("a", "found"),)))
    with pytest.raises(InvariantViolated):
        await queue.submit(taken + Effect(events=(event("a", "twice"),)))
    await queue.submit(Effect(events=(event("a", "scored"),)))
    await queue.close()
    again = await open_queue()
    await again.submit(Effect(events=(event("a", "planned"),)))

    assert [(row["event_id"], row["number"], row["kind"]) for row in rows(database)] == [
        (1, 1, "found"),
        (2, 2, "scored"),
        (3, 3, "planned"),
    ]
