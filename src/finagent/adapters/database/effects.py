"""Effects as statements: encoded on the caller's thread when they are submitted, applied inside the writer's transaction."""

from dataclasses import dataclass
from typing import Any

from finagent.adapters.database.connection import Driver
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.registry import stored
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict
from finagent.domain.orders import BrokerOrder, Fill, OrderIntent


@dataclass(frozen=True, slots=True)
class Step:
    """One statement with the values of each time it runs; `change` is there for a compare and set."""

    sql: str
    values: list[tuple[Any, ...]]
    change: Set | None = None


@dataclass(frozen=True, slots=True)
class EncodedEffect:
    """Records and events of an effect as the database takes them; `labels` name what kinds of records it holds."""

    effect: Effect
    steps: list[Step]
    events: list[dict[str, Any]]
    labels: frozenset[str]

    def apply(self, driver: Driver, chains: EventChains, last_event_id: int) -> int:
        """Write records and events in order; returns the last event id. Raises Conflict where an expectation is not met."""
        for step in self.steps:
            if step.change is None:
                driver.executemany(step.sql, step.values)
            elif driver.execute(step.sql, step.values[0]).rowcount != 1:
                change = step.change
                raise Conflict(f"{change.record_type.__name__} {change.key!r} is not as expected: {change.expect!r}")
        for columns in self.events:
            last_event_id += 1
            chains.append(driver, columns, last_event_id)
        return last_event_id


def encode(effect: Effect, chains: EventChains) -> EncodedEffect:
    """The effect's statements; raises BadInput for a record that no table keeps or a value that no column takes."""
    steps: list[Step] = []
    labels: set[str] = set()
    for record in effect.records:
        if isinstance(record, Set):
            sql, values = stored(record.record_type).change(record)
            steps.append(Step(sql, [values], record))
        else:
            sql, values = stored(type(record)).insert(record)
            if steps and steps[-1].sql == sql:
                steps[-1].values.append(values)
            else:
                steps.append(Step(sql, [values]))
        label = _label(record)
        if label:
            labels.add(label)
    return EncodedEffect(effect, steps, [chains.encode(event) for event in effect.events], frozenset(labels))


def _label(record: Any) -> str | None:
    """The failpoint that the commit of such a record passes."""
    match record:
        case OrderIntent():
            return "intent_commit"
        case Fill():
            return "fill_apply"
        case Set(record_type=kind, values=values) if kind is BrokerOrder and values.get("outcome") is not None:
            return "outcome_commit"
        case BrokerOrder(outcome=outcome) if outcome is not None:
            return "outcome_commit"
    return None
