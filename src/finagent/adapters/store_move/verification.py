"""Whether two stores are equal, and whether one holds together: every row, every reference, every chain of events."""
# ruff: noqa: S608 - the statements are put together from the tables' own names

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import Table

from finagent.adapters.database import tables
from finagent.adapters.database.verification import Part, verify
from finagent.adapters.store_move.ends import End
from finagent.adapters.store_move.plan import Level, float_places, key_columns, quoted

FLOAT_TOLERANCE = 1e-4  # relative: 0.01 %, the promise; both databases keep all 64 bits, so nothing should come near it
FOUND_MAX = 100  # differences that are told; more say nothing new

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is wrong: where, at which key, and what."""

    table: str
    key: str
    message: str


@dataclass(slots=True)
class Compared:
    """The rows of one table in the copy. `sha256` is over their canonical text in the order of their key, floats left out: two
    copies of one store have the same."""

    rows: int = 0
    sha256: str = ""


def compare(
    table: Table, source: End, target: End, batch: int, found: list[Difference], progress: Callable[[int], None]
) -> Compared:
    """All rows of both ends side by side, in the order of their key."""
    level, floats, digest, compared = Level(table), float_places(table), hashlib.sha256(), Compared()
    left, right = (chain.from_iterable(pages(level, end, batch)) for end in (source, target))
    for ours, copy in _pairs(left, right, level.key_of):
        if copy is None:
            _tell(found, Difference(table.name, _text(level.key_of(ours)), "is missing in the copy"))
            continue
        digest.update(_canonical(copy, floats))
        compared.rows += 1
        if compared.rows % batch == 0:
            progress(compared.rows)
        if ours is None:
            _tell(found, Difference(table.name, _text(level.key_of(copy)), "is in the copy alone"))
        elif ours != copy:
            for message in _unlike(table, ours, copy, floats):
                _tell(found, Difference(table.name, _text(level.key_of(copy)), message))
    compared.sha256 = digest.hexdigest()
    return compared


def pages(level: Level, end: End, batch: int, after: Row | None = None) -> Iterator[list[Row]]:
    """The rows of a level behind a key, in its order, a batch at a time."""
    while rows := end.rows(*(level.first(batch) if after is None else level.after(after, batch))):
        yield rows
        after = level.key_of(rows[-1])


def broken_references(moved: Sequence[Table], end: End, found: list[Difference]) -> None:
    """Rows that point to a row that is not there: the first of each reference."""
    for table in moved:
        for key in sorted(table.foreign_keys, key=lambda each: each.parent.name):
            names = ", ".join(f"child.{name}" for name in key_columns(table))
            column, of, named = quoted(key.parent.name), key.column.table.name, quoted(key.column.name)
            rows = end.rows(
                f"SELECT {names} FROM {quoted(table.name)} AS child LEFT JOIN {quoted(of)} AS parent "
                f"ON parent.{named} = child.{column} WHERE child.{column} IS NOT NULL AND parent.{named} IS NULL LIMIT 1"
            )
            found += [
                Difference(table.name, _text(row), f"{key.parent.name} points to a row of {of} that is not there") for row in rows
            ]


def broken_story(end: End, found: list[Difference]) -> int:
    """Recompute every chain of events and every seal over them; answers how many events there are."""
    story = verify(end, None, shared=True)
    for fault in story.faults:
        table = tables.audit_seal if fault.part is Part.SEAL else tables.decision_event
        _tell(found, Difference(table.name, str(fault.event_id or ""), fault.message))
    return story.events


def unfit_values(moved: Sequence[Table], end: End, found: list[Difference]) -> None:
    """Values of a SQLite file that no other database takes: a NUL in a text, a value that is not of its column's kind; the first
    of each table."""
    for table in moved:
        cases = " ".join(f"WHEN {_unfit(column)} THEN '{column.name}'" for column in table.columns)
        rows = end.rows(
            f"SELECT * FROM (SELECT {', '.join(key_columns(table))}, CASE {cases} END AS unfit FROM {quoted(table.name)}) "
            "WHERE unfit IS NOT NULL LIMIT 1"
        )
        found += [
            Difference(
                table.name, _text(key), f"{column} holds a NUL character or a value of another kind, which PostgreSQL cannot"
            )
            for *key, column in rows
        ]


def _pairs(left: Iterator[Row], right: Iterator[Row], key: Callable[[Row], Row]) -> Iterator[tuple[Any, Any]]:
    """Rows of one key together; None where only one side has it."""
    ours, copy = next(left, None), next(right, None)
    while ours is not None or copy is not None:
        together = ours == copy or (ours is not None and copy is not None and key(ours) == key(copy))
        here = together or copy is None or (ours is not None and key(ours) < key(copy))
        there = together or not here
        yield ours if here else None, copy if there else None
        ours, copy = next(left, None) if here else ours, next(right, None) if there else copy


def _unfit(column: Any) -> str:
    name = quoted(column.name)
    kind = {"TEXT": "text", "INTEGER": "integer", "FLOAT": "real"}[column.type.__class__.__name__.upper()]
    of_kind = f"typeof({name}) NOT IN ('{kind}', 'null')"
    return f"{of_kind} OR instr({name}, char(0)) > 0" if kind == "text" else of_kind


def _unlike(table: Table, ours: Row, copy: Row, floats: frozenset[int]) -> Iterator[str]:
    for place, column in enumerate(table.columns):
        there, here = ours[place], copy[place]
        near = place in floats and None not in (there, here) and math.isclose(there, here, rel_tol=FLOAT_TOLERANCE)
        if there != here and not near:
            yield f"{column.name} differs: {_short(there)} there, {_short(here)} in the copy"


def _canonical(row: Row, floats: frozenset[int]) -> bytes:
    return orjson.dumps([value for place, value in enumerate(row) if place not in floats] if floats else row) + b"\n"


def _tell(found: list[Difference], difference: Difference) -> None:
    if len(found) < FOUND_MAX:
        found.append(difference)


def _text(key: Sequence[Any]) -> str:
    return "/".join(str(value) for value in key)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
