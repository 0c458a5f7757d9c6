"""Wall time: the driver of a real market. Bars, the broker's activity and due jobs are followed side by side. REST is the truth;
what streams tell makes us look sooner."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from finagent.domain.errors import Transient, Unavailable
from finagent.domain.ports.clock import Clock
from finagent.domain.sessions import MINUTE, Session
from finagent.services.driver import DriverParts
from finagent.services.execution.activity import BrokerActivity

log = structlog.get_logger(__name__)


class LiveMarket(Protocol):
    """Where bars come from while they are made."""

    async def run(self) -> None:
        """Listen until cancelled."""
        ...

    async def catch_up(self) -> None:
        """Ask for the bars of the open session that are complete by now. Transient without a usable answer."""
        ...

    def stale_seconds(self) -> float:
        """Since the market was last heard of, while it is open."""
        ...


class LiveTime(Clock, Protocol):
    """A clock that runs; `pace` market seconds pass a wall second."""

    pace: float

    def correct(self, at: datetime) -> None:
        """It is `at` now."""
        ...

    async def until(self, at: datetime) -> None:
        """Wait until it is `at`."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait for wall seconds."""
        ...

    def wall_seconds(self) -> float:
        """Wall seconds since some instant; nobody sets them."""
        ...


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """Seconds of market time: `bar_grace_seconds` after a minute its bars are taken as they are; a session is prepared
    `prepare_seconds` before its open; the broker's activity is asked for every `activity_seconds`, from `overlap_seconds` before
    the last answer, at a start from `lookback_seconds`, and at most every `spacing_seconds` of wall time; its clock every
    `clock_seconds`. New risk waits while clocks differ by more than `skew_seconds_max`, no bar came for `stale_seconds_max`, or
    the broker did not answer for `silence_seconds_max` of wall time.
    What failed is tried again after `retry_seconds` of wall time. `follows_broker_clock`: the broker is a simulator, whose nights
    take no time."""

    bar_grace_seconds: float
    prepare_seconds: float
    activity_seconds: float
    spacing_seconds: float
    overlap_seconds: float
    lookback_seconds: float
    clock_seconds: float
    skew_seconds_max: float
    stale_seconds_max: float
    silence_seconds_max: float
    retry_seconds: float
    poll_seconds: float
    follows_broker_clock: bool


class BrokerWatch:
    """Brings the broker's activity into the store again and again: on a timer, and at once when somebody saw a sign of it. What
    happened before `began` is not ours; `looked_at` is when the last look began that had an answer."""

    def __init__(self, activity: BrokerActivity, clock: LiveTime, policy: LivePolicy, began: datetime) -> None:
        self._activity, self._clock, self._policy = activity, clock, policy
        self._sign = asyncio.Event()
        self._asking = asyncio.Lock()
        self._began = began
        self._asked_until = clock.now() - timedelta(seconds=policy.lookback_seconds)
        self.looked_at = began
        self._looked_at_wall = clock.wall_seconds()

    def silent_seconds(self) -> float:
        """Of wall time, since the last look that had an answer began."""
        return self._clock.wall_seconds() - self._looked_at_wall

    def sign(self) -> None:
        """Something may have happened: look soon."""
        self._sign.set()

    async def catch_up(self) -> None:
        """Everything at the broker by now is in the store afterwards. Raises Transient when it gave no usable answer."""
        async with self._asking:
            now, wall = self._clock.now(), self._clock.wall_seconds()
            overlap = timedelta(seconds=self._policy.overlap_seconds)
            since = max(self._began, self._asked_until)
            complete = await self._activity.apply(since, now + overlap)  # its clock may be ahead of ours
            self.looked_at, self._looked_at_wall = now, wall
            if complete:
                self._asked_until = now - overlap

    async def run(self) -> None:
        """Until cancelled."""
        policy = self._policy
        while True:
            self._sign.clear()
            seconds = policy.activity_seconds / self._clock.pace
            try:
                await self.catch_up()
            except Transient as error:
                log.warning("activity_unanswered", error=str(error))
                await self._clock.pause(policy.retry_seconds)
                continue
            await self._clock.pause(policy.spacing_seconds)  # a flood of signs is one look
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may lose a cancellation
                    await self._sign.wait()


class Reservations:
    """Why new risk has to wait although nobody halted: the outside is not as it should be."""

    def __init__(self, market: LiveMarket, policy: LivePolicy) -> None:
        self._market, self._policy = market, policy
        self.skew_seconds = 0.0
        self.calendar = ""
        self.silent_seconds: Callable[[], float] = lambda: 0.0  # of the broker; whoever watches it says

    def held_back(self) -> str:
        """Empty when nothing speaks against a send."""
        policy = self._policy
        if self.calendar:
            return self.calendar
        if abs(self.skew_seconds) > policy.skew_seconds_max:
            return f"the broker's clock is {self.skew_seconds:+.1f} s from ours, limit {policy.skew_seconds_max:g} s"
        silent = self.silent_seconds()
        if silent > policy.silence_seconds_max:
            return f"the broker has not answered for {silent:.0f} s, limit {policy.silence_seconds_max:g} s"
        stale = self._market.stale_seconds()
        if stale > policy.stale_seconds_max:
            return f"no market data for {stale:.0f} s, limit {policy.stale_seconds_max:g} s"
        return ""


@dataclass(frozen=True, slots=True)
class LiveDriver:
    """Everything at once, until it is stopped. `listeners` are streams that run until cancelled; the broker is asked what time it
    is, and whether it knows the session as we do."""

    parts: DriverParts
    clock: LiveTime
    market: LiveMarket
    watch: BrokerWatch
    reservations: Reservations
    broker_time: Callable[[], Awaitable[datetime]]
    calendar_objection: Callable[[Session], Awaitable[str]]
    listeners: Sequence[Callable[[], Awaitable[None]]]
    notice_halt: Callable[[], Awaitable[None]]
    policy: LivePolicy

    async def run(self) -> bool:
        """Until stopped; a real market has no last session."""
        if not await self._agreed():
            return False
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(follow(), name=name)
                for name, follow in (
                    ("queue poller", self._poll),
                    ("broker watch", self.watch.run),
                    ("sessions", self._follow_sessions),
                    ("broker clock", self._follow_clock),
                )
            ]
            running += [tasks.create_task(_endless(listen), name="listener") for listen in (self.market.run, *self.listeners)]
            while not self.parts.stopping():
                await self.clock.pause(self.policy.poll_seconds)
            for task in running:
                task.cancel()
        await self.parts.processor.quiet.wait()
        return False

    async def _agreed(self) -> bool:
        """Nothing that an earlier process left runs before the broker and we agree; False when stopped before that."""
        while not self.parts.stopping():
            try:
                await self.watch.catch_up()
                await self.parts.reconcile_start()
            except (Transient, Unavailable) as error:
                log.warning("start_waits_for_broker", error=str(error), retry_seconds=self.policy.retry_seconds)
                await self.clock.pause(self.policy.retry_seconds)
                continue
            return True
        return False

    async def _poll(self) -> None:
        while True:
            await self.notice_halt()
            await self.parts.processor.poll()
            await self.clock.pause(self.policy.poll_seconds)

    async def _follow_clock(self) -> None:
        """At a real broker our clock is our own and a difference stops new risk; a simulator's clock is the only one."""
        while True:
            try:
                told = await self.broker_time()
            except Transient as error:
                log.warning("broker_clock_unanswered", error=str(error))
            else:
                if self.policy.follows_broker_clock:
                    self.clock.correct(told)
                else:
                    self.reservations.skew_seconds = (told - self.clock.now()).total_seconds()
            await self.clock.pause(self.policy.clock_seconds / self.clock.pace)

    async def _follow_sessions(self) -> None:
        while True:
            session = self._session()
            await self.clock.until(session.opens_at - timedelta(seconds=self.policy.prepare_seconds))
            if await self._prepared(session):
                await self._follow(session)

    def _session(self) -> Session:
        """The first session that is not over."""
        now = self.clock.now()
        for session in self.parts.sessions:
            if now < session.closes_at + timedelta(seconds=self.policy.bar_grace_seconds):
                return session
        raise Unavailable(f"no session after {self.parts.sessions[-1].date} is known: restart to read the calendar again")

    async def _prepared(self, session: Session) -> bool:
        """What was known before the open is loaded; False when it has to be tried again."""
        try:
            await self.parts.tidy_up()
            self.reservations.calendar = await self.calendar_objection(session)
            await self.parts.feed.open_session(session, self.parts.minutes(session))
        except Transient as error:
            log.warning("session_not_prepared", session=session.date.isoformat(), error=str(error))
            await self.clock.pause(self.policy.retry_seconds)
            return False
        return True

    async def _follow(self, session: Session) -> None:
        """A minute after the other to the close, from what is known already on. A minute whose bars are late is taken as it is
        after the grace."""
        grace = timedelta(seconds=self.policy.bar_grace_seconds)
        while True:
            try:
                await self.market.catch_up()
            except Transient as error:
                log.warning("bars_unanswered", error=str(error))
            complete = self.clock.now() - grace
            self.parts.feed.advance(complete)
            minute = session.minute_of(complete)
            self.parts.observer.instant(complete, session, minute, session.minutes)
            if minute == session.minutes:
                return
            await self.clock.until(session.opens_at + (minute + 1) * MINUTE + grace)


async def _endless(listen: Callable[[], Awaitable[None]]) -> None:
    """A listener that ends by itself would leave us deaf: the process ends, and starts anew."""
    await listen()
    raise Unavailable("a stream ended by itself")
