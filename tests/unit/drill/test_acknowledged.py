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
    """A database to which five effects were acknowledged, and the lines about them (1 to 10); a sixth was refused (11)."""
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

    assert promises.lines == 11
    assert [promises.told(lines) for lines in range(12)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [promises.lost(database, lines) for lines in range(12)] == [[]] * 12


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

    found = promises.lost(changed(database, statement), 11)

    assert found
    assert found[0].startswith(f"acknowledgement {first_lost} of 5")


def test_an_event_that_is_missing_is_named(told: tuple[Path, Promises]) -> None:
    database, promises = told
    with closing(sqlite3.connect(database)) as connection:
        triggers = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    drops = [f"DROP TRIGGER {name}" for name in triggers]

    found = promises.lost(changed(database, *drops, "DELETE FROM decision_event WHERE kind = 'told-3'"), 11)

    assert found == ["acknowledgement 5 of 5: an event of ACCOUNT account"]


@pytest.mark.parametrize(("quantity", "lost"), [(1, []), (2, []), (3, []), (7, ["position ('A',) quantity"])])
def test_a_value_that_an_effect_on_its_way_gave_is_no_loss(told: tuple[Path, Promises], quantity: int, lost: list[str]) -> None:
    """It was stored when the power failed, and nobody was told: then (2) or never, for its process was killed (3)."""
    database, promises = told

    found = promises.lost(changed(database, f"UPDATE position SET quantity = {quantity}"), 3)

    assert [line.partition(": ")[2] for line in found] == lost


def test_what_was_on_its_way_in_a_killed_process_may_be_there_for_ever(tmp_path: Path, told: tuple[Path, Promises]) -> None:
    database, _ = told
    lines = (tmp_path / "acknowledged").read_bytes().splitlines()
    killed = Promises([line for line in lines if b'"told": 4' not in line])

    assert killed.lost(database, killed.lines) == []
    assert killed.lost(changed(database, "UPDATE position SET quantity = 2"), killed.lines) == []
    assert killed.lost(changed(database, "UPDATE position SET quantity = 7"), killed.lines) != []


def test_the_last_change_of_one_effect_counts(tmp_path: Path, told: tuple[Path, Promises]) -> None:
    database, _ = told
    twice = [["position", {"symbol": "A"}, {"quantity": 2}], ["position", {"symbol": "A"}, {"quantity": 3}]]
    lines = [json.dumps(line).encode() for line in ({"effect": 1, "rows": twice, "events": []}, {"told": 1, "jobs": []})]

    assert Promises(lines).lost(database, 2) == []
    assert Promises(lines).lost(changed(database, "UPDATE position SET quantity = 2"), 2) != []


def test_lines_are_written_in_the_order_of_what_happens(told: tuple[Path, Promises], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (tmp_path / "acknowledged").read_text().splitlines()]

    assert [line.get("told", line.get("effect")) for line in lines] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert lines[0]["events"] == [["ACCOUNT", "account"]]
    assert len(lines[3]["jobs"]) == 1
    assert lines[4]["rows"] == [
        ["position", {"symbol": "A"}, {"quantity": 2}],
        ["job_queue", {"id": lines[3]["jobs"][0]}, {"status": "DONE"}],
    ]
