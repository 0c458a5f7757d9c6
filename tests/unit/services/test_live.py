"""Wall time: bars, broker and jobs are followed side by side, what fails is tried again, and a stop ends it in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.unit.services.conftest import features_of

from finagent.adapters.clock import RunningClock
from finagent.domain.effect import Effect
from finagent.domain.errors import Transient, Unavailable
from finagent.domain.jobs import Job, Next, RetryPolicy
from finagent.domain.ports.order_execution import Activity
from finagent.domain.sessions import Session
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.driver import DriverParts
from finagent.services.execution.activity import BrokerActivity
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.failpoints import unarmed
from finagent.services.live import BrokerWatch, LiveDriver, LivePolicy, Reservations
from finagent.services.market_data.feed import Feed
from finagent.services.progress import Onlookers
from finagent.services.queue.processor import JobProcessor, QueuePolicy, one_by_one

PATIENCE_SECONDS = 60
POLICY = LivePolicy(
    bar_grace_seconds=2,
    prepare_seconds=600,
    activity_seconds=15,
    spacing_seconds=0.001,
    overlap_seconds=60,
    lookback_seconds=3600,
    clock_seconds=30,
    skew_seconds_max=2,
    stale_seconds_max=180,
    silence_seconds_max=60,
    retry_seconds=0.001,
    poll_seconds=0.001,
    follows_broker_clock=True,
)


class Metering:
    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None: ...

    def job_failed(self, job_type: str, status: Any) -> None: ...


@dataclass
class Outside:
    """A broker and a market at which nothing happens; each fails as often as it is told to."""

    clock: RunningClock
    silent: int = 0
    barless: int = 0
    stale: float = 0.0
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def activity(self, since: datetime, until: datetime) -> Activity:
        self.asked.set()
        if self.silent:
            self.silent -= 1
            raise Transient("no answer")
        self.spans.append((since, until))
        return Activity((), ())

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def catch_up(self) -> None:
        if self.barless:
            self.barless -= 1
            raise Transient("no bars")

    def stale_seconds(self) -> float:
        return self.stale

    async def time(self) -> datetime:
        return self.clock.now()


class Life:
    """A driver at work; `stop` ends it and waits."""

    def __init__(self, driver: LiveDriver, outside: Outside, feed: Feed) -> None:
        self.driver, self.outside, self.feed = driver, outside, feed
        self.stopping = False
        self.minutes: list[int] = []
        self.ran: list[str] = []
        self.agreed: list[int] = []
        self.happened = asyncio.Event()
        self.ended: Callable[[], bool] = lambda: False

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not true():
                self.happened.clear()
                await self.happened.wait()


@pytest.fixture
def living(desk: Any, market: Any) -> Any:
    """Starts a driver on a session of so many minutes, at ten market minutes a second."""

    @asynccontextmanager
    async def live(minutes: int = 3, broken_starts: int = 0, listeners: Any = (), **faults: Any) -> AsyncIterator[Life]:
        opens = desk.session.opens_at
        day = Session(opens.date(), opens, opens + timedelta(minutes=minutes))
        market.bars = type(market)(market.symbols, day).bars
        clock = RunningClock(opens - timedelta(minutes=1), asyncio.get_running_loop().time, pace=600)
        outside = Outside(clock, **faults)
        feed = Feed(market, clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))

        async def plan(job: Job, reads: Any) -> Effect:
            life.ran.append(job.dedup_key)
            life.happened.set()
            return Effect()

        async def reconcile_start() -> None:
            life.agreed.append(len(life.ran))
            life.happened.set()
            if len(life.agreed) <= broken_starts:
                raise Unavailable("the broker cannot be read at start")

        async def nothing() -> None: ...

        async def no_objection(session: Session) -> str:
            return ""

        class Minutes(Onlookers):
            def instant(self, at: datetime, session: Any, done: int, total: int) -> None:
                life.minutes.append(done)
                life.happened.set()

        desk.queue._clock = clock  # the store's own clock runs as well
        processor = JobProcessor(
            queue=desk.queue,
            reads=desk.reads,
            clock=clock,
            handlers={"plan": one_by_one(plan)},
            policy=QueuePolicy(10, 10, 3, 2, 0.01, 300.0, RetryPolicy(3, 5.0, 300.0)),
            seed=7,
            failpoints=unarmed,
            jitter=None,
            on_invariant=lambda message: desk.kill_switch.halt(message, "invariant"),
            lock_step=False,
            observer=Metering(),
            monotonic=lambda: 0.0,
        )
        processor.queues(("planner",))
        broker: Any = outside
        activity = BrokerActivity(broker, desk.reads, desk.queue, processor, clock, ExecutionPolicy(60, 900, 4, 60, 60), 5)
        parts = DriverParts(
            feed=feed,
            activity=activity,
            processor=processor,
            queue=desk.queue,
            reads=desk.reads,
            sessions=(day, replace(day, opens_at=day.opens_at + timedelta(days=1), closes_at=day.closes_at + timedelta(days=1))),
            minutes=lambda session: (1,),
            observer=Minutes(),
            stopping=lambda: life.stopping,
            tidy_up=nothing,
            reconcile_start=reconcile_start,
        )
        driver = LiveDriver(
            parts=parts,
            clock=clock,
            market=outside,
            watch=BrokerWatch(activity, clock, POLICY, opens - timedelta(minutes=30)),
            reservations=Reservations(outside, POLICY),
            broker_time=outside.time,
            calendar_objection=no_objection,
            listeners=listeners,
            notice_halt=nothing,
            policy=POLICY,
        )
        life = Life(driver, outside, feed)
        worker = asyncio.create_task(processor.work("planner"))
        running = asyncio.create_task(driver.run())
        running.add_done_callback(lambda _: life.happened.set())
        life.ended = running.done
        try:
            yield life
            life.stopping = True
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await running is False
        finally:
            running.cancel()
            worker.cancel()
            await asyncio.gather(worker, running, return_exceptions=True)

    return live


async def test_the_minutes_of_a_session_are_taken_in_one_after_the_other_also_without_an_answer(living: Any) -> None:
    async with living(minutes=3, barless=2) as life:
        await life.until(lambda: 3 in life.minutes)
        assert sorted(set(life.minutes)) == life.minutes
        assert life.feed.last_price("IBM")[0] == 100


async def test_nothing_runs_before_the_broker_and_we_agree(desk: Any, living: Any) -> None:
    await desk.queue.release(await desk.commit(Effect(next=(Next("plan", "plan:left over", {}),))))
    async with living(silent=2, broken_starts=2) as life:
        await life.until(lambda: bool(life.ran))
        assert life.agreed == [0, 0, 0], "asked until it answered, and the job after that"


async def test_activity_is_asked_for_again_from_before_the_last_answer_and_never_from_before_we_began(living: Any) -> None:
    async with living() as life:
        await life.until(lambda: 1 in life.minutes)
        life.driver.watch.sign()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(life.outside.spans) < 3:
                life.outside.asked.clear()
                await life.outside.asked.wait()
        spans = life.outside.spans
        assert spans[0][0] == life.driver.parts.sessions[0].opens_at - timedelta(minutes=30)
        for (_, before), (since, _) in pairwise(spans):
            assert since <= before - 2 * timedelta(seconds=POLICY.overlap_seconds)


async def test_what_was_told_without_its_executions_is_asked_for_again_from_there(desk: Any) -> None:
    complete, spans = iter([True, False, False, True, True]), list[datetime]()

    class Told:
        async def apply(self, since: datetime, until: datetime) -> bool:
            spans.append(since)
            return next(complete)

    clock = RunningClock(desk.clock.now(), iter(range(0, 10_000, 100)).__next__)
    activity: Any = Told()
    watch = BrokerWatch(activity, clock, POLICY, desk.clock.now() - timedelta(days=1))
    for _ in range(5):
        await watch.catch_up()
    assert spans[0] < spans[1] == spans[2] == spans[3] < spans[4]
    assert watch.silent_seconds() == 100, "the last look began then"


async def test_a_stream_that_ends_by_itself_ends_the_process(living: Any) -> None:
    async def deaf() -> None: ...

    with pytest.raises(ExceptionGroup) as ended:
        async with living(listeners=(deaf,)) as life:
            await life.until(life.ended)
    assert ended.group_contains(Unavailable, match="stream")


async def test_new_risk_waits_while_the_outside_is_not_as_it_should_be() -> None:
    outside = Outside(RunningClock(datetime.fromisoformat("2026-11-27T14:30:00Z"), lambda: 0.0))
    reservations = Reservations(outside, POLICY)
    assert reservations.held_back() == ""
    outside.stale = 181
    assert "no market data for 181 s" in reservations.held_back()
    outside.stale, reservations.silent_seconds = 0.0, lambda: 61.0
    assert "the broker has not answered for 61 s" in reservations.held_back()
    reservations.silent_seconds, reservations.skew_seconds = lambda: 0.0, -2.5
    assert "-2.5 s" in reservations.held_back()
    reservations.skew_seconds, reservations.calendar = 0.0, "the broker's calendar has no session on 2026-11-27"
    assert reservations.held_back() == reservations.calendar
