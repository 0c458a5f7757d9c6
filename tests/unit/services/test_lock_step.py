"""Market time as data: instants are the bars and what is due between them, and each is over before the next begins."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.services.conftest import features_of

from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import Job, Next, RetryPolicy
from finagent.domain.ports.order_execution import Activity
from finagent.domain.sessions import Session
from finagent.domain.trading_state import MarketClock
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.driver import DriverParts
from finagent.services.execution.activity import BrokerActivity
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.failpoints import unarmed
from finagent.services.lock_step import LockStepDriver
from finagent.services.market_data.feed import Feed
from finagent.services.progress import Onlookers
from finagent.services.queue.processor import JobProcessor, QueuePolicy, one_by_one


class QuietBroker:
    """A broker and venue at which nothing happens; remembers what it was asked."""

    def __init__(self) -> None:
        self.moved: list[datetime] = []
        self.spans: list[tuple[datetime, datetime]] = []

    async def advance(self, at: datetime) -> None:
        self.moved.append(at)

    async def activity(self, since: datetime, until: datetime) -> Activity:
        self.spans.append((since, until))
        return Activity((), ())


class Metering:
    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None: ...

    def job_failed(self, job_type: str, status: Any) -> None: ...


class Track:
    """What a driven replay did: the instants, the jobs with their times, and whether it reached its end."""

    def __init__(self) -> None:
        self.broker = QuietBroker()
        self.ran: list[tuple[str, float]] = []
        self.ended: bool | None = None
        self.told: list[tuple[datetime, int, int]] = []
        self.visits: list[datetime] = []


@pytest.fixture
def drive(desk: Any, market: Any) -> Callable[..., Awaitable[Track]]:
    """Runs the driver over short sessions; `plan` jobs run the given handler."""

    async def run(minutes: int = 3, sessions: int = 1, handle: Any = None, stop_at: datetime | None = None) -> Track:
        track, start = Track(), desk.session.opens_at
        days = tuple(
            Session(start.date() + timedelta(days=n), start + timedelta(days=n), start + timedelta(days=n, minutes=minutes))
            for n in range(sessions)
        )
        market.bars = type(market)(market.symbols, days[0]).bars

        async def plan(job: Job, reads: Any) -> Effect:
            track.ran.append((job.dedup_key, (desk.clock.now() - start).total_seconds() / 60))
            effect: Effect = await handle(job, reads) if handle else Effect()
            return effect

        async def nothing() -> None: ...

        async def visit(at: datetime) -> None:
            track.visits.append(at)

        processor = JobProcessor(
            queue=desk.queue,
            reads=desk.reads,
            clock=desk.clock,
            handlers={"plan": one_by_one(plan)},
            policy=QueuePolicy(10, 10, 3, 2, 0.01, 300.0, RetryPolicy(3, 5.0, 300.0)),
            seed=7,
            failpoints=unarmed,
            jitter=None,
            on_invariant=lambda message: desk.kill_switch.halt(message, "invariant"),
            lock_step=True,
            observer=Metering(),
            monotonic=lambda: 0.0,
        )
        processor.queues(("planner",))

        class Watch(Onlookers):
            def instant(self, at: datetime, session: Any, done: int, total: int) -> None:
                track.told.append((at, done, total))

        broker: Any = track.broker
        policy = ExecutionPolicy(60, 900, 4, 60, 60)
        parts = DriverParts(
            feed=Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market)),
            activity=BrokerActivity(broker, desk.reads, desk.queue, processor, desk.clock, policy, 5),
            processor=processor,
            queue=desk.queue,
            reads=desk.reads,
            sessions=days,
            minutes=lambda session: (1,),
            observer=Watch(),
            stopping=lambda: stop_at is not None and desk.clock.now() >= stop_at,
            tidy_up=nothing,
            reconcile_start=nothing,
        )
        driver = LockStepDriver(parts, desk.clock, venue=broker, failpoints=unarmed, visit=visit)
        worker = asyncio.create_task(processor.work("planner"))
        try:
            track.ended = await asyncio.wait_for(driver.run(), 10)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        return track

    return run


@pytest.fixture
def desk(desk: Any) -> Any:
    """At the open, before any commit of the day."""
    desk.clock._now = desk.session.opens_at
    return desk


def minutes_of(desk: Any, instants: list[datetime]) -> list[float]:
    return [(at - desk.session.opens_at).total_seconds() / 60 for at in instants]


async def test_the_instants_of_a_session_are_its_open_and_its_bars(desk: Any, drive: Any) -> None:
    track = await drive()

    assert track.ended
    assert minutes_of(desk, track.broker.moved) == [0, 1, 2, 3]
    assert [(done, total) for _, done, total in track.told] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert track.visits == [at for at, _, _ in track.told]


async def test_an_instant_without_effects_commits_nothing_and_the_next_span_starts_where_the_last_effect_was(
    desk: Any, drive: Any
) -> None:
    before = desk.reads.rows("PRAGMA data_version")
    track = await drive()

    assert desk.reads.rows("PRAGMA data_version") == before
    assert {since for since, _ in track.broker.spans} == {desk.session.opens_at}
    assert desk.reads.get(MarketClock, 1).at == desk.session.opens_at


async def test_what_is_due_between_bars_has_an_instant_of_its_own(desk: Any, drive: Any) -> None:
    await desk.commit(Effect(next=(Next("plan", "plan:x", {}, desk.minute(1.5)),)))
    track = await drive()

    assert track.ran == [("plan:x", 1.5)]
    assert minutes_of(desk, track.broker.moved) == [0, 1, 1.5, 2, 3]
    assert minutes_of(desk, [desk.reads.get(MarketClock, 1).at]) == [1.5]


async def test_what_is_due_after_the_close_is_done_before_the_next_open(desk: Any, drive: Any) -> None:
    await desk.commit(
        Effect(next=(Next("plan", "plan:x", {}, desk.minute(10)), Next("plan", "plan:y", {}, desk.minute(24 * 60))))
    )
    track = await drive(sessions=2)

    assert track.ran == [("plan:x", 10), ("plan:y", 24 * 60)]
    assert minutes_of(desk, track.broker.moved) == [0, 1, 2, 3, 10, 1440, 1441, 1442, 1443]


async def test_what_jobs_publish_for_now_belongs_to_the_same_instant(desk: Any, drive: Any) -> None:
    async def handle(job: Job, reads: Any) -> Effect:
        left = job.payload["left"]
        return Effect(next=(Next("plan", f"plan:{left - 1}", {"left": left - 1}),) if left else ())

    await desk.commit(Effect(next=(Next("plan", "plan:3", {"left": 3}, desk.minute(1)),)))
    track = await drive(handle=handle)

    assert track.ran == [("plan:3", 1), ("plan:2", 1), ("plan:1", 1), ("plan:0", 1)]


async def test_a_start_repeats_the_instant_of_the_market_clock(desk: Any, drive: Any) -> None:
    await desk.commit(Effect(next=(Next("plan", "plan:x", {}, desk.minute(1)),)))
    stopped = await drive(stop_at=desk.minute(1))
    again = await drive()

    assert stopped.ended is False
    assert again.ended
    assert minutes_of(desk, again.broker.moved) == [1, 2, 3]
    assert again.broker.spans[0] == (desk.minute(1), desk.minute(1))
    assert again.ran == []
    assert [done for _, done, _ in again.told] == [2, 3, 3]


async def test_a_store_without_a_market_clock_cannot_be_driven(desk: Any, drive: Any) -> None:
    await desk.queue.close()
    import sqlite3

    path = desk.reads.rows("PRAGMA database_list")[0][2]
    with sqlite3.connect(path) as store:
        store.execute("DELETE FROM market_clock")
    store.close()

    with pytest.raises(InvariantViolated, match="no market clock"):
        await drive()
