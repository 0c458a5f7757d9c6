"""The two stores of a move: a SQLite file or a PostgreSQL database, opened while no process uses it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import Table

from finagent.adapters.database.connection import Driver, Fate, StoreConnection
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.migrate import upgrade, upgrade_postgres
from finagent.adapters.database.move_mark import MoveMark, read_mark, write_mark
from finagent.adapters.database.opening import postgres_policy
from finagent.adapters.database.sqlite import SqliteConnection
from finagent.adapters.job_queue.shared import ALIVE
from finagent.adapters.store_move.plan import quoted
from finagent.domain.errors import BadInput, Unavailable
from finagent.services.failpoints import unarmed

if TYPE_CHECKING:
    from finagent.adapters.database.postgres import PostgresPolicy

T = TypeVar("T")
MOVE_LOCK = 716152  # of PostgreSQL's advisory locks: one move at a time
FILE_NAME = "finagent.db"  # an agent finds its file by this name in storage.directory
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class EndPolicy:
    """How a file and a server are opened."""

    writer: WriterPolicy
    connect_seconds: float
    statement_seconds: float


class End(ABC):
    """A store with this program's tables. `where` is its address for people and for the mark in the other one.

    Errors of the database are raised as Unavailable, or as BadInput where it refuses what it was told.
    """

    where: str
    takes_any_text: ClassVar[bool]
    connection: StoreConnection

    @property
    def driver(self) -> Driver:
        """Statements with a `?` for each value."""
        return self.connection.driver

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; from its start to its end no process comes alive on the store. Raises BadInput where one lives."""
        try:
            self._answer(self._begin)
            yield
            self._answer(self.connection.commit)
        except BaseException:
            self.connection.rollback()
            raise

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        return self._answer(lambda: self.driver.execute(sql, values).fetchall())

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows of all columns."""
        self._answer(lambda: self._insert(table, rows))

    def mark(self) -> MoveMark | None:
        """Why this store is not the one to use, if it is not."""
        return self._answer(lambda: read_mark(self.driver))

    def set_mark(self, mark: MoveMark | None) -> None:
        """Say so; None: it is the one to use."""
        self._answer(lambda: write_mark(self.driver, mark))

    def empty(self, tables: Sequence[Table]) -> None:
        """Delete every row of all tables that point to each other."""
        self._answer(lambda: self._empty(tables))

    @abstractmethod
    def close(self) -> None:
        """Leave it to others."""

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None: ...

    @abstractmethod
    def _empty(self, tables: Sequence[Table]) -> None: ...

    def _answer(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:
            fate = self.connection.fate(error)
            if fate is None:
                raise
            if fate is Fate.BUSY:
                raise BadInput(f"{self.where} is in use by another program, or is both ends of this move: {error}") from error
            kind = BadInput if fate is Fate.OPERATION else Unavailable
            raise kind(f"{self.where}: {error or type(error).__name__}") from error


class SqliteEnd(End):
    """A file, whose lock keeps every other process out."""

    takes_any_text = True

    def __init__(self, path: Path, policy: WriterPolicy) -> None:
        self.where = f"{_SQLITE}{path}"
        self._lock = DatabaseLock(path)
        self._lock.acquire()
        try:
            upgrade(path, policy, unarmed)
            self.connection: SqliteConnection = SqliteConnection(path, policy)
            # References are proven at the end; to look for each deleted row who points to it takes the square of their number.
            self.connection.driver.execute("PRAGMA foreign_keys=OFF")
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """See `End`."""
        self.connection.close(sound=True)
        self._lock.release()

    def _begin(self) -> None:
        self.connection.begin()

    def _insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        names = ", ".join(quoted(column.name) for column in table.columns)
        marks = ", ".join("?" for _ in table.columns)
        self.driver.executemany(f"INSERT INTO {quoted(table.name)} ({names}) VALUES ({marks})", rows)  # noqa: S608 - own names

    def _empty(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self.driver.execute(f"DELETE FROM {quoted(table.name)}")  # noqa: S608 - a table's own name


class PostgresEnd(End):
    """A database on a server. One move at a time uses it; the leases in it tell whether a process lives."""

    takes_any_text = False

    def __init__(self, url: str, policy: "PostgresPolicy") -> None:
        from finagent.adapters.database.postgres import PostgresConnection, PostgresSession  # its driver is an extra

        self.connection: PostgresConnection = PostgresConnection(url, policy, policy.statement_seconds)
        self._session: PostgresSession = self.connection.driver
        self.where = self._session.where
        try:
            self._answer(lambda: self._prepare(policy.connect_seconds))
            if self.rows("SELECT to_regclass('lease')::text")[0][0] is not None:
                self._refuse_living()  # before its tables are changed under it
            upgrade_postgres(url, unarmed)
        except BaseException:
            self.connection.close(sound=False)
            raise

    def close(self) -> None:
        """See `End`."""
        self.connection.close(sound=True)

    def _prepare(self, seconds: float) -> None:
        """A move that was killed gives its lock up when the server notices; one that goes on does not. The server's own limits
        are not for us: the source is read in one transaction, which idles while the target works."""
        self._session.command(f"SET lock_timeout = {int(seconds * 1000)}")
        self._session.command("SET idle_in_transaction_session_timeout = 0")
        self._session.command("SET statement_timeout = 0")
        self._session.execute("SELECT pg_advisory_lock(?)", (MOVE_LOCK,))

    def _begin(self) -> None:
        # A process that starts puts a lease into this table first, so it waits here until we are through.
        self._session.command("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self._session.command("LOCK TABLE lease IN SHARE MODE")
        self._refuse_living()

    def _insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        self._session.copy(table.name, [column.name for column in table.columns], rows)

    def _empty(self, tables: Sequence[Table]) -> None:
        self._session.command(f"TRUNCATE {', '.join(quoted(table.name) for table in tables)}")

    def _refuse_living(self) -> None:
        living = self._session.execute(ALIVE).fetchall()
        if living:
            worker, left = living[0]
            raise BadInput(f"{self.where} is in use by {worker}: stop it (its lease lasts another {left:.0f} s)")


def open_end(address: str, policy: EndPolicy, *, create: bool) -> End:
    """The store at `sqlite:///PATH` or `postgresql://...`; `create`: a file that is not there is made.

    Raises BadInput for another address and for a store in use, Unavailable where there is none.
    """
    if address.startswith(_SQLITE):
        path = Path(address.removeprefix(_SQLITE)).absolute()
        if path.name != FILE_NAME:
            raise BadInput(f"{address}: the file must be named {FILE_NAME}, the name by which an agent finds it in its folder")
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.is_file():
            raise Unavailable(f"no database at {path}: nothing has run in this folder yet")
        return SqliteEnd(path, policy.writer)
    if not re.match(r"postgresql://", address):
        raise BadInput(f"{address!r} is no address of a store: sqlite:///FOLDER/{FILE_NAME} or postgresql://USER@HOST/DATABASE")
    return PostgresEnd(address, postgres_policy(policy.connect_seconds, policy.statement_seconds, 1))
