"""Committed state by key, read synchronously on the event loop."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from finagent.adapters.database.engine import open_read_only
from finagent.adapters.database.registry import stored
from finagent.domain.errors import BadInput, Unavailable

R = TypeVar("R")
OLDER = "the store has the tables of another release; an agent that starts, or a command that writes, brings it up to date"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR})


class StoreReads(ABC):
    """`Reads` by the statements of the registry; an adapter says how a statement is run.

    `once_more`: after a pause, whether a store that is away may be asked again; set by a process that waits for its store.
    """

    once_more: Callable[[], bool] = staticmethod(lambda: False)

    @abstractmethod
    def rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement, every value a `?`; for other adapters over the same store. Raises Unavailable for a store that
        cannot be read, Transient for one that is away."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the object is of no use afterwards."""

    def get(self, record_type: type[R], *key: Any) -> R | None:
        """The record with that primary key."""
        kept = stored(record_type)
        values = [kept.codec.encode_column(name, value) for name, value in zip(kept.key, key, strict=True)]
        rows = self.rows(kept.get_sql, values)
        return kept.codec.decode(rows[0]) if rows else None

    def find(self, record_type: type[R], **where: Any) -> list[R]:
        """All records whose columns equal the given values (a list or tuple value means "one of"), in primary key order."""
        if _nothing(where):
            return []
        kept = stored(record_type)
        shape, values = kept.where(where)
        decode = kept.codec.decode
        return [decode(row) for row in self.rows(kept.find_sql(shape), values)]

    def count(self, record_type: type[Any], **where: Any) -> int:
        """How many records `find` would return."""
        if _nothing(where):
            return 0
        kept = stored(record_type)
        shape, values = kept.where(where)
        return int(self.rows(kept.count_sql(shape), values)[0][0])


def _nothing(where: dict[str, Any]) -> bool:
    """Whether "one of" none is asked for, which no row is."""
    return any(isinstance(value, list | tuple) and not value for value in where.values())


class SqliteReads(StoreReads):
    """One read-only connection, used on the loop's thread alone; sees every commit as soon as its future resolves.

    Every result is read to its end at once: a cursor left open would hold a snapshot and keep the log from being copied back.
    """

    def __init__(self, path: Path) -> None:
        self._connection = open_read_only(path)

    def rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """See `StoreReads`."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            if str(error).startswith("no such"):
                raise BadInput(f"{OLDER}: {error}") from error
            if int(getattr(error, "sqlite_errorcode", 0)) & 0xFF not in _DAMAGED:
                raise
            raise Unavailable(f"the database cannot be read: {error}; see the runbook on a damaged database") from error

    def close(self) -> None:
        """See `StoreReads`."""
        self._connection.close()
