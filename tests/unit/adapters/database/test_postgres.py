"""The store on PostgreSQL: statements in its form, and what its errors mean."""

import os
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.contract.stores import POSTGRES, blocking, postgres_database, run_statements

from finagent.adapters.database.connection import Fate
from finagent.adapters.database.migrate import upgrade_postgres
from finagent.adapters.database.opening import open_reads
from finagent.adapters.database.postgres import PostgresConnection, PostgresReads, fate_of, numbered, over_arrays
from finagent.adapters.database.tables import metadata
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.portfolio import Position
from finagent.services.failpoints import unarmed
from finagent.telemetry.redaction import without_password

UPDATE = "UPDATE job_queue SET status = 'DONE', finished_at = ?\nWHERE id = ? AND status = 'RUNNING'"
INSERT = "INSERT INTO meta (key, value) VALUES (?, 1 + ?)\nON CONFLICT (key) DO NOTHING"


def test_values_are_numbered_from_the_left() -> None:
    assert numbered("SELECT ? WHERE a = ?") == "SELECT $1 WHERE a = $2"
    assert numbered("SELECT 1") == "SELECT 1"


def test_a_statement_for_many_rows_reads_them_from_arrays() -> None:
    assert over_arrays(UPDATE, ("text", "int8")) == (
        "UPDATE job_queue SET status = 'DONE', finished_at = value.v1 FROM unnest($1::text[], $2::int8[]) AS value (v1, v2) "
        "WHERE id = value.v2 AND status = 'RUNNING'"
    )
    assert over_arrays(INSERT, ("text", "int8")) == (
        "INSERT INTO meta (key, value) SELECT value.v1, 1 + value.v2 FROM unnest($1::text[], $2::int8[]) AS value (v1, v2)\n"
        "ON CONFLICT (key) DO NOTHING"
    )


def test_many_rows_are_counted_together(postgres_url: str) -> None:
    connection = PostgresConnection(postgres_url, POSTGRES, 30)
    connection.begin()

    assert connection.driver.executemany(INSERT, [("x", 1), ("y", 2), ("x", 3)]).rowcount == 2
    assert connection.driver.execute("SELECT key, value FROM meta WHERE key IN ('x', 'y') ORDER BY key").fetchall() == [
        ("x", 2),
        ("y", 3),
    ]
    assert connection.driver.executemany(INSERT, []).rowcount == 0
    connection.rollback()
    connection.close(sound=True)


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (asyncpg.UniqueViolationError("key"), Fate.OPERATION),
        (asyncpg.DataError("value"), Fate.OPERATION),
        (asyncpg.DiskFullError("room"), Fate.FULL),
        (asyncpg.DeadlockDetectedError("lock"), Fate.BUSY),
        (asyncpg.LockNotAvailableError("lock"), Fate.BUSY),
        (asyncpg.AdminShutdownError("restart"), Fate.LOST),
        (asyncpg.ConnectionDoesNotExistError("gone"), Fate.LOST),
        (asyncpg.ReadOnlySQLTransactionError("replica"), Fate.LOST),
        (asyncpg.InterfaceError("closed"), Fate.LOST),
        (ConnectionResetError(), Fate.LOST),
        (TimeoutError(), Fate.LOST),
        (asyncpg.DataCorruptedError("page"), Fate.UNKNOWN),
        (ValueError("ours"), None),
    ],
)
def test_what_an_error_means(error: Exception, fate: Fate | None) -> None:
    assert fate_of(error) is fate


def test_a_commit_that_failed_may_have_happened(postgres_url: str) -> None:
    connection = PostgresConnection(postgres_url, POSTGRES, 30)

    assert connection.fate(TimeoutError()) is Fate.LOST
    assert connection.fate(TimeoutError(), committing=True) is Fate.UNKNOWN
    assert connection.fate(ValueError(), committing=True) is None
    connection.probe()
    connection.close(sound=True)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://postgres@127.0.0.1:1/nowhere", "cannot reach the database postgresql://postgres@127.0.0.1:1/nowhere"),
        ("postgresql://me:hunter22@127.0.0.1:1/nowhere", r"postgresql://me:\*\*\*@127"),
    ],
)
def test_a_server_that_is_not_there_is_named_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(Unavailable, match=complaint) as raised:
        PostgresReads(url, POSTGRES)
    assert "hunter22" not in str(raised.value)
    with pytest.raises(Unavailable, match=r"cannot write the database"):
        upgrade_postgres(url, unarmed)


def test_a_database_that_is_not_there_or_empty_is_named(postgres_url: str) -> None:
    server, _, _ = postgres_url.rpartition("/")
    with pytest.raises(Unavailable, match="does not exist"):
        open_reads(f"{server}/finagent_nowhere", 10, 10)
    empty = open_reads(f"{server}/template1", 10, 10)
    with pytest.raises(Unavailable, match="nothing has run in the database"):
        empty.find(Position)
    empty.close()


def test_no_tables_change_under_somebody_who_takes_part(postgres_url: str) -> None:
    lives = "INSERT INTO lease VALUES ('{}', 7, 'agent-7', '{}', extract(epoch FROM clock_timestamp()) + {})"
    with postgres_database(postgres_url, f"finagent_older_{os.getpid()}", "0004") as url:
        for name, services, seconds in (("leader", "", 60), ("life-7", "scoring", 60)):
            blocking(run_statements(url, "DELETE FROM lease", lives.format(name, services, seconds)))
            with pytest.raises(BadInput, match=r"from version 0004 to \d+, and agent-7 of another build works on them"):
                upgrade_postgres(url, unarmed)
        blocking(run_statements(url, "DELETE FROM lease", lives.format("life-7", "", 60), lives.format("leader", "", -1)))
        upgrade_postgres(url, unarmed)
        blocking(run_statements(url, "UPDATE lease SET until = 9e12, build_hash = 'any'"))
        upgrade_postgres(url, unarmed)


def test_a_reader_cannot_write(postgres_url: str) -> None:
    reads = PostgresReads(postgres_url, POSTGRES)

    with pytest.raises(Transient, match="read-only transaction"):
        reads.rows("DELETE FROM meta")
    reads.close()


def test_alembic_finds_nothing_to_add_on_the_server(postgres_url: str) -> None:
    upgrade_postgres(postgres_url, unarmed)

    async def compared() -> Any:
        engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.connect() as connection:
            found = await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))
            sorted_by_bytes = (await connection.execute(text("SELECT 'B' < 'a' COLLATE \"C\""))).scalar()
        await engine.dispose()
        return found, sorted_by_bytes

    assert blocking(compared()) == ([], True)


def test_a_store_of_a_newer_program_is_refused_on_the_server(postgres_url: str) -> None:
    connection = PostgresConnection(postgres_url, POSTGRES, 30)
    (head,) = connection.driver.execute("SELECT version_num FROM alembic_version").fetchall()[0]
    connection.driver.execute("UPDATE alembic_version SET version_num = '9999'")
    try:
        with pytest.raises(BadInput, match="9999"):
            upgrade_postgres(postgres_url, unarmed)
    finally:
        connection.driver.execute("UPDATE alembic_version SET version_num = ?", (head,))
        connection.close(sound=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("redis://:secret@host", "redis://:***@host"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
