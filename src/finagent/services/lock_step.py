"""Market time as data: the driver of a replay. One instant after the other, each repeated if the process died inside it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from finagent.domain.errors import InvariantViolated
from finagent.domain.ports.order_execution import SimulatedVenue
from finagent.domain.sessions import Session
from finagent.services.driver import DriverParts, SettableClock
from finagent.services.failpoints import Failpoints, around


@dataclass(frozen=True, slots=True)
class LockStepDriver:
    """t: the broker moves to t, what it did since is fetched, everything due runs to quiet.

    Then t is the earliest of the next bar and the next due job. The wall clock decides nothing. `visit` is what a person does at
    an instant, before its work.
    """

    parts: DriverParts
    clock: SettableClock
    venue: SimulatedVenue
    failpoints: Failpoints
    visit: Callable[[datetime], Awaitable[None]]

    async def run(self) -> bool:
        """From the stored market clock to the end of the window; False when stopped before. The instant of the market clock is
        repeated: nobody can know which of its effects was the last."""
        at = self.parts.market_clock()
        done, total = self._instants_before(at), sum(session.minutes for session in self.parts.sessions)
        for session in self._sessions_from(at):
            await self._open(session, at)
            while not self.parts.stopping():
                await self._instant(at)
                if self.parts.stopping():
                    return False
                if session.opens_at < at <= session.closes_at:
                    done += 1
                self.parts.observer.instant(at, session, min(done, total), total)
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
                await self.parts.feed.open_session(session, self.parts.minutes(session))
            with around(self.failpoints, "tidy_up"):
                await self.parts.tidy_up()

    async def _instant(self, at: datetime) -> None:
        since = self.parts.market_clock()
        with around(self.failpoints, "instant"):
            self.clock.set(at)
            await self.venue.advance(at)
            self.parts.feed.advance()
            with around(self.failpoints, "activity_apply"):
                await self.parts.activity.apply(since, at)
            await self.parts.reconcile_start()
            await self.visit(at)
            with around(self.failpoints, "drain"):
                await self.parts.processor.drain_instant(at)

    def _following(self, at: datetime, session: Session) -> datetime | None:
        """The earliest of the next bar and the next due job; None when the session has nothing left to do."""
        bar = None
        if at < session.closes_at:
            bar = session.instant_of(session.minute_of(max(at, session.opens_at)) + 1)
        due = self.parts.queue.next_due()
        if due is not None and due <= at:
            raise InvariantViolated(f"work due at {due} is left over at {at}")
        following = self._next_open(session)
        if due is not None and (following is None or due < following):
            return due if bar is None else min(bar, due)
        return bar

    def _next_open(self, session: Session) -> datetime | None:
        later = [other.opens_at for other in self.parts.sessions if other.opens_at > session.opens_at]
        return later[0] if later else None

    def _sessions_from(self, at: datetime) -> tuple[Session, ...]:
        """The session that the instant belongs to (the last one opened by then), and all later ones."""
        opened = sum(1 for session in self.parts.sessions if session.opens_at <= at)
        return self.parts.sessions[max(0, opened - 1) :]

    def _instants_before(self, at: datetime) -> int:
        return sum(
            session.minute_of(at) if session.opens_at < at else 0 for session in self.parts.sessions if session.opens_at < at
        )
