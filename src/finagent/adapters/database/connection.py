"""What the writer asks of its connection: the same few verbs of SQLite and of PostgreSQL, synchronous, on the writer's thread."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol


class Fate(Enum):
    """What an error means for the transaction in which it came up."""

    OPERATION = "OPERATION"  # one statement was refused: its operation is undone, the group goes on
    FULL = "FULL"  # no room: the whole transaction is undone, and nothing is tried before a probe fits
    BUSY = "BUSY"  # somebody else holds the lock: the whole transaction is undone
    LOST = "LOST"  # the server went away before COMMIT: the whole transaction is undone
    UNKNOWN = "UNKNOWN"  # nobody knows what is stored: the process ends and finds out by starting


class Cursor(Protocol):
    """What one statement gave."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...


class Driver(Protocol):
    """Statements in the form that both databases read; every value is a `?`."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor: ...

    def executemany(self, sql: str, values: Sequence[Sequence[Any]], /) -> Cursor:
        """The statement once for each row of values; `rowcount` is the sum."""
        ...


class StoreConnection(Protocol):
    """The one read-write connection of a writer.

    `where` names the store in messages. `driver` is there from the start; `begin` opens a transaction (and, where the connection
    was lost, the connection again). `fate` judges an error of any of them; None is an error that is not the database's.
    """

    where: str

    @property
    def driver(self) -> Driver: ...

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """End the transaction, if there is one, without a trace."""
        ...

    def fate(self, error: Exception, *, committing: bool = False) -> Fate | None: ...

    def probe(self) -> None:
        """Write a block and delete it again, each in a commit of its own; raises where it does not fit."""
        ...

    def close(self, *, sound: bool) -> None:
        """Leave the store as compact as it can be when `sound`; untouched when the outcome of a commit is unknown."""
        ...
