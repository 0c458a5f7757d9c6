"""Market time as data: the driver of a replay. One instant after the other, each repeated if the process died inside it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from finagent.domain.errors import InvariantViolated
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import SimulatedVenue
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.sessions import Session
from finagent.domain.trading_state import MarketClock
from finagent.services.execution.activity import BrokerActivity
from finagent.services.failpoints import Failpoints, around
from finagent.services.market_data.feed import Feed
from finagent.services.progress import ProgressObserver
from finagent.services.queue.processor import JobProcessor


class SettableClock(Clock, Protocol):
    """The clock of a replay: time is what the driver says."""

    def set(self, now: datetime) -> None:
        """Move to `now`; raises InvariantViolated for a step back."""
        ...


@dataclass(frozen=True, slots=True)
class LockStepDriver:
    """t: the broker moves to t, what it did since is fetched, everything due runs to quiet.

    Then t is the earliest of the next bar and the next due job. The wall clock decides nothing. `visit` is what a person does at
    an instant, before its work.
    """

    clock: SettableClock
    venue: SimulatedVenue
    feed: Feed
    activity: BrokerActivity
    processor: JobProcessor
    queue: JobQueue
    reads: Reads
    sessions: tuple[Session, ...]
    minutes: Callable[[Session], tuple[int, ...]]
    failpoints: Failpoints
    observer: ProgressObserver
    stopping: Callable[[], bool]
    tidy_up: Callable[[], Awaitable[None]]
    reconcile_start: Callable[[], Awaitable[None]]
    visit: Callable[[datetime], Awaitable[None]]

    async def run(self) -> bool:
        """From the stored market clock to the end of the window; False when stopped before. The instant of the market clock is
        repeated: nobody can know which of its effects was the last."""
        at = self._market_clock()
        done, total = self._instants_before(at), sum(session.minutes for session in self.sessions)
        for session in self._sessions_from(at):
            await self._open(session, at)
            while not self.stopping():
                await self._instant(at)
                if self.stopping():
                    return False
                if session.opens_at < at <= session.closes_at:
                    done += 1
                self.observer.instant(at, session, min(done, total), total)
                following = self._following(at, session)
                if following is None:
                    break
                at = following
            at = max(at, self._next_open(session) or at)
        return True

    async def _open(self, session: Session, at: datetime) -> None:
        with around(self.failpoints, "session_open"):
            self.clock.set(max(at, self.clock.now()))
            with around(self.failpoints, "feed_open"):
                await self.feed.open_session(session, self.minutes(session))
            with around(self.failpoints, "tidy_up"):
                await self.tidy_up()

    async def _instant(self, at: datetime) -> None:
        since = self._market_clock()
        with around(self.failpoints, "instant"):
            self.clock.set(at)
            await self.venue.advance(at)
            self.feed.advance()
            with around(self.failpoints, "activity_apply"):
                await self.activity.apply(since, at)
            await self.reconcile_start()
            await self.visit(at)
            with around(self.failpoints, "drain"):
                await self.processor.drain_instant(at)

    def _following(self, at: datetime, session: Session) -> datetime | None:
        """The earliest of the next bar and the next due job; None when the session has nothing left to do."""
        bar = None
        if at < session.closes_at:
            bar = session.instant_of(session.minute_of(max(at, session.opens_at)) + 1)
        due = self.queue.next_due()
        if due is not None and due <= at:
            raise InvariantViolated(f"work due at {due} is left over at {at}")
        following = self._next_open(session)
        if due is not None and (following is None or due < following):
            return due if bar is None else min(bar, due)
        return bar

    def _next_open(self, session: Session) -> datetime | None:
        later = [other.opens_at for other in self.sessions if other.opens_at > session.opens_at]
        return later[0] if later else None

    def _sessions_from(self, at: datetime) -> tuple[Session, ...]:
        """The session that the instant belongs to (the last one opened by then), and all later ones."""
        opened = sum(1 for session in self.sessions if session.opens_at <= at)
        return self.sessions[max(0, opened - 1) :]

    def _instants_before(self, at: datetime) -> int:
        return sum(session.minute_of(at) if session.opens_at < at else 0 for session in self.sessions if session.opens_at < at)

    def _market_clock(self) -> datetime:
        clock = self.reads.get(MarketClock, 1)
        if clock is None:
            raise InvariantViolated("the database holds no market clock")
        return clock.at
