"""What the queue keeps in memory beside its table."""

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any


@dataclass(slots=True)
class QueueMemory:
    """Counters that follow the table; touched by the writer's thread alone, put back with a transaction that is undone.

    `running` rows of this epoch, `solo` when the only one of them is in quarantine, `quarantined` rows that wait or run there;
    `next_id` and `end_id` bound the block of job ids reserved in the store; `market_at` is the instant in `market_clock`. Where
    other processes share the store, `elsewhere` holds the services that one of them takes.
    """

    epoch: int = 0
    running: int = 0
    solo: bool = False
    quarantined: int = 0
    next_id: int = 0
    end_id: int = 0
    last_event_id: int = 0
    market_at: str = ""
    elsewhere: frozenset[str] = frozenset()

    def save(self) -> tuple[Any, ...]:
        """Everything, as one value."""
        return _everything(self)

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Back to a saved value."""
        for name, value in zip(_NAMES, saved, strict=True):
            setattr(self, name, value)


_NAMES = tuple(field.name for field in fields(QueueMemory))
_everything = attrgetter(*_NAMES)
