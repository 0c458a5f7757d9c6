"""What callers were told is written down, and a database that does not hold it is told from one that does."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from finagent.bootstrap import build_application
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict
from finagent.domain.jobs import Next
from finagent.domain.portfolio import Position
from finagent.drill.acknowledged import AcknowledgementLog, Promises
from finagent.settings import load_settings

AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)


def event(number: int) -> DecisionEvent:
    return DecisionEvent(SubjectType.ACCOUNT, "account", f"told-{number}", AT)


@pytest.fixture
async def told(tmp_path: Path) -> tuple[Path, Promises]:
    """A database to which five effects were acknowledged, and what was written down about them; a sixth was refused."""
    place = tmp_path / "storage"
    day = ("market_data.first_session=2008-10-01", "market_data.last_session=2008-10-01")
    log = tmp_path / "acknowledged"
    async with build_application(
        load_settings(overrides=(f"storage.directory={place}", "http.enabled=false", *day))
    ) as application:
        queue = AcknowledgementLog(application.queue, log)
        await queue.submit(Effect((Position("A", 1, Decimal(1), Decimal(0), AT),), events=(event(1),)))
        (job,) = await queue.submit(Effect(next=(Next("score", "key", {}),)))
        await queue.submit(Effect((Set(Position, ("A",), {"quantity": 2}),), events=(event(2),)), job)
        await queue.submit(Effect((Set(Position, ("A",), {"quantity": 3}),)))
        await queue.submit(Effect(events=(event(3),)))
        with pytest.raises(Conflict):
            await queue.submit(Effect((Set(Position, ("B",), {"quantity": 3}),)))
    return place / "finagent.db", Promises(log.read_bytes().splitlines())


def changed(database: Path, *statements: str) -> Path:
    copy = database.with_name("changed.db")
    shutil.copy(database, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return copy


def test_what_was_told_is_there(told: tuple[Path, Promises]) -> None:
    database, promises = told

    assert len(promises) == 5
    assert [promises.lost(database, number) for number in range(6)] == [[]] * 6


@pytest.mark.parametrize(
    ("statement", "first_lost"),
    [
        ("DELETE FROM position", 1),
        ("DELETE FROM job_queue WHERE type = 'score'", 2),
        ("UPDATE job_queue SET status = 'READY' WHERE type = 'score'", 3),
        ("UPDATE position SET quantity = 2", 4),
        ("UPDATE position SET cash_flow = '9'", 1),
    ],
)
def test_what_is_missing_is_named(told: tuple[Path, Promises], statement: str, first_lost: int) -> None:
    database, promises = told

    found = promises.lost(changed(database, statement), 5)

    assert found
    assert found[0].startswith(f"acknowledgement {first_lost} of 5")


def test_an_event_that_is_missing_is_named(told: tuple[Path, Promises]) -> None:
    database, promises = told
    with closing(sqlite3.connect(database)) as connection:
        triggers = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    drops = [f"DROP TRIGGER {name}" for name in triggers]

    found = promises.lost(changed(database, *drops, "DELETE FROM decision_event WHERE kind = 'told-3'"), 5)

    assert found == ["acknowledgement 5 of 5: an event of ACCOUNT account"]


def test_a_value_that_a_later_effect_gave_is_no_loss(told: tuple[Path, Promises]) -> None:
    """It was under way when the power failed: stored, and nobody was told."""
    database, promises = told

    assert promises.lost(changed(database, "UPDATE position SET quantity = 2"), 2) == []
    assert promises.lost(changed(database, "UPDATE position SET quantity = 7"), 2) != []


def test_a_line_is_one_effect(told: tuple[Path, Promises], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (tmp_path / "acknowledged").read_text().splitlines()]

    assert lines[0]["events"] == [["ACCOUNT", "account"]]
    assert lines[2]["rows"][0] == ["position", {"symbol": "A"}, {"quantity": 2}]
    assert lines[2]["rows"][1][2] == {"status": "DONE"}
