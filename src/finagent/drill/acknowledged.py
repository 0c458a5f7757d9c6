"""What callers were told is stored: written down outside the database the moment they are told, and looked for later.

A line is one acknowledged effect: `{"rows": [[table, {key column: value}, {column: value}], ...], "events": [[subject type,
subject id], ...]}`. The job that it finished is such a row (DONE), and so are the jobs that it published.
"""

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from finagent.adapters.database.registry import stored
from finagent.domain.effect import Effect, Set
from finagent.domain.jobs import Job
from finagent.domain.ports.store import JobQueue

Cell = tuple[str, tuple[Any, ...], str]  # table, key values, column ("": the row itself)


class AcknowledgementLog:
    """The job queue, with every acknowledged effect written down before its caller goes on: one write, one line."""

    def __init__(self, queue: JobQueue, path: Path) -> None:
        self._queue = queue
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        """As the queue's own."""
        future = asyncio.ensure_future(self._queue.submit(effect, job))
        future.add_done_callback(lambda ended: self._write_down(effect, job, ended))
        return future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def _write_down(self, effect: Effect, job: Job | None, ended: "asyncio.Future[list[Job]]") -> None:
        if ended.cancelled() or ended.exception() is not None:
            return
        rows = [_row(record) for record in effect.records]
        if job is not None:
            rows.append(["job_queue", {"id": job.id}, {"status": "DONE"}])
        rows += [["job_queue", {"id": published.id}, {}] for published in ended.result()]
        events = [[event.subject_type.name, event.subject_id] for event in effect.events]
        os.write(self._descriptor, json.dumps({"rows": rows, "events": events}).encode() + b"\n")


def _row(record: Any) -> list[Any]:
    """A record or a change of one, as table, key and the columns that it sets."""
    kind = stored(record.record_type if isinstance(record, Set) else type(record))
    encode = kind.codec.encode_column
    if isinstance(record, Set):
        key = {name: encode(name, value) for name, value in zip(kind.key, record.key, strict=True)}
        return [kind.table.name, key, {name: encode(name, value) for name, value in record.values.items()}]
    values = dict(zip(kind.codec.columns, kind.codec.encode(record), strict=True))
    return [kind.table.name, {name: values.pop(name) for name in kind.key}, values]


class Promises:
    """The lines of an `AcknowledgementLog`, and what a database owes to a caller who was told the first so many of them."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        effects = [json.loads(line) for line in lines]
        self._cells = [list(_cells(effect["rows"])) for effect in effects]
        self._chains = [[tuple(chain) for chain in effect["events"]] for effect in effects]
        self._keys = {table: tuple(key) for effect in effects for table, key, _ in effect["rows"]}

    def __len__(self) -> int:
        return len(self._cells)

    def lost(self, database: Path, told: int) -> list[str]:
        """Which of the first `told` effects the database does not hold; each is named by one thing that is missing.

        A column holds what the last of them gave it, or what a later effect did: that one may have been under way.
        """
        missing: dict[int, str] = {}
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            held = {table: _held(connection, table, key) for table, key in self._keys.items()}
            events = Counter(connection.execute("SELECT subject_type, subject_id FROM decision_event"))
        later: dict[Cell, list[Any]] = {}
        for cell, value in chain.from_iterable(self._cells[told:]):
            later.setdefault(cell, []).append(value)
        decided: set[Cell] = set()
        for number in reversed(range(told)):
            for cell, value in self._cells[number]:
                table, key, column = cell
                row = held[table].get(key)
                overwritten = not column or cell in decided
                if row is None or not (overwritten or row[column] in (value, *later.get(cell, ()))):
                    missing.setdefault(number, f"{table} {key} {column}".rstrip())
                decided.add(cell)
        for number in range(told):
            for subject in self._chains[number]:
                events[subject] -= 1
                if events[subject] < 0:
                    missing.setdefault(number, f"an event of {' '.join(subject)}")
        return [f"acknowledgement {number + 1} of {told}: {missing[number]}" for number in sorted(missing)]


def _cells(rows: list[Any]) -> Iterator[tuple[Cell, Any]]:
    for table, key, values in rows:
        yield (table, tuple(key.values()), ""), None
        for column, value in values.items():
            yield (table, tuple(key.values()), column), value


def _held(connection: sqlite3.Connection, table: str, key: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """All rows of a table by key."""
    cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - a name of our own tables
    names = [column[0] for column in cursor.description]
    rows = (dict(zip(names, row, strict=True)) for row in cursor)
    return {tuple(row[name] for name in key): row for row in rows}
