"""At a pace the market runs on: what happened meanwhile is fetched whole, and nothing runs before broker and store agree."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from tests.unit.services.conftest import features_of

from finagent.domain.effect import Effect
from finagent.domain.jobs import Next
from finagent.domain.orders import Leg, OrderState
from finagent.domain.trading_state import MarketClock
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.driver import DriverParts
from finagent.services.market_data.feed import Feed
from finagent.services.paced import PacedDriver
from finagent.services.progress import Onlookers


class Jumps:
    """Market time that is at one of these instants whenever it is asked."""

    def __init__(self, *instants: datetime) -> None:
        self.instants = list(instants)
        self.pauses = 0

    async def next_instant(self, after: datetime) -> datetime | None:
        return self.instants.pop(0) if self.instants else None

    async def pause(self, seconds: float) -> None:

        self.pauses += 1
        await asyncio.sleep(0)


class Venue:
    """Remembers when it was told to move."""

    def __init__(self) -> None:
        self.moved: list[datetime] = []

    async def advance(self, at: datetime) -> None:
        self.moved.append(at)


@pytest.fixture
def drive(desk: Any, paced_floor: Any, market: Any) -> Callable[..., Awaitable[bool]]:
    """Runs the driver over the given instants."""

    async def run(*instants: datetime, stop_after: int = 99, reconcile: Any = None) -> bool:
        told: list[datetime] = []

        class Watch(Onlookers):
            def instant(self, at: datetime, session: Any, done: int, total: int) -> None:
                told.append(at)

        async def nothing() -> None: ...

        parts = DriverParts(
            feed=Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market)),
            activity=paced_floor.activity,
            processor=paced_floor.processor,
            queue=desk.queue,
            reads=desk.reads,
            sessions=(desk.session,),
            minutes=lambda session: (5,),
            observer=Watch(),
            stopping=lambda: len(told) >= stop_after,
            tidy_up=nothing,
            reconcile_start=reconcile or nothing,
        )
        driver = PacedDriver(parts, desk.clock, Venue(), Jumps(*instants), poll_seconds=0.01)
        return await driver.run()

    return run


async def test_what_was_traded_before_a_commit_moved_the_clock_is_still_fetched(
    desk: Any, paced_floor: Any, broker: Any, drive: Any
) -> None:
    """The process died after the first commit of an instant and before the rest of what it had fetched was stored."""
    floor = paced_floor
    plan = await desk.approved()
    floor.processor.offer(await desk.commit(floor.execute(plan)))
    await floor.processor.quiet.wait()
    entry = floor.order(plan, Leg.ENTRY).client_order_id
    desk.clock.set(desk.minute(8))
    broker.trade(broker.named(entry), 100, "104.02")
    desk.clock.set(desk.minute(12))
    await desk.commit(Effect(next=(Next("reconcile", "reconcile:x", {}, desk.minute(300)),)))
    moved = desk.reads.get(MarketClock, 1).at
    ended = await drive(desk.minute(13))

    assert moved == desk.minute(12)
    assert ended
    assert (floor.held(), floor.order(plan, Leg.ENTRY).state) == (100, OrderState.FILLED)


async def test_nothing_an_earlier_process_left_runs_before_the_reconciliation(
    desk: Any, paced_floor: Any, broker: Any, drive: Any
) -> None:
    floor = paced_floor
    plan = await desk.approved()
    await desk.queue.release(await desk.commit(floor.execute(plan)))
    seen: list[int] = []

    async def reconcile() -> None:
        seen.append(len(broker.requests))

    await drive(desk.minute(6), desk.minute(7), reconcile=reconcile)

    assert seen[0] == 0
    assert len(broker.requests) == 1


async def test_it_stops_when_asked_and_says_so(desk: Any, drive: Any) -> None:
    await desk.approved()  # the stored clock is where the desk's clock is

    assert await drive(desk.minute(6), desk.minute(7), stop_after=1) is False
    assert desk.clock.now() < desk.minute(7)
