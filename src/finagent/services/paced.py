"""Market time that runs on while nobody looks: the driver of a replay at a pace.

Decisions may differ from lock-step; the invariants hold, and what was found too late after an outage is EXPIRED.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from finagent.domain.errors import InvariantViolated
from finagent.domain.ports.order_execution import SimulatedVenue
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.sessions import Session
from finagent.domain.trading_state import MarketClock
from finagent.services.execution.activity import BrokerActivity
from finagent.services.lock_step import SettableClock
from finagent.services.market_data.feed import Feed
from finagent.services.progress import ProgressObserver
from finagent.services.queue.processor import JobProcessor


class MarketTime(Protocol):
    """Wall time mapped to the minutes of the sessions, nights left out."""

    async def next_instant(self, after: datetime) -> datetime | None:
        """Wait for the next bar-time later than `after`; the latest one if several have passed; None when the window is over."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait for wall seconds."""
        ...


@dataclass(frozen=True, slots=True)
class PacedDriver:
    """Moves the market as wall time says; jobs run as they come, the table is polled for what memory does not hold."""

    clock: SettableClock
    time: MarketTime
    venue: SimulatedVenue
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
    poll_seconds: float

    async def run(self) -> bool:
        """To the end of the window; False when stopped before it."""
        async with asyncio.TaskGroup() as tasks:
            pollers: list[asyncio.Task[None]] = []
            ended = await self._follow_market(lambda: pollers.append(tasks.create_task(self._poll(), name="queue poller")))
            for poller in pollers:
                poller.cancel()
        return ended

    async def _poll(self) -> None:
        while True:
            await self.processor.poll()
            await self.time.pause(self.poll_seconds)

    async def _follow_market(self, reconciled: Callable[[], None]) -> bool:
        """`reconciled` is called once: nothing that an earlier process left runs before the broker and we agree."""
        total = sum(session.minutes for session in self.sessions)
        start: datetime = self._market_clock()
        at: datetime | None = start
        # Not the market clock: any commit of an instant carries it, also one before that instant's activity was fetched.
        fetched = [session.opens_at for session in self.sessions if session.opens_at <= start][-1]
        while at is not None and not self.stopping():
            session = [s for s in self.sessions if s.opens_at <= at][-1]
            if at == session.opens_at:
                await self.tidy_up()
            await self.feed.open_session(session, self.minutes(session))
            self.clock.set(at)  # from here to the broker's frame nothing may wait: a request of this time must not overtake it
            self.feed.advance()
            await self.venue.advance(at)
            await self.activity.apply(fetched, at)
            fetched = at
            await self.reconcile_start()
            if at == start:
                reconciled()
            await self.processor.poll()
            self.observer.instant(at, session, sum(s.minute_of(at) for s in self.sessions if s.opens_at <= at), total)
            at = await self.time.next_instant(at)
        await self.processor.quiet.wait()
        while at is None and not self.stopping() and self._work_is_left():
            await self.processor.poll()
            await self.processor.quiet.wait()
        return at is None

    def _work_is_left(self) -> bool:
        due = self.queue.next_due()
        return due is not None and due <= self.clock.now()

    def _market_clock(self) -> datetime:
        clock = self.reads.get(MarketClock, 1)
        if clock is None:
            raise InvariantViolated("the database holds no market clock")
        return clock.at
