"""What a kill left behind is read from the dead agent's tables."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from finagent.adapters.database.tables import VIEWS, metadata
from finagent.drill.observation import NOTHING, Aftermath, observe


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "finagent.db"
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection, connection:
        for view in VIEWS.values():
            connection.execute(view)
        for name in ("a", "b", "c"):
            connection.execute("INSERT INTO candidate VALUES (?, 'run', 'S', '2024-03-04', 'UP', 't', 'now', '{}')", (name,))
    return path


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def intent(name: str, parent: str, outcome: str) -> tuple[str, str]:
    return (
        "INSERT INTO order_intent VALUES"
        f" ('{name}', 'a', {parent}, 'ENTRY', 0, '{name}', 'BUY', 1, 'MARKET', NULL, NULL, 'SIMPLE', 'DAY', 0, '', NULL, 'now')",
        "INSERT INTO broker_order VALUES"
        f" ('{name}', 'a', 'S', {parent}, 'ENTRY', NULL, NULL, 'PENDING', 0, NULL, {outcome}, '', 0, NULL, 'now')",
    )


def test_no_database_and_no_tables_hold_nothing(tmp_path: Path) -> None:
    assert observe(tmp_path / "absent.db") == NOTHING
    sqlite3.connect(tmp_path / "empty.db").close()
    assert observe(tmp_path / "empty.db") == NOTHING


def test_candidates_without_an_outcome_are_at_risk(database: Path) -> None:
    execute(database, "INSERT INTO decision_outcome VALUES ('b', 'NO_TRADE', 'r', 'now')")

    assert observe(database) == Aftermath(2, 0)


def test_an_intent_is_in_flight_until_its_outcome_is_recorded(database: Path) -> None:
    execute(database, *intent("fa-1", "NULL", "NULL"))

    assert observe(database).orders_in_flight == 1
    execute(database, "UPDATE broker_order SET outcome = 'UNRESOLVED'")
    assert observe(database).orders_in_flight == 0


def test_the_next_start_goes_on_at_the_market_clock(database: Path) -> None:
    assert observe(database).market_at == ""
    execute(database, "INSERT INTO market_clock VALUES (1, 'source', '2008-07-03T14:00:00.000000Z', 'RUNNING')")

    assert observe(database).market_at == "2008-07-03T14:00:00.000000Z"


def test_a_leg_is_not_in_flight_by_itself(database: Path) -> None:
    first, leg = intent("fa-1", "NULL", "'CONFIRMED'"), intent("fa-2", "'fa-1'", "NULL")
    execute(database, *first, *(statement.replace("'ENTRY'", "'STOP'") for statement in leg))

    assert observe(database).orders_in_flight == 0
