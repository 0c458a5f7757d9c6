"""How each part of the program opens the store: one read-write connection, and read-only ones for everybody else."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from finagent.domain.errors import Unavailable

READERS_MAX = 2  # the API and the report; everything on the trading path reads through `SqliteReads`
READ_BUSY_SECONDS = 1.0  # readers wait in WAL mode only while the file is being recovered


@dataclass(frozen=True, slots=True)
class WriterPolicy:
    """Bounds of the one writer.

    `busy_timeout_seconds`: how long BEGIN waits for a foreign writer (a shell on the file). `wal_autocheckpoint_pages`: size of
    the log at which a commit copies it back. `group_operations_max`: operations of one commit. `database_bytes_max`: the file
    grows no further (0: as far as the disk goes). `probe_bytes`: what must fit again before a full disk is believed to be gone.
    """

    busy_timeout_seconds: float
    wal_autocheckpoint_pages: int
    group_operations_max: int
    database_bytes_max: int
    probe_bytes: int


def writer_engine(path: Path, policy: WriterPolicy) -> Engine:
    """The engine of the one connection that writes: WAL, synchronous=FULL, foreign keys, BEGIN IMMEDIATE."""
    # isolation_level None keeps the driver from opening transactions of its own; a deferred one that reads before it writes
    # fails with "database is locked" without waiting.
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"isolation_level": None})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout={int(policy.busy_timeout_seconds * 1000)}")
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":  # where it cannot be, SQLite says so and raises nothing
            raise sqlite3.OperationalError(f"no write-ahead log can be made beside it, the journal mode stays {mode!r}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={policy.wal_autocheckpoint_pages}")
        if policy.database_bytes_max:
            page = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={max(1, policy.database_bytes_max // page)}")

    @event.listens_for(engine, "begin")
    def begin_immediate(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for reading commands; raises Unavailable when there is no store to read."""
    if not path.is_file():
        raise Unavailable(f"no database at {path}: nothing has run in this folder yet")
    connection = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=READ_BUSY_SECONDS,
            cached_statements=512,
        )
        _only_read(connection, None)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise Unavailable(f"cannot read the database {path}: {error}") from error
    return connection


def reading_engine(path: Path) -> AsyncEngine:
    """A small asynchronous engine for the API, reports and commands: read-only, a few connections, short transactions."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path.absolute().as_uri()}?mode=ro&uri=true",
        pool_size=READERS_MAX,
        max_overflow=0,
        connect_args={"timeout": READ_BUSY_SECONDS},
    )
    event.listen(engine.sync_engine, "connect", _only_read)
    return engine


def _only_read(connection: Any, _record: Any) -> None:
    """A reader neither writes nor checkpoints: two connections that do can lose commits in SQLite before 3.51.3."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.execute("PRAGMA wal_autocheckpoint=0")
    cursor.close()
