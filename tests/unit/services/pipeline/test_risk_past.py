"""The gate and the past: what the account did, what prices did, and what a trade makes of the book."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.unit.quant.risk.test_hierarchical_parity import returns_with_factors
from tests.unit.services.conftest import features_of
from tests.unit.services.pipeline.test_allocation import history_of
from tests.unit.services.pipeline.test_risk import PROFILE, SECTORS, gather, judge

from finagent.domain.decision import DecisionEvent
from finagent.domain.errors import Transient
from finagent.domain.orders import Fill, Leg, OrderIntent, Side
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.risk import PortfolioLimits, RiskCode, RiskDecision, RiskSnapshot, Verdict
from finagent.quant.features.gap_scan import ScanRules
from finagent.quant.risk.exposure import Book
from finagent.services.market_data.feed import Feed
from finagent.services.market_data.return_history import DailyReturns, MeasuredHistory, ReturnHistory, ReturnHistoryPolicy
from finagent.services.pipeline.account_past import account_past
from finagent.services.pipeline.execution import ExecutionService
from finagent.services.pipeline.risk import RiskService

POLICY = ReturnHistoryPolicy(days_max=100, days_min=60, hole_sessions_max=5, index=None)
WIDE = PortfolioLimits(
    position_warning_fraction=Decimal("0.23"),
    utilisation_warning=Decimal("0.9"),
    day_trade_equity_min=Decimal(25_000),
    drawdown_fraction_max=Decimal("0.5"),
    order_notional_max=Decimal(1_000_000),
    entries_per_symbol_max=3,
    participation_fraction_max=Decimal("0.01"),
    day_trades_max=3,
    value_at_risk_fraction_max=Decimal(1),
    beta_max=Decimal(10),
    correlation_max=Decimal(1),
)


@pytest.fixture
def past(market: Any) -> Any:
    """120 days of AAPL, GOOG, IBM and MSFT, everything standing at 104 today."""
    returns = returns_with_factors(4, 120, 4) / 10
    market.history = history_of(market, 100.0 * np.cumprod(1.0 + np.vstack((np.zeros(4), returns)), axis=0))
    for column in (market.bars.open, market.bars.high, market.bars.low, market.bars.close):
        column[:] = 104.0
    return market


def returns_of(market: Any, **policy: Any) -> ReturnHistory:
    return ReturnHistory(market, replace(POLICY, **policy), asyncio.to_thread)


async def gate(desk: Any, market: Any, open_feed: Any, **limits: Any) -> RiskService:
    profile = replace(
        PROFILE, position_fraction_max=Decimal(1), sector_fraction_max=Decimal(2), portfolio=replace(WIDE, **limits)
    )
    return RiskService(await open_feed(), desk.clock, profile, SECTORS, desk.kill_switch, returns_of(market))


async def judged(desk: Any, service: RiskService, *plans: tuple[str, int], **more: Any) -> list[RiskDecision]:
    run = await desk.run(**more)
    for rank, (symbol, quantity) in enumerate(plans):
        await desk.planned(run, symbol, quantity, score=0.9 - rank / 10)
    await gather(desk, service, run)
    return await judge(desk, service, run)


def told(desk: Any, kind: str) -> list[Any]:
    return [event.body for event in desk.reads.find(DecisionEvent, kind=kind)]


async def test_a_plan_is_cut_to_what_value_at_risk_leaves_and_an_approval_counts_for_the_next(
    desk: Any, past: Any, open_feed: Any
) -> None:
    service = await gate(desk, past, open_feed, value_at_risk_fraction_max=Decimal("0.002"))
    first, second = await judged(desk, service, ("IBM", 900), ("MSFT", 900))

    assert (first.verdict, first.code) == (Verdict.REDUCED, RiskCode.VALUE_AT_RISK)
    assert 0 < first.quantity < 900
    assert second.code is RiskCode.VALUE_AT_RISK
    assert second.quantity < first.quantity, "what the first one binds is no room for the second"
    alone, book = told(desk, "risk_decided")
    assert 195 < float(alone["after"]["value_at_risk"]) <= 200
    assert float(book["after"]["value_at_risk"]) <= 200
    assert alone["after"]["position"] == str(first.notional)
    assert alone["warnings"] == [f"IBM is {first.notional / 100_000:.1%} of equity", f"VALUE_AT_RISK cut 900 to {first.quantity}"]
    (gathered,) = told(desk, "risk_gathered")
    assert (gathered["history_days"], len(gathered["history"])) == (100, 16)


async def test_who_starts_again_in_the_middle_of_a_run_decides_the_same(desk: Any, past: Any, open_feed: Any) -> None:
    """The measured book is in no store: it follows from the snapshot and the days before the session."""
    service = await gate(desk, past, open_feed, value_at_risk_fraction_max=Decimal("0.01"))
    run = await desk.run()
    for rank, symbol in enumerate(("IBM", "MSFT", "GOOG")):
        await desk.planned(run, symbol, 300, score=0.9 - rank / 10)
    await gather(desk, service, run)
    await desk.commit(await service.check(desk.job("risk", run_id=run, rank=0), desk.reads))
    again = await gate(desk, past, open_feed, value_at_risk_fraction_max=Decimal("0.01"))
    one, other = [await each.check(desk.job("risk", run_id=run, rank=1), desk.reads) for each in (service, again)]
    assert one.records == other.records


async def test_a_symbol_without_history_and_a_book_that_holds_one_get_nothing_new(desk: Any, past: Any, open_feed: Any) -> None:
    past.history.close[:, 0] = np.nan  # AAPL is new
    service = await gate(desk, past, open_feed)
    unknown, known = await judged(desk, service, ("AAPL", 10), ("IBM", 10))
    assert (unknown.verdict, unknown.code) == (Verdict.REFUSED, RiskCode.VALUE_AT_RISK)
    assert known.verdict is Verdict.APPROVED
    await desk.commit(Position("AAPL", 5, Decimal(-520), Decimal(0), desk.clock.now()))
    (held,) = await judged(desk, service, ("MSFT", 10), entry="second")
    assert (held.verdict, held.code) == (Verdict.REFUSED, RiskCode.VALUE_AT_RISK)
    assert "value_at_risk" not in told(desk, "risk_decided")[-1]["after"]


async def test_what_is_held_takes_its_room_where_a_past_is_asked_for(desk: Any, past: Any, open_feed: Any) -> None:
    wide = await gate(desk, past, open_feed)
    service = replace(wide, profile=replace(wide.profile, position_fraction_max=Decimal("0.25")))
    await desk.commit(Position("IBM", 200, Decimal(-20_800), Decimal(0), desk.clock.now()))
    cut, free = await judged(desk, service, ("IBM", 100), ("MSFT", 100))
    assert (cut.verdict, cut.code) == (Verdict.REDUCED, RiskCode.POSITION_SIZE)
    assert cut.notional <= 4_200 < cut.notional / cut.quantity * (cut.quantity + 1)
    assert free.verdict is Verdict.APPROVED


async def test_without_any_history_nothing_new_is_risked(desk: Any, past: Any, open_feed: Any) -> None:
    past.history = history_of(past, np.empty((0, 4)))
    service = await gate(desk, past, open_feed)
    (refused,) = await judged(desk, service, ("IBM", 10))
    assert (refused.verdict, refused.code) == (Verdict.REFUSED, RiskCode.VALUE_AT_RISK)
    assert told(desk, "risk_gathered")[0]["history"] == ""


async def test_a_short_trade_relieves_a_long_book(desk: Any, past: Any, open_feed: Any) -> None:
    service = await gate(desk, past, open_feed)
    run = await desk.run()
    await desk.planned(run, "IBM", 100, score=0.9)
    await desk.planned(run, "MSFT", 100, side=Side.SELL, score=0.8)
    await gather(desk, service, run)
    await judge(desk, service, run)
    long, both = told(desk, "risk_decided")
    assert abs(float(both["after"]["beta"])) < float(long["after"]["beta"])


async def test_drawdown_repeats_and_day_trades_are_what_the_store_holds(desk: Any, past: Any, open_feed: Any) -> None:
    day = desk.session.date
    at = desk.session.opens_at - timedelta(days=1)
    await desk.commit(AccountSnapshot(day - timedelta(days=1), "OPEN", at, Decimal(1), Decimal(120_000), 0, 0))
    service = await gate(desk, past, open_feed, entries_per_symbol_max=1)
    snapshot = await _snapshot_of(desk, service, ("IBM", 10))
    assert snapshot.ranked[0].past.peak_equity == Decimal(120_000)
    first = await desk.approved("IBM", 10)
    await desk.commit(*await _round_trip(desk, first, Decimal(104), Decimal(103)))
    seen = (await _snapshot_of(desk, service, ("IBM", 10), entry="later")).ranked[0].past
    assert seen.entries_today == 2, "one that was sent, and one that was approved and not sent yet"
    assert (seen.day_trades, seen.sold_at_loss) == (1, True)
    (again,) = await judged(desk, service, ("IBM", 10), entry="last")
    assert (again.verdict, again.code) == (Verdict.REFUSED, RiskCode.REPEATED_ENTRY)
    assert seen.dollar_volume_mean == 9e8


async def _round_trip(desk: Any, plan: Any, bought: Decimal, sold: Decimal) -> list[Fill]:
    """In and out again, under the order that was committed for the plan."""
    job = desk.job("execute", decision_id=plan.decision_id)
    await desk.commit(await ExecutionService(desk.clock, brackets=True).execute(job, desk.reads))
    order, now = desk.reads.find(OrderIntent, decision_id=plan.decision_id, leg=Leg.ENTRY)[0].client_order_id, desk.clock.now()
    sides = ((Side.BUY, bought), (Side.SELL, sold))
    return [Fill(f"{order} {s}", order, plan.decision_id, plan.symbol, s, 10, price, Decimal(0), now) for s, price in sides]


async def _snapshot_of(desk: Any, service: RiskService, *plans: tuple[str, int], **more: Any) -> Any:
    run = await desk.run(**more)
    for symbol, quantity in plans:
        await desk.planned(run, symbol, quantity)
    await gather(desk, service, run)
    await judge(desk, service, run)
    return desk.reads.get(RiskSnapshot, run)


async def test_a_gain_and_a_loss_long_ago_are_no_wash_sales(desk: Any, past: Any) -> None:
    gain = await desk.approved("IBM", 10)
    await desk.commit(*await _round_trip(desk, gain, Decimal(103), Decimal(104)))
    loss = await desk.approved("MSFT", 10)
    await desk.commit(*await _round_trip(desk, loss, Decimal(104), Decimal(103)))
    today = desk.session.date
    assert account_past(desk.reads, today).sold_at_loss == {"MSFT"}
    assert account_past(desk.reads, today).day_trades == 2
    later = account_past(desk.reads, today + timedelta(days=31))
    assert (later.sold_at_loss, later.day_trades) == (frozenset(), 0)


async def _measured(market: Any, desk: Any, *symbols: str, **policy: Any) -> MeasuredHistory | None:
    return await returns_of(market, **policy).of(desk.session, frozenset(symbols))


async def test_a_history_is_the_last_days_of_the_symbols_that_are_known(desk: Any, past: Any) -> None:
    whole = await _measured(past, desk, "IBM", "MSFT")
    assert whole is not None
    assert (whole.days, list(whole.history.column)) == (100, ["IBM", "MSFT"])
    past.history.close[:40, 3] = np.nan  # MSFT has 80 returns
    young = await _measured(past, desk, "IBM", "MSFT")
    assert young is not None
    assert young.days == 80
    assert young.digest != whole.digest
    past.history.close[:70, 3] = np.nan
    without = await _measured(past, desk, "IBM", "MSFT")
    assert without is not None
    assert list(without.history.column) == ["AAPL", "IBM"], "one alone has no covariance"
    assert (without.days, await _measured(past, desk, days_min=101)) == (100, None)


async def test_the_market_is_the_index_that_is_named_or_the_mean_of_all(desk: Any, past: Any) -> None:
    of_index = await _measured(past, desk, "IBM", "MSFT", index=2)
    assert of_index is not None
    assert of_index.history.betas[0] == pytest.approx(1.0)
    of_mean = await _measured(past, desk, "AAPL", "GOOG", "IBM", "MSFT")
    assert of_mean is not None
    assert of_mean.history.betas.mean() == pytest.approx(1.0)
    past.history.close[60:70, 2] = np.nan
    assert await _measured(past, desk, "AAPL", "MSFT", index=2) is None, "an index with a hole measures nothing"


async def test_who_reads_more_years_measures_a_book_on_the_same_days(desk: Any, past: Any) -> None:
    closes = 100.0 * np.cumprod(1.0 + np.vstack((np.zeros(4), returns_with_factors(4, 900, 4) / 10)), axis=0)
    whole = history_of(past, closes)  # 900 days before 2008-10-01

    class Dated:
        symbols = past.symbols

        async def daily_history(self, _session: Any, first: Any) -> Any:
            rows = [row for row, day in enumerate(whole.sessions) if day >= first]
            return history_of(past, closes[rows[0] :])

    source: Any = Dated()
    found = [
        await ReturnHistory(source, replace(POLICY, days_max=900, years=years), asyncio.to_thread).of(
            desk.session, frozenset(past.symbols)
        )
        for years in (1, 2, 4)
    ]
    assert {one.digest for one in found if one is not None} == {found[0].digest if found[0] else ""}
    assert [one.days for one in found if one is not None] == [638, 638, 638]


async def test_opening_a_session_reads_its_history_and_the_first_run_reads_no_more(desk: Any, past: Any, open_feed: Any) -> None:
    asked = []

    class Listening:
        symbols = past.symbols

        async def daily_history(self, session: Any, first: Any) -> Any:
            asked.append(session)
            return past.history

    returns = returns_of(Listening())
    feed = Feed(past, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(past), returns=returns)
    await feed.open_session(desk.session, ())
    opened = list(asked)
    service = replace(await gate(desk, past, open_feed), returns=returns)
    await judged(desk, service, ("IBM", 10), ("MSFT", 10))

    assert opened == asked == [desk.session]


async def test_a_lock_of_one_strategy_is_nothing_to_the_peak_of_the_account(desk: Any, past: Any, open_feed: Any) -> None:
    """It is no change of the trading state: a plan of another strategy is judged as before."""
    service = await gate(desk, past, open_feed)
    await desk.kill_switch.lock_strategy("second", "fills look wrong", "ann")
    (verdict,) = await judged(desk, service, ("IBM", 10))

    assert verdict.verdict is Verdict.APPROVED


async def test_a_source_that_is_away_measures_nothing_now_and_is_asked_again(desk: Any, past: Any) -> None:
    class Away:
        symbols, away = past.symbols, True

        async def daily_history(self, *_: object) -> Any:
            if self.away:
                raise Transient("no answer")
            return past.history

    source = Away()
    history = returns_of(source)
    assert await history.of(desk.session, frozenset({"IBM"})) is None
    source.away = False
    found = await history.of(desk.session, frozenset({"IBM"}))
    assert found is not None
    assert await history.of(desk.session, frozenset({"IBM"})) is found
    assert isinstance(Book.of(found.history, {"IBM": 1.0}), Book)


async def test_a_market_that_never_moved_measures_nothing(desk: Any, past: Any) -> None:
    past.history.close[:, 2] = 100.0

    assert await _measured(past, desk, "AAPL", "MSFT", index=2) is None
    assert await _measured(past, desk, "AAPL", "MSFT") is not None


def test_no_day_at_all_is_known_of_nobody() -> None:
    nothing = DailyReturns((), np.empty((0, 3)), np.empty(0))

    assert nothing.known_days().tolist() == [0, 0, 0]
    assert nothing.last(5).days == ()
