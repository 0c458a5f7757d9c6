"""Rows of one table in memory: by primary key, under the table's constraints, in the orders in which they are asked for."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

from sqlalchemy import Table, UniqueConstraint

from finagent.adapters.database import tables
from finagent.adapters.job_queue.rows import CRASHES_OF_QUARANTINE
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import DISCARDED, JobStatus

Key = tuple[Any, ...]
Row = dict[str, Any]
Entry = tuple[Any, ...]
Allowed = dict[str, frozenset[Any]]
READY, RUNNING = JobStatus.READY.name, JobStatus.RUNNING.name
SCHEDULED, DONE = JobStatus.SCHEDULED.name, JobStatus.DONE.name


class TableRows:
    """The rows of one table by primary key, with an index on every column that `find` is meant to be asked for.

    Stricter than SQLite in two ways: a column takes values of its own type only, and a key never changes.
    """

    def __init__(self, table: Table, indexed: frozenset[str] | None = None) -> None:
        self.name = table.name
        self.key = tuple(column.name for column in table.primary_key.columns)
        self.rows: dict[Key, Row] = {}
        self.parents = [(column.name, each.column.table.name) for column in table.columns for each in column.foreign_keys]
        self._columns = [(column.name, column.type.python_type, bool(column.nullable)) for column in table.columns]
        rules = [rule for rule in table.constraints if isinstance(rule, UniqueConstraint)]
        self._unique: dict[tuple[str, ...], set[Key]] = {tuple(rule.columns.keys()): set() for rule in rules}
        if indexed is None:
            leading = {index.columns.keys()[0] for index in table.indexes}
            indexed = frozenset({self.key[0], *leading, *(name for name, _ in self.parents)})
        self._index: dict[str, dict[Any, set[Key]]] = {name: {} for name in indexed}

    def key_of(self, row: Row) -> Key:
        """The primary key that the row carries."""
        return tuple([row[name] for name in self.key])

    def complete(self, row: Row) -> Row:
        """The row with every column of the table, None where it says nothing."""
        return {name: row.get(name) for name, _, _ in self._columns}

    def require_types(self, row: Row) -> None:
        """Each column holds a value of its type, or None where that is allowed."""
        for name, kind, nullable in self._columns:
            value = row[name]
            if value is None and not nullable:
                raise refused(f"NOT NULL constraint failed: {self.name}.{name}")
            if value is not None and not isinstance(value, kind):
                raise refused(f"{self.name}.{name} cannot hold {value!r}")

    def require_unique(self, row: Row) -> None:
        """No other row has the key or a unique value of this one."""
        for names, taken in self._unique.items():
            if tuple([row[name] for name in names]) in taken:
                raise refused(f"UNIQUE constraint failed: {', '.join(f'{self.name}.{name}' for name in names)}")
        if self.key_of(row) in self.rows:
            raise refused(f"UNIQUE constraint failed: {', '.join(f'{self.name}.{name}' for name in self.key)}")

    def swap(self, key: Key, row: Row | None) -> Row | None:
        """Put the row in place of the one under the key (None: there is none); returns what was there."""
        before = self.rows.pop(key, None)
        if before is not None:
            self._leave(key, before)
        if row is not None:
            self.rows[key] = row
            self._enter(key, row)
        return before

    def matching(self, allowed: Allowed) -> list[Key]:
        """Keys, in order, of the rows whose columns hold one of the allowed values each."""
        indexed = [[self._index[name].get(value, set()) for value in allowed[name]] for name in allowed if name in self._index]
        narrowest = min(indexed, key=lambda found: sum(map(len, found)), default=None)
        keys = self.rows if narrowest is None else chain.from_iterable(narrowest)
        conditions = allowed.items()
        return sorted(key for key in keys if all(self.rows[key][name] in values for name, values in conditions))

    def _enter(self, key: Key, row: Row) -> None:
        for names, taken in self._unique.items():
            taken.add(tuple([row[name] for name in names]))
        for name, keys_of in self._index.items():
            keys_of.setdefault(row[name], set()).add(key)

    def _leave(self, key: Key, row: Row) -> None:
        for names, taken in self._unique.items():
            taken.discard(tuple([row[name] for name in names]))
        for name, keys_of in self._index.items():
            keys = keys_of[row[name]]
            keys.discard(key)
            if not keys:
                del keys_of[row[name]]


class Ordering:
    """Rows that meet a condition, sorted by what `entry` makes of a row (None: the row is not one of them)."""

    def __init__(self, entry: Callable[[Row], Entry | None]) -> None:
        self._entry = entry
        self.entries: list[Entry] = []

    def enter(self, row: Row) -> None:
        """The row is there now."""
        entry = self._entry(row)
        if entry is not None:
            insort(self.entries, entry)

    def leave(self, row: Row) -> None:
        """The row is there no more."""
        entry = self._entry(row)
        if entry is not None:
            del self.entries[bisect_left(self.entries, entry)]


class JobRows(TableRows):
    """The rows of `job_queue` with the orders in which the queue asks for them; each entry ends with the job's id."""

    def __init__(self) -> None:
        super().__init__(tables.job_queue, frozenset({"id", "dedup_key"}))
        self.counts: Counter[str] = Counter()
        self.ready = Ordering(lambda row: place(row) if row["status"] == READY else None)
        self.scheduled = Ordering(lambda row: (row["run_at"], row["id"]) if row["status"] == SCHEDULED else None)
        self.waiting = Ordering(lambda row: (row["run_at"], row["id"]) if row["status"] in (READY, SCHEDULED) else None)
        self.running = Ordering(lambda row: place(row) if row["status"] == RUNNING else None)
        self.done = Ordering(lambda row: (row["finished_at"], row["id"]) if row["status"] == DONE else None)
        self.discarded = Ordering(lambda row: (row["finished_at"], row["id"]) if given_up(row) else None)
        self.suspects_waiting = Ordering(lambda row: place(row) if suspect(row) and row["status"] in (READY, SCHEDULED) else None)
        self.suspects_running = Ordering(lambda row: place(row) if suspect(row) and row["status"] == RUNNING else None)
        self._orderings = [each for each in vars(self).values() if isinstance(each, Ordering)]

    def _enter(self, key: Key, row: Row) -> None:
        super()._enter(key, row)
        self.counts[row["status"]] += 1
        for ordering in self._orderings:
            ordering.enter(row)

    def _leave(self, key: Key, row: Row) -> None:
        super()._leave(key, row)
        self.counts[row["status"]] -= 1
        for ordering in self._orderings:
            ordering.leave(row)


class EventRows(TableRows):
    """The rows of `decision_event` with the present head of each chain."""

    def __init__(self) -> None:
        super().__init__(tables.decision_event, frozenset({"decision_id", "trace_id"}))
        self._chains: dict[tuple[str, str], list[Key]] = {}

    def head(self, subject_type: str, subject_id: str) -> Row | None:
        """The last event of the chain."""
        keys = self._chains.get((subject_type, subject_id))
        return self.rows[keys[-1]] if keys else None

    def _enter(self, key: Key, row: Row) -> None:
        super()._enter(key, row)
        insort(self._chains.setdefault((row["subject_type"], row["subject_id"]), []), key)

    def _leave(self, key: Key, row: Row) -> None:
        super()._leave(key, row)
        self._chains[row["subject_type"], row["subject_id"]].remove(key)


def place(row: Row) -> Entry:
    """Where a job stands in the canonical order."""
    return row["priority"], row["run_at"], row["id"]


def suspect(row: Row) -> bool:
    """Whether the job is in quarantine when it waits or runs."""
    return bool(row["crashes"] >= CRASHES_OF_QUARANTINE)


def given_up(row: Row) -> bool:
    """Whether a person has discarded the job."""
    return row["status"] == JobStatus.DEAD.name and str(row["last_error"]).startswith(DISCARDED)


def refused(reason: str) -> InvariantViolated:
    """The error of a change that breaks a constraint."""
    return InvariantViolated(f"refused by the database: {reason}")
