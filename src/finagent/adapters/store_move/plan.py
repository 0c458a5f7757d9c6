"""What is copied, and in which order: a row comes after the rows that it points to.

A table that points to itself is copied in levels: first the rows that point to none, then those that point to these, and so on.
Within a level (every other table is one level) rows go by their key, so the highest key at the target says how far the copy came.
"""
# ruff: noqa: S608 - the statements are put together from the tables' own names

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, MetaData, Table

OF_THE_STORE_ITSELF = frozenset({"lease", "store_move"})  # who is alive on it, and whether it is the one to use


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a table."""

    table: Table
    condition: str = "1 = 1"

    def first(self, batch: int) -> tuple[str, list[Any]]:
        """The statement for the first rows by their key, and its values."""
        order = ", ".join(key_columns(self.table))
        return f"SELECT {_columns(self.table)} FROM {quoted(self.table.name)} WHERE {self.condition} ORDER BY {order} LIMIT ?", [
            batch
        ]

    def after(self, key: Sequence[Any], batch: int) -> tuple[str, list[Any]]:
        """The statement for the first rows behind a key."""
        names = ", ".join(key_columns(self.table))
        behind = f"({names}) > ({', '.join('?' for _ in key)})"
        return (
            f"SELECT {_columns(self.table)} FROM {quoted(self.table.name)} WHERE {self.condition} AND {behind} "
            f"ORDER BY {names} LIMIT ?"
        ), [*key, batch]

    def highest(self) -> str:
        """The statement for the last key of the level."""
        names = key_columns(self.table)
        order = ", ".join(f"{name} DESC" for name in names)
        return f"SELECT {', '.join(names)} FROM {quoted(self.table.name)} WHERE {self.condition} ORDER BY {order} LIMIT 1"

    def key_of(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """The key of a row of all columns."""
        return tuple(row[place] for place in key_places(self.table))


def moved_tables(metadata: MetaData) -> list[Table]:
    """Every table that belongs to the story, each behind those that it points to."""
    return [table for table in metadata.sorted_tables if table.name not in OF_THE_STORE_ITSELF]


def levels(table: Table) -> Iterator[Level]:
    """The levels of a table, without end where it points to itself: the first one without rows is past the last."""
    upward = [key.parent.name for key in table.foreign_keys if key.column.table is table]
    if not upward:
        yield Level(table)
        return
    (column,) = upward
    (key,) = key_columns(table)
    condition = f"{quoted(column)} IS NULL"
    while True:
        yield Level(table, condition)
        condition = f"{quoted(column)} IN (SELECT {key} FROM {quoted(table.name)} WHERE {condition})"


def key_columns(table: Table) -> list[str]:
    """The names of the primary key, quoted."""
    return [quoted(column.name) for column in table.primary_key.columns]


def key_places(table: Table) -> list[int]:
    """Where the primary key stands in a row."""
    names = [column.name for column in table.columns]
    return [names.index(column.name) for column in table.primary_key.columns]


def float_places(table: Table) -> frozenset[int]:
    """Where a row holds floats."""
    return frozenset(place for place, column in enumerate(table.columns) if isinstance(column.type, Float))


def quoted(name: str) -> str:
    """A name that may be a word of SQL."""
    return f'"{name}"'


def _columns(table: Table) -> str:
    return ", ".join(quoted(column.name) for column in table.columns)
