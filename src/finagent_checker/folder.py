"""The files of a replay, opened so that nothing can be changed."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

DATABASE = "finagent.db"
LEDGER = "broker-simulator.db"
ANCHOR = "anchor"

Row = dict[str, Any]


class Missing(Exception):
    """There is no such folder or file: nothing to judge."""


class Malformed(Exception):
    """What is there cannot be read as what it should be: a damaged file, an unknown table, a value that is no number."""


@dataclass(frozen=True)
class Book:
    """One SQLite file behind a read-only connection; rows come as dictionaries."""

    connection: sqlite3.Connection
    path: Path

    def rows(self, query: str, *values: Any) -> list[Row]:
        """All rows of a query; Malformed names the file and the error."""
        try:
            cursor = self.connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.DatabaseError as error:
            raise Malformed(f"{self.path}: {error}") from error


@dataclass(frozen=True)
class Folder:
    """A replay: the agent's database and the broker's ledger."""

    path: Path
    agent: Book
    broker: Book


@contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Both files of a folder, read-only, closed at the end."""
    with open_book(path / DATABASE) as agent, open_book(path / LEDGER) as broker:
        yield Folder(path, agent, broker)


@contextmanager
def open_book(path: Path) -> Iterator[Book]:
    """One file, read-only, under one read transaction: all queries see the same state."""
    if not path.is_file():
        raise Missing(f"{path}: no such file")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield Book(connection, path)
    finally:
        connection.close()


def amount(value: Any, where: str) -> Decimal:
    """A decimal text as the exact number it names; Malformed for anything that is not a finite decimal."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Malformed(f"{where}: {value!r} is not a decimal") from None
    if not number.is_finite():
        raise Malformed(f"{where}: {value!r} is not finite")
    return number


def instant(value: Any, where: str) -> datetime:
    """A stored UTC time; Malformed names the place of one that is none."""
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise Malformed(f"{where}: {value!r} is not a time") from None
