"""Effects as columns: encoded when they are submitted, applied inside a transaction of the records in memory."""

from dataclasses import dataclass, field
from typing import Any

from finagent.adapters.database.events import GENESIS, EventChains, event_hash
from finagent.adapters.database.registry import stored
from finagent.adapters.job_queue.in_memory_records import InMemoryRecords
from finagent.adapters.job_queue.in_memory_rows import Key, Row
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict


@dataclass(frozen=True, slots=True)
class Step:
    """A record to insert under its columns, or for a compare and set the key, the columns to change and the ones expected."""

    table: str
    row: Row
    key: Key = ()
    expect: Row = field(default_factory=dict)
    change: Set | None = None


@dataclass(frozen=True, slots=True)
class EncodedRecords:
    """Records and events of an effect as columns."""

    effect: Effect
    steps: list[Step]
    events: list[Row]

    def apply(self, records: InMemoryRecords) -> None:
        """Write records and events in order; raises Conflict where an expectation is not met."""
        for step in self.steps:
            if step.change is None:
                records.insert(records.table(step.table), step.row)
            else:
                _compare_and_set(records, step, step.change)
        for columns in self.events:
            _append(records, columns)


def encode_records(effect: Effect, chains: EventChains) -> EncodedRecords:
    """The columns of an effect; raises BadInput for a record that no table keeps or a value that no column takes."""
    steps = [_changed(record) if isinstance(record, Set) else _inserted(record) for record in effect.records]
    return EncodedRecords(effect, steps, [chains.encode(event) for event in effect.events])


def _inserted(record: Any) -> Step:
    kept = stored(type(record))
    _, values = kept.insert(record)
    return Step(kept.table.name, dict(zip(kept.codec.columns, values, strict=True)))


def _changed(change: Set) -> Step:
    kept = stored(change.record_type)
    kept.change(change)  # refuses what is no change of such a record
    encode = kept.codec.encode_column
    row = {name: encode(name, value) for name, value in change.values.items()}
    key = tuple([encode(name, value) for name, value in zip(kept.key, change.key, strict=True)])
    return Step(kept.table.name, row, key, {name: encode(name, value) for name, value in change.expect.items()}, change)


def _compare_and_set(records: InMemoryRecords, step: Step, change: Set) -> None:
    table = records.table(step.table)
    row = table.rows.get(step.key)
    if row is None or any(row[name] != value for name, value in step.expect.items()):
        raise Conflict(f"{change.record_type.__name__} {change.key!r} is not as expected: {change.expect!r}")
    records.update(table, step.key, step.row)


def _append(records: InMemoryRecords, columns: Row) -> None:
    """Insert the event behind the present head of its chain; events are never deleted, so their count is the last id."""
    events = records.events
    head = events.head(columns["subject_type"], columns["subject_id"])
    number, previous_hash = (head["number"], head["hash"]) if head else (0, GENESIS)
    row = {**columns, "event_id": len(events.rows) + 1, "number": number + 1, "previous_hash": previous_hash}
    records.insert(events, row | {"hash": event_hash(row)})
