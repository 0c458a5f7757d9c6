"""Effects as statements: encoded on the caller's thread when they are submitted, applied inside the writer's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from finagent.adapters.database.connection import Driver
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.registry import stored
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict
from finagent.domain.orders import BrokerOrder, Fill, OrderIntent
from finagent.domain.trading_state import TradingStateRecord

_URGENT = frozenset({OrderIntent, BrokerOrder, Fill, TradingStateRecord})
OF_EVERY_EFFECT = frozenset({"effect_commit"})


@dataclass(frozen=True, slots=True)
class Step:
    """One statement with the values of each time it runs; `change` is there for a compare and set."""

    sql: str
    values: list[tuple[Any, ...]]
    change: Set | None = None


@dataclass(slots=True)
class EncodedEffect:
    """Records and events of an effect as the database takes them; `labels` name what kinds of records it holds, and an `urgent`
    one is about orders or the trading state."""

    effect: Effect
    steps: list[Step]
    events: list[dict[str, Any]]
    labels: frozenset[str]
    urgent: bool = False


def apply(effects: Sequence[EncodedEffect], driver: Driver, chains: EventChains, last_event_id: int) -> int:
    """Write the records of all effects in order, then their events; returns the last event id.

    Neighbours of one statement go together, so that each row is met in the order in which it would be met alone. Raises Conflict
    where an expectation is not met.
    """
    for sql, steps in groupby((step for effect in effects for step in effect.steps), key=attrgetter("sql")):
        inserts: list[tuple[Any, ...]] = []
        for step in steps:
            change = step.change
            if change is None:
                inserts += step.values
            elif driver.execute(sql, step.values[0]).rowcount != 1:
                raise Conflict(f"{change.record_type.__name__} {change.key!r} is not as expected: {change.expect!r}")
        if inserts:
            driver.executemany(sql, inserts)
    return chains.append(driver, [event for effect in effects for event in effect.events], last_event_id)


def encode(effect: Effect, chains: EventChains) -> EncodedEffect:
    """The effect's statements; raises BadInput for a record that no table keeps or a value that no column takes."""
    if not (effect.records or effect.events):
        return EncodedEffect(effect, [], [], OF_EVERY_EFFECT)
    steps: list[Step] = []
    labels, urgent = set(OF_EVERY_EFFECT), False
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
        urgent = urgent or (record.record_type if isinstance(record, Set) else type(record)) in _URGENT
        label = _label(record)
        if label:
            labels.add(label)
    return EncodedEffect(effect, steps, [chains.encode(event) for event in effect.events], frozenset(labels), urgent)


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
