"""What callers asked to be stored and were told is stored: written down outside the database as it happens, and looked for later.

Two kinds of lines. An effect on its way: `{"effect": number, "rows": [[table, {key column: value}, {column: value}], ...],
"events": [[subject type, subject id], ...]}`; the job that it finishes is such a row (DONE). An effect whose caller is told:
`{"told": number, "jobs": [ids of the jobs that came back]}`. Numbers start anew with each process.
"""

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finagent.adapters.database.registry import stored
from finagent.domain.effect import Effect, Set
from finagent.domain.jobs import Job
from finagent.domain.ports.store import JobQueue

Cell = tuple[str, tuple[Any, ...], str]  # table, key values, column ("": the row itself)


class AcknowledgementLog:
    """The job queue, with every effect written down before it goes on its way, and again before its caller goes on."""

    def __init__(self, queue: JobQueue, path: Path) -> None:
        self._queue = queue
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._submitted = 0

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        """As the queue's own."""
        self._submitted += 1
        number = self._submitted
        rows = [_row(record) for record in effect.records]
        if job is not None:
            rows.append(["job_queue", {"id": job.id}, {"status": "DONE"}])
        events = [[event.subject_type.name, event.subject_id] for event in effect.events]
        self._write({"effect": number, "rows": rows, "events": events})
        future = asyncio.ensure_future(self._queue.submit(effect, job))
        future.add_done_callback(lambda ended: self._told(number, ended))
        return future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def _told(self, number: int, ended: "asyncio.Future[list[Job]]") -> None:
        if not ended.cancelled() and ended.exception() is None:
            self._write({"told": number, "jobs": [job.id for job in ended.result()]})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")  # one call, so that a recording has it in its place


def _row(record: Any) -> list[Any]:
    """A record or a change of one, as table, key and the columns that it sets."""
    kind = stored(record.record_type if isinstance(record, Set) else type(record))
    encode = kind.codec.encode_column
    if isinstance(record, Set):
        key = {name: encode(name, value) for name, value in zip(kind.key, record.key, strict=True)}
        return [kind.table.name, key, {name: encode(name, value) for name, value in record.values.items()}]
    values = dict(zip(kind.codec.columns, kind.codec.encode(record), strict=True))
    return [kind.table.name, {name: values.pop(name) for name in kind.key}, values]


@dataclass(slots=True)
class _Promise:
    """One effect: the cells that it sets and the chains that it makes longer; `told_by`: the lines after which it is owed."""

    cells: list[tuple[Cell, Any]]
    chains: list[tuple[str, ...]]
    told_by: int | None = None


class Promises:
    """The lines of an `AcknowledgementLog`, and what a database owes to a caller who was told the first so many of them."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = len(lines)
        self._effects: list[_Promise] = []
        self._keys: dict[str, tuple[str, ...]] = {"job_queue": ("id",)}
        on_the_way: dict[int, _Promise] = {}
        for number, line in enumerate(map(json.loads, lines), 1):
            if "effect" in line:
                promise = _Promise(list(_cells(line["rows"])), [tuple(chain) for chain in line["events"]])
                on_the_way[line["effect"]] = promise
                self._effects.append(promise)
                self._keys |= {table: tuple(key) for table, key, _ in line["rows"]}
            else:
                promise = on_the_way.pop(line["told"])
                promise.told_by = number
                promise.cells += [(("job_queue", (job,), ""), None) for job in line["jobs"]]

    def told(self, lines: int) -> int:
        """How many effects were acknowledged by the first so many lines."""
        return len(self._told(lines))

    def lost(self, database: Path, lines: int) -> list[str]:
        """Which of them the database does not hold; each is named by one thing that is missing.

        A column holds what the last of them gave it, or what an effect did that was on its way: stored, and nobody told.
        """
        owed = self._told(lines)
        untold: dict[Cell, list[Any]] = {}
        for promise in self._effects:
            if promise.told_by is None or promise.told_by > lines:
                for cell, value in promise.cells:
                    untold.setdefault(cell, []).append(value)
        missing: dict[int, str] = {}
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            held = {table: _held(connection, table, key) for table, key in self._keys.items()}
            events = Counter(connection.execute("SELECT subject_type, subject_id FROM decision_event"))
        decided: set[Cell] = set()
        for number in reversed(range(len(owed))):
            for cell, value in reversed(owed[number].cells):
                table, key, column = cell
                row = held[table].get(key)
                overwritten = not column or cell in decided
                if row is None or not (overwritten or row[column] in (value, *untold.get(cell, ()))):
                    missing.setdefault(number, f"{table} {key} {column}".rstrip())
                decided.add(cell)
        for number, promise in enumerate(owed):
            for subject in promise.chains:
                events[subject] -= 1
                if events[subject] < 0:
                    missing.setdefault(number, f"an event of {' '.join(subject)}")
        return [f"acknowledgement {number + 1} of {len(owed)}: {missing[number]}" for number in sorted(missing)]

    def _told(self, lines: int) -> list[_Promise]:
        """In the order in which their callers were told, which is that of their commits."""
        owed = [promise for promise in self._effects if promise.told_by is not None and promise.told_by <= lines]
        return sorted(owed, key=lambda promise: promise.told_by or 0)


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
