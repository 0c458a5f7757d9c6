"""Who moves market time on, and what whoever does so is given."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from finagent.domain.errors import InvariantViolated
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.sessions import Session
from finagent.domain.trading_state import MarketClock
from finagent.services.execution.activity import BrokerActivity
from finagent.services.market_data.feed import Feed
from finagent.services.progress import ProgressObserver
from finagent.services.queue.processor import JobProcessor


class Driver(Protocol):
    """Drives the agent from where its store stands through the sessions that are left."""

    async def run(self) -> bool:
        """To the end of the last session; False when stopped before it."""
        ...


class SettableClock(Clock, Protocol):
    """The clock of a replay: time is what the driver says."""

    def set(self, now: datetime) -> None:
        """Move to `now`; raises InvariantViolated for a step back."""
        ...


@dataclass(frozen=True, slots=True)
class DriverParts:
    """What every driver works with. `minutes` are those after the open at which a session may be scanned; `tidy_up` is done
    before a session, `reconcile_start` after the first fetch of the broker's activity."""

    feed: Feed
    activity: BrokerActivity
    processor: JobProcessor
    queue: JobQueue
    reads: Reads
    sessions: tuple[Session, ...]
    minutes: Callable[[Session], tuple[int, ...]]
    observer: ProgressObserver
    stopping: Callable[[], bool]
    tidy_up: Callable[[], Awaitable[None]]
    reconcile_start: Callable[[], Awaitable[None]]

    def market_clock(self) -> datetime:
        """The instant that the store stands at."""
        clock = self.reads.get(MarketClock, 1)
        if clock is None:
            raise InvariantViolated("the database holds no market clock")
        return clock.at
