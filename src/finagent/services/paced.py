"""Market time that runs on while nobody looks: the driver of a replay at a pace.

Decisions may differ from lock-step; the invariants hold, and what was found too late after an outage is EXPIRED.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from finagent.domain.ports.order_execution import SimulatedVenue
from finagent.services.driver import DriverParts, SettableClock


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

    parts: DriverParts
    clock: SettableClock
    venue: SimulatedVenue
    time: MarketTime
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
            await self.parts.processor.poll()
            await self.time.pause(self.poll_seconds)

    async def _follow_market(self, reconciled: Callable[[], None]) -> bool:
        """`reconciled` is called once: nothing that an earlier process left runs before the broker and we agree."""
        total = sum(session.minutes for session in self.parts.sessions)
        start: datetime = self.parts.market_clock()
        at: datetime | None = start
        # Not the market clock: any commit of an instant carries it, also one before that instant's activity was fetched.
        fetched = [session.opens_at for session in self.parts.sessions if session.opens_at <= start][-1]
        while at is not None and not self.parts.stopping():
            session = [s for s in self.parts.sessions if s.opens_at <= at][-1]
            if at == session.opens_at:
                await self.parts.tidy_up()
            await self.parts.feed.open_session(session, self.parts.minutes(session))
            self.clock.set(at)  # from here to the broker's frame nothing may wait: a request of this time must not overtake it
            self.parts.feed.advance()
            await self.venue.advance(at)
            await self.parts.activity.apply(fetched, at)
            fetched = at
            await self.parts.reconcile_start()
            if at == start:
                reconciled()
            await self.parts.processor.poll()
            self.parts.observer.instant(at, session, sum(s.minute_of(at) for s in self.parts.sessions if s.opens_at <= at), total)
            at = await self.time.next_instant(at)
        await self.parts.processor.quiet.wait()
        while at is None and not self.parts.stopping() and self._work_is_left():
            await self.parts.processor.poll()
            await self.parts.processor.quiet.wait()
        return at is None

    def _work_is_left(self) -> bool:
        due = self.parts.queue.next_due()
        return due is not None and due <= self.clock.now()
