"""The store's records in memory: every table as it would stand on disk, changed in transactions, read by key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from finagent.adapters.database import tables
from finagent.adapters.database.registry import StoredRecord, stored
from finagent.adapters.job_queue.in_memory_rows import Allowed, EventRows, JobRows, Key, Row, TableRows, refused

R = TypeVar("R")


class InMemoryRecords:
    """Every table of the store. What is changed inside `transaction` stays when it ends and is undone when it raises; it outlives
    the queues and reads over it, as a file outlives its processes. Used on one event loop."""

    def __init__(self) -> None:
        self.jobs, self.events = JobRows(), EventRows()
        self._tables: dict[str, TableRows] = {self.jobs.name: self.jobs, self.events.name: self.events}
        for name, table in tables.metadata.tables.items():
            self._tables.setdefault(name, TableRows(table))
        self._undo: list[tuple[TableRows, Key, Row | None]] = []

    def table(self, name: str) -> TableRows:
        """The rows of a table."""
        return self._tables[name]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the changes made inside, or none of them."""
        try:
            yield
        except BaseException:
            while self._undo:
                table, key, before = self._undo.pop()
                table.swap(key, before)
            raise
        finally:
            self._undo.clear()

    def insert(self, table: TableRows, row: Row) -> None:
        """Raises InvariantViolated for a row that breaks a constraint."""
        row = table.complete(row)
        table.require_types(row)
        table.require_unique(row)
        self._swap(table, table.key_of(row), row)

    def update(self, table: TableRows, key: Key, values: Row) -> None:
        """Change columns of the row under the key; raises InvariantViolated where that breaks a constraint."""
        row = table.rows[key] | values
        if table.key_of(row) != key:
            raise refused(f"the key {key!r} of {table.name} cannot change")
        table.require_types(row)
        self._swap(table, key, None)
        table.require_unique(row)
        self._swap(table, key, row)

    def delete(self, table: TableRows, key: Key) -> None:
        """Remove the row under the key."""
        self._swap(table, key, None)

    def number(self, name: str) -> int:
        """A counter that the store keeps for itself, 0 before its first use."""
        row = self._tables["meta"].rows.get((name,))
        return row["value"] if row else 0

    def set_number(self, name: str, value: int) -> None:
        """Change a counter."""
        self._swap(self._tables["meta"], (name,), {"key": name, "value": value})

    def _swap(self, table: TableRows, key: Key, row: Row | None) -> None:
        self._undo.append((table, key, table.swap(key, row)))
        for column, parent in table.parents if row else ():
            if row and row[column] is not None and (row[column],) not in self._tables[parent].rows:
                raise refused(f"FOREIGN KEY constraint failed: {table.name}.{column}")


class InMemoryReads:
    """`Reads` over the records: every result is a fresh object, as one read from a file would be."""

    def __init__(self, records: InMemoryRecords) -> None:
        self._records = records

    def get(self, record_type: type[R], *key: Any) -> R | None:
        """The record with that primary key."""
        kept = stored(record_type)
        values = tuple([kept.codec.encode_column(name, value) for name, value in zip(kept.key, key, strict=True)])
        row = self._records.table(kept.table.name).rows.get(values)
        return decoded(kept, row) if row else None

    def find(self, record_type: type[R], **where: Any) -> list[R]:
        """All records whose columns equal the given values (a list or tuple means "one of"), in primary key order."""
        kept = stored(record_type)
        table = self._records.table(kept.table.name)
        return [decoded(kept, table.rows[key]) for key in table.matching(_allowed(kept, where))]

    def count(self, record_type: type[Any], **where: Any) -> int:
        """How many records `find` would return."""
        kept = stored(record_type)
        return len(self._records.table(kept.table.name).matching(_allowed(kept, where)))


def decoded(kept: StoredRecord[R], row: Row) -> R:
    """The record of a row."""
    return kept.codec.decode(tuple([row[name] for name in kept.codec.columns]))


def _allowed(kept: StoredRecord[Any], where: dict[str, Any]) -> Allowed:
    """The values that each column may hold; None is equal to nothing, unless it is what was asked for."""
    encode = kept.codec.encode_column
    return {
        name: frozenset({encode(name, value) for value in wanted} - {None})
        if isinstance(wanted, list | tuple)
        else frozenset({encode(name, wanted)})
        for name, wanted in where.items()
    }
