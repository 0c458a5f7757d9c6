"""The watch commits what tripped; only the lock of a day ends by itself."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.services.conftest import features_of

from finagent.domain.circuit_breakers import BreakerLimits
from finagent.domain.orders import (
    BrokerOrder,
    Fill,
    Leg,
    OrderClass,
    OrderIntent,
    OrderState,
    OrderType,
    SendOutcome,
    Side,
    TimeInForce,
)
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.time import to_text
from finagent.domain.trading_state import TradingState
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.kill_switch import state_change
from finagent.services.market_data.feed import Feed
from finagent.services.risk_watch import DAY_LOCK, RiskWatch, WatchPolicy, unlocked, watch_job

LIMITS = BreakerLimits(Decimal("0.02"), Decimal("0.10"), Decimal(50), 2, 3, Decimal("0.5"))


@pytest.fixture
async def watch(desk: Any, open_feed: Any) -> RiskWatch:
    return RiskWatch(await open_feed(), desk.clock, WatchPolicy(300, LIMITS), desk.kill_switch)


async def looked(desk: Any, watch: RiskWatch) -> tuple[TradingState, str]:
    await desk.commit(await watch.watch(desk.job("watch", until=to_text(desk.session.closes_at)), desk.reads))
    return desk.state().state, desk.state().by


async def order(desk: Any, symbol: str, outcome: SendOutcome, price: str = "104.01") -> None:
    """An entry that was refused, or filled at that price where it was confirmed."""
    plan = await desk.approved(symbol)
    name, now = f"fa-{symbol}", desk.clock.now()
    intent = OrderIntent(
        name, plan.decision_id, None, Leg.ENTRY, 1, symbol, Side.BUY, 100, OrderType.STOP_LIMIT, plan.entry_limit, plan.entry,
        OrderClass.SIMPLE, TimeInForce.DAY, 0, "", plan.valid_until, now,
    )  # fmt: skip
    filled = outcome is SendOutcome.CONFIRMED
    state = OrderState.FILLED if filled else OrderState.REJECTED
    placed = BrokerOrder(
        name, plan.decision_id, symbol, None, Leg.ENTRY, None, "b-1", state, 100 if filled else 0,
        Decimal(price) if filled else None, outcome, "", 1, now, now,
    )  # fmt: skip
    fill = (
        (Fill(f"x-{symbol}", name, plan.decision_id, symbol, Side.BUY, 100, Decimal(price), Decimal(0), now),) if filled else ()
    )
    await desk.commit(intent, placed, *fill)


async def test_a_calm_account_is_left_alone_and_looked_at_again_until_the_close(desk: Any, watch: RiskWatch) -> None:
    assert (await looked(desk, watch))[0] is TradingState.ACTIVE
    assert desk.keys("watch") == [f"watch:{to_text(desk.minute(10))}"]
    desk.clock.set(desk.session.closes_at - timedelta(minutes=2))
    await looked(desk, watch)
    assert len(desk.keys("watch")) == 1
    first = watch_job(desk.session.opens_at, desk.session.closes_at, 300)
    assert (first.key, first.run_at) == (f"watch:{to_text(desk.minute(5))}", desk.minute(5))


async def test_the_loss_of_the_day_locks_it_and_the_next_session_begins_anew(desk: Any, market: Any, watch: RiskWatch) -> None:
    await desk.commit(Position("IBM", 1000, Decimal(-102_000), Decimal(1), desk.clock.now()))  # worth 100,000 at its mark
    assert await looked(desk, watch) == (TradingState.REDUCING, DAY_LOCK)
    assert "DAILY_LOSS: 0.020010 has reached its limit 0.02" in desk.state().reason
    assert not desk.kill_switch.state().state.new_risk
    assert (await looked(desk, watch))[1] == DAY_LOCK
    assert desk.told("trading_state_changed") == 1

    await desk.commit(unlocked(desk.reads, desk.kill_switch, desk.next_session.opens_at))
    assert desk.state().state is TradingState.ACTIVE


async def test_who_arms_on_the_day_is_locked_again(desk: Any, watch: RiskWatch) -> None:
    await desk.commit(Position("IBM", 1000, Decimal(-102_000), Decimal(1), desk.clock.now()))
    await looked(desk, watch)
    await desk.kill_switch.arm("I know", "ann")
    assert await looked(desk, watch) == (TradingState.REDUCING, DAY_LOCK)


async def test_a_drawdown_halts_until_a_person_arms_and_is_counted_from_then_on(desk: Any, watch: RiskWatch) -> None:
    await desk.commit(
        AccountSnapshot(desk.session.date - timedelta(days=1), "CLOSE", desk.minute(0), Decimal(112_000), Decimal(112_000), 0, 0)
    )
    assert await looked(desk, watch) == (TradingState.HALTED, "breaker DRAWDOWN")
    await desk.commit(unlocked(desk.reads, desk.kill_switch, desk.next_session.opens_at))
    assert desk.state().state is TradingState.HALTED

    desk.clock.set(desk.minute(7))
    await desk.kill_switch.arm("looked", "ann")
    assert (await looked(desk, watch))[0] is TradingState.ACTIVE


async def test_the_end_of_a_locked_day_is_no_new_peak(desk: Any, watch: RiskWatch) -> None:
    """Day after day of losses adds up."""
    day = desk.session.date - timedelta(days=1)
    await desk.commit(AccountSnapshot(day, "CLOSE", desk.minute(0), Decimal(112_000), Decimal(112_000), 0, 0))
    await desk.commit(state_change(desk.reads, TradingState.REDUCING, "lost", DAY_LOCK, desk.minute(1)))
    await desk.commit(unlocked(desk.reads, desk.kill_switch, desk.minute(2)))
    assert await looked(desk, watch) == (TradingState.HALTED, "breaker DRAWDOWN")


async def test_refusals_of_the_broker_halt(desk: Any, watch: RiskWatch) -> None:
    for symbol in ("AAPL", "GOOG"):
        await order(desk, symbol, SendOutcome.REFUSED)
    assert (await looked(desk, watch))[0] is TradingState.ACTIVE
    await order(desk, "IBM", SendOutcome.REFUSED)
    assert await looked(desk, watch) == (TradingState.HALTED, "breaker REFUSALS")
    desk.clock.set(desk.minute(7))
    await desk.kill_switch.arm("the broker was asked", "ann")
    assert (await looked(desk, watch))[0] is TradingState.ACTIVE


async def test_fills_worse_than_their_triggers_reduce(desk: Any, watch: RiskWatch) -> None:
    await order(desk, "AAPL", SendOutcome.CONFIRMED, "104.90")  # 86 basis points
    assert (await looked(desk, watch))[0] is TradingState.ACTIVE
    await order(desk, "GOOG", SendOutcome.CONFIRMED, "104.20")  # 18
    assert watch.readings(desk.reads).slippage_bps == pytest.approx(Decimal("52.03"), abs=Decimal("0.01"))
    assert await looked(desk, watch) == (TradingState.REDUCING, "breaker SLIPPAGE")


async def test_what_waits_for_a_person_does_not_end_with_a_locked_day(desk: Any, watch: RiskWatch) -> None:
    """Bad fills on a day that was locked for its loss: the next session begins REDUCING, and a person looks."""
    await desk.commit(state_change(desk.reads, TradingState.REDUCING, "lost", DAY_LOCK, desk.minute(1)))
    for symbol in ("AAPL", "GOOG"):
        await order(desk, symbol, SendOutcome.CONFIRMED, "104.90")
    assert await looked(desk, watch) == (TradingState.REDUCING, "breaker SLIPPAGE")
    assert (await looked(desk, watch))[1] == "breaker SLIPPAGE"
    await desk.commit(unlocked(desk.reads, desk.kill_switch, desk.next_session.opens_at))
    assert desk.state().state is TradingState.REDUCING


async def test_a_market_of_bad_data_reduces(desk: Any, market: Any, open_feed: Any) -> None:
    market.excluded = {"IBM": "an hour of it is missing"}
    market.bars.quality[:, market.symbols.index("AAPL")] = 3
    watch = RiskWatch(await open_feed(), desk.clock, WatchPolicy(300, LIMITS), desk.kill_switch)
    assert await looked(desk, watch) == (TradingState.REDUCING, "breaker DATA_QUALITY")


async def test_before_the_session_is_open_in_the_feed_nothing_is_judged(desk: Any, market: Any) -> None:
    """As a process that was started within the session meets it, its first job a look that is due."""
    feed = Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))
    assert await looked(desk, RiskWatch(feed, desk.clock, WatchPolicy(300, LIMITS), desk.kill_switch)) == (
        TradingState.ACTIVE,
        "test",
    )
    assert len(desk.keys("watch")) == 1


async def test_a_state_that_binds_is_never_loosened(desk: Any, market: Any, watch: RiskWatch) -> None:
    await desk.kill_switch.halt("looking", "ann")
    await desk.commit(Position("IBM", 1000, Decimal(-102_000), Decimal(1), desk.clock.now()))
    assert await looked(desk, watch) == (TradingState.HALTED, "ann")
