"""What a handler wants to be true: committed whole, together with the acknowledgement of its job, or not at all."""

from dataclasses import dataclass, field
from typing import Any

from finagent.domain.decision import DecisionEvent
from finagent.domain.jobs import Next


@dataclass(frozen=True, slots=True)
class Set:
    """Change the row of `record_type` with primary key `key`: compare `expect`, then set `values` (column -> value).

    No row with that key and those expected values: Conflict, and the handler runs again on fresh reads.
    """

    record_type: type[Any]
    key: tuple[Any, ...]
    values: dict[str, Any]
    expect: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effect:
    """`records` are frozen domain records to insert, or Sets; applied in order, then `events`, then `next`.

    `bulk` marks one piece of a load that nobody waits for: everything else is committed before it.
    """

    records: tuple[Any, ...] = ()
    next: tuple[Next, ...] = ()
    events: tuple[DecisionEvent, ...] = ()
    bulk: bool = False

    def __add__(self, other: "Effect") -> "Effect":
        both = self.bulk and other.bulk
        return Effect(self.records + other.records, self.next + other.next, self.events + other.events, both)
