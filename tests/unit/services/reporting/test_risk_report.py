"""The risk report: the account as it stood, the gate's own measure of it, every number in the JSON, a sound page."""

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.unit.conftest import MemoryReads
from tests.unit.quant.risk.test_hierarchical_parity import returns_with_factors
from tests.unit.services.conftest import CASH, DAY, OPEN, SESSION
from tests.unit.services.pipeline.test_allocation import history_of

from finagent.adapters.clock import VirtualClock
from finagent.domain.bars import BarQuality
from finagent.domain.circuit_breakers import BreakerLimits
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import BadInput
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.identity import decision_id
from finagent.domain.money import ZERO
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
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.risk import CheckResult, PortfolioLimits, RiskCode, RiskDecision, RiskProfile, Verdict
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import LedgerIdentity, TradingState, TradingStateRecord
from finagent.quant.risk.exposure import Book, History
from finagent.services.market_data.return_history import ReturnHistory, ReturnHistoryPolicy
from finagent.services.reporting.risk_figures import RiskReport, document, instant, risk_report
from finagent.services.reporting.risk_measures import RiskReportPolicy
from finagent.services.reporting.risk_page import risk_page

POLICY = RiskReportPolicy(history_sessions=400, window_sessions=250, symbols_max=30, weight_max=0.25, bad_bars_max=0)
PROFILE = RiskProfile(
    Decimal("0.25"), Decimal("0.5"), Decimal("1.5"), Decimal("0.02"), 5, 20, 60, Decimal("0.03"), 180.0, short_selling=False
)
BREAKERS = BreakerLimits(Decimal("0.02"), Decimal("0.1"), Decimal(50), 2, 5, Decimal("0.5"))
SECTORS = {"IBM": "technology", "MSFT": "technology", "GOOG": "communication"}


class Account:
    """100,000 USD, five minutes into the session of 2008-10-01; `commit` keeps records as they are."""

    def __init__(self) -> None:
        self.session, self.clock = SESSION, VirtualClock(OPEN + timedelta(minutes=5))
        self.reads = MemoryReads(
            [
                LedgerIdentity(1, "led-test", "SIM-1", 7, "", str(CASH), "settings", OPEN),
                TradingStateRecord(1, TradingState.ACTIVE, "first start", "test", OPEN),
                AccountSnapshot(DAY, "OPEN", OPEN, CASH, CASH, 0, 0),
            ]
        )

    def minute(self, minute: float) -> datetime:
        return OPEN + timedelta(minutes=minute)

    def commit(self, *records: Any) -> None:
        self.reads.records += records


@pytest.fixture
def desk() -> Account:
    return Account()


@pytest.fixture
def past(market: Any) -> Any:
    """400 days of four symbols that end at 100 USD."""
    moves = returns_with_factors(4, 400, 4) / 10
    closes = np.cumprod(1.0 + np.vstack((np.zeros(4), moves)), axis=0)
    market.history = history_of(market, 100.0 * closes / closes[-1])
    return market


async def report_of(desk: Any, market: Any, at: datetime | None = None, **changed: Any) -> RiskReport:
    return await risk_report(
        desk.reads,
        market,
        at or desk.clock.now(),
        changed.get("profile", PROFILE),
        BREAKERS,
        SECTORS,
        changed.get("policy", POLICY),
        ReturnHistory(market, ReturnHistoryPolicy(500, 40, 5, changed.get("index"), 2), asyncio.to_thread),
        ("written by a test", "led-test"),
    )


def order_of(desk: Any, symbol: str, quantity: int, minute: float, side: Side = Side.BUY, **changed: Any) -> list[Any]:
    """An entry order as committed and sent."""
    decision, name = decision_id("run-1", symbol), f"fa-{symbol}"
    at = desk.minute(minute)
    intent = OrderIntent(
        client_order_id=name,
        decision_id=decision,
        symbol=symbol,
        leg=Leg.ENTRY,
        generation=1,
        side=side,
        quantity=quantity,
        type=OrderType.STOP_LIMIT,
        limit_price=Decimal("101.00"),
        stop_price=Decimal("100.50"),
        order_class=OrderClass.BRACKET,
        time_in_force=TimeInForce.DAY,
        parent_client_order_id=None,
        rank=0,
        reason="",
        committed_at=at,
        valid_until=desk.minute(30),
    )
    order = BrokerOrder(
        name, decision, symbol, None, Leg.ENTRY, None, "b-1", OrderState.ACCEPTED, 0, None, SendOutcome.CONFIRMED, "", 1, at, at
    )
    return [intent, replace(order, **changed)]


def a_candidate(desk: Any, symbol: str) -> GapCandidate:
    facts = GapFacts(0.04, 100.0, 104.0, 104.0, 102.0, 103.9, 2e6, 2.0, 9e8, 5)
    return GapCandidate(decision_id("run-1", symbol), "run-1", symbol, DAY, Direction.UP, "trace", desk.minute(3), facts)


def fill_of(desk: Any, symbol: str, quantity: int, minute: float, side: Side = Side.BUY, price: str = "100.00") -> Fill:
    decision = decision_id("run-1", symbol)
    name = f"{symbol}-{minute}"
    return Fill(name, f"fa-{symbol}", decision, symbol, side, quantity, Decimal(price), Decimal("1.00"), desk.minute(minute))


def held(desk: Any) -> None:
    """200 IBM and 100 GOOG, bought at 100 in the second minute; 50 MSFT wait at 101."""
    desk.commit(
        *order_of(desk, "IBM", 200, 1, state=OrderState.FILLED, filled_quantity=200, updated_at=desk.minute(2)),
        *order_of(desk, "GOOG", 100, 1, state=OrderState.FILLED, filled_quantity=100, updated_at=desk.minute(2)),
        *order_of(desk, "MSFT", 50, 4.5),
        fill_of(desk, "IBM", 200, 2),
        fill_of(desk, "GOOG", 100, 2),
    )


async def test_the_book_is_what_fills_and_waiting_entries_made_it(desk: Any, past: Any) -> None:
    past.bars.close[4, past.symbols.index("IBM")] = 102.0
    held(desk)
    found = await report_of(desk, past)
    lines = {one.symbol: one for one in found.holdings}

    assert [one.symbol for one in found.holdings] == ["IBM", "GOOG", "MSFT"]
    assert (lines["IBM"].position_usd, lines["IBM"].ordered_usd) == (Decimal(20_400), Decimal(0))
    assert (lines["MSFT"].shares, lines["MSFT"].ordered_usd) == (0, Decimal(5_050))
    assert (found.gross_usd, found.net_usd) == (Decimal(35_450), Decimal(35_450))
    assert found.sectors == {"technology": Decimal(25_450), "communication": Decimal(10_000)}
    assert found.equity == Decimal(100_398)  # 100,000 and 200 x 2 USD less two fees
    assert found.gross_leverage == pytest.approx(35_450 / 100_398)
    assert found.notes == ()


async def test_a_short_position_takes_from_net_and_adds_to_gross(desk: Any, past: Any) -> None:
    desk.commit(fill_of(desk, "IBM", 100, 1), fill_of(desk, "GOOG", 40, 1, Side.SELL))
    found = await report_of(desk, past)

    assert (found.gross_usd, found.net_usd) == (Decimal(14_000), Decimal(6_000))


async def test_value_at_risk_is_the_one_that_the_gate_reads(desk: Any, past: Any) -> None:
    """And its parts sum to it; the back-test of a day is the same measure on the days before that one."""
    held(desk)
    found = await report_of(desk, past)
    closes = past.history.close
    returns = (closes[1:] / closes[:-1] - 1.0)[-250:]
    usd = {one.symbol: float(one.exposure_usd) for one in found.holdings}
    gate = Book.of(History.measured(past.symbols, returns, returns.mean(axis=1)), usd)

    assert found.forecasts[0].value_at_risk_usd == pytest.approx(gate.tail().value_at_risk)
    assert found.forecasts[0].expected_shortfall_usd == pytest.approx(gate.tail().expected_shortfall)
    assert sum(one.component_usd or 0.0 for one in found.holdings) == pytest.approx(gate.tail().value_at_risk)
    assert found.backtest is not None
    assert len(found.backtest.days) == 150
    yesterday = (closes[1:] / closes[:-1] - 1.0)[-251:-1]
    before = Book.of(History.measured(past.symbols, yesterday, yesterday.mean(axis=1)), usd)
    assert found.backtest.value_at_risk_usd[-1] == pytest.approx(before.tail().value_at_risk)
    breaches = sum(p < -v for p, v in zip(found.backtest.profit_usd, found.backtest.value_at_risk_usd, strict=True))
    assert found.forecasts[0].coverage is not None
    assert (found.forecasts[0].coverage.breaches, found.forecasts[0].coverage.days) == (breaches, 150)
    assert [one.coverage is not None for one in found.forecasts] == [True, True, True]


async def test_an_earlier_instant_knows_nothing_of_what_came(desk: Any, past: Any) -> None:
    held(desk)
    before = await report_of(desk, past, desk.minute(3))
    past.bars.close[3:] = 55.0
    desk.commit(fill_of(desk, "IBM", 200, 4, Side.SELL, "90.00"))

    assert await report_of(desk, past, desk.minute(3)) == before
    assert [one.symbol for one in before.holdings] == ["IBM", "GOOG"]
    assert (await report_of(desk, past, desk.minute(0.5))).holdings == ()


async def test_an_entry_counts_from_its_commit_to_its_end(desk: Any, past: Any) -> None:
    desk.commit(*order_of(desk, "IBM", 10, 1, state=OrderState.CANCELLED, updated_at=desk.minute(3)))

    gross = [(await report_of(desk, past, desk.minute(minute))).gross_usd for minute in (0.5, 1, 2.9, 3)]
    assert gross == [0, Decimal(1_010), Decimal(1_010), 0]


async def test_an_order_that_was_never_sent_binds_nothing(desk: Any, past: Any) -> None:
    desk.commit(*order_of(desk, "IBM", 10, 1, outcome=SendOutcome.DENIED))

    assert (await report_of(desk, past)).holdings == ()


async def test_an_empty_book_gives_a_page_that_says_so_and_when_to_ask(desk: Any, past: Any) -> None:
    nothing = await report_of(desk, past)
    desk.commit(fill_of(desk, "IBM", 10, 1), fill_of(desk, "IBM", 10, 2, Side.SELL, "99.00"))
    flat = await report_of(desk, past)

    assert "nothing was ever traded" in nothing.notes[0]
    assert desk.minute(1).isoformat() in flat.notes[0]
    for found in (nothing, flat):
        page = risk_page(found)
        assert "The book is empty" in page
        assert "Nothing is at risk" in page
        assert found.forecasts == ()


async def test_a_symbol_without_history_is_named_and_left_out_of_what_needs_one(desk: Any, past: Any) -> None:
    past.history.close[-30:-12, past.symbols.index("GOOG")] = np.nan
    held(desk)
    found = await report_of(desk, past)
    lines = {one.symbol: one for one in found.holdings}

    assert "for want of 250 sessions of history: GOOG (11)" in found.notes[0]
    assert (lines["GOOG"].beta, lines["GOOG"].component_usd) == (None, None)
    assert lines["IBM"].component_usd is not None
    assert "GOOG" not in (found.tree.symbols if found.tree else ())
    assert ">unknown<" in risk_page(found)


async def test_a_symbol_that_the_market_has_not_makes_equity_unknown(desk: Any, past: Any) -> None:
    desk.commit(fill_of(desk, "ZZZZ", 10, 1), fill_of(desk, "IBM", 10, 1))
    found = await report_of(desk, past)

    assert (found.equity, found.gross_leverage) == (None, None)
    assert "No price for ZZZZ" in found.notes[0]
    assert risk_page(found)


async def test_a_history_too_short_for_a_back_test_has_forecasts_all_the_same(desk: Any, past: Any) -> None:
    held(desk)
    found = await report_of(desk, past, policy=replace(POLICY, history_sessions=280))

    assert found.backtest is None
    assert [one.coverage for one in found.forecasts] == [None, None, None]
    assert "Too few days" in risk_page(found)


async def test_limits_show_what_is_used_and_of_what(desk: Any, past: Any) -> None:
    held(desk)
    limits = {gauge.name: gauge for gauge in (await report_of(desk, past)).limits}

    assert limits["POSITION_SIZE"].detail == "IBM"
    assert limits["POSITION_SIZE"].utilisation == pytest.approx(20_000 / 99_998 / 0.25, abs=1e-5)
    assert not any(gauge.used_up for gauge in limits.values())
    assert (limits["SECTOR_EXPOSURE"].detail, limits["POSITION_COUNT"].value) == ("technology", Decimal(3))
    assert (limits["ORDER_COUNT"].value, limits["MESSAGE_RATE"].value) == (Decimal(3), Decimal(1))
    assert "VALUE_AT_RISK" not in limits


async def test_limits_of_the_past_are_there_where_they_are_in_force(desk: Any, past: Any) -> None:
    held(desk)
    in_force = PortfolioLimits(
        drawdown_fraction_max=Decimal("0.1"),
        order_notional_max=Decimal(40_000),
        entries_per_symbol_max=2,
        value_at_risk_fraction_max=Decimal("0.02"),
        beta_max=Decimal("1.5"),
    )
    found = await report_of(desk, past, profile=replace(PROFILE, portfolio=in_force))
    limits = {gauge.name: gauge for gauge in found.limits}

    closes = past.history.close
    returns = closes[1:] / closes[:-1] - 1.0
    usd = {one.symbol: float(one.exposure_usd) for one in found.holdings}
    gate = Book.of(History.measured(past.symbols, returns, returns.mean(axis=1)), usd)
    assert float(limits["VALUE_AT_RISK"].value or 0) == pytest.approx(gate.tail().value_at_risk / 99_998, abs=1e-6)
    assert float(limits["BETA"].value or 0) == pytest.approx(gate.beta / 99_998, abs=1e-6)
    assert (limits["ORDER_NOTIONAL"].value, limits["REPEATED_ENTRY"].value) == (Decimal(20_200), Decimal(1))


async def test_a_book_that_the_gate_cannot_measure_says_so(desk: Any, past: Any) -> None:
    past.history.close[:380, past.symbols.index("GOOG")] = np.nan
    held(desk)
    in_force = PortfolioLimits(value_at_risk_fraction_max=Decimal("0.02"), beta_max=Decimal("1.5"))
    found = await report_of(desk, past, profile=replace(PROFILE, portfolio=in_force))
    limits = {gauge.name: gauge for gauge in found.limits}

    assert [limits[name].value for name in ("VALUE_AT_RISK", "BETA")] == [None, None]
    assert "nothing new passes" in limits["VALUE_AT_RISK"].detail
    assert "GOOG (20)" in found.notes[0]


async def test_of_what_is_asked_of_a_plan_the_plan_of_the_day_that_used_most_is_shown(desk: Any, past: Any) -> None:
    desk.commit(PipelineRun("run-1", "first", DAY, desk.minute(1), RunState.SUCCESS, 4, 2, 0, {}, "", None))
    for symbol, minute, distance in (("IBM", 1, "0.012"), ("GOOG", 2, "0.021"), ("MSFT", 4, "0.029")):
        name = decision_id("run-1", symbol)
        ladder = (Decimal("104.01"), Decimal("104.27"), Decimal("102.00"), Decimal("108.03"))
        checks = (
            CheckResult(RiskCode.PRICE_COLLAR, Decimal("0.03"), Decimal(distance), 0),
            CheckResult(RiskCode.POSITION_SIZE, Decimal(25_000), Decimal(1), 0),
            CheckResult(RiskCode.PARTICIPATION, Decimal(0), Decimal(100), 0),
        )
        desk.commit(
            TradePlan(name, "run-1", symbol, Side.BUY, 100, *ladder, desk.minute(30), "by hand"),
            RiskDecision(
                name, "run-1", 0, Verdict.REFUSED, RiskCode.PRICE_COLLAR, ZERO, ZERO, 0, ZERO, checks, desk.minute(minute)
            ),
        )
    collar, participation = (await report_of(desk, past, desk.minute(3))).plan_limits

    assert (collar.name, collar.detail, collar.value) == ("PRICE_COLLAR", "GOOG", Decimal("0.021"))
    assert collar.unit.value == "fraction of the price"
    assert (participation.name, participation.utilisation) == ("PARTICIPATION", None)
    assert "of a plan" in risk_page(await report_of(desk, past)).lower()
    assert (await report_of(desk, past, desk.minute(0.5))).plan_limits == ()


async def test_a_limit_of_zero_allows_nothing_and_says_so(desk: Any, past: Any) -> None:
    found = await report_of(desk, past, profile=replace(PROFILE, positions_max=0))

    count = next(gauge for gauge in found.limits if gauge.name == "POSITION_COUNT")
    assert (count.utilisation, count.used_up) == (None, True)
    assert "0, allows nothing" in risk_page(found)


async def test_breakers_read_losses_data_and_slippage(desk: Any, past: Any) -> None:
    for symbol in ("IBM", "GOOG"):
        name, until = decision_id("run-1", symbol), desk.minute(30)
        ladder = (Decimal("104.01"), Decimal("104.27"), Decimal("102.00"), Decimal("108.03"))
        desk.commit(
            a_candidate(desk, symbol),
            TradePlan(name, "run-1", symbol, Side.BUY, 100, *ladder, until, "by hand"),
            order_of(desk, symbol, 100, 3)[0],
            fill_of(desk, symbol, 100, 4, price="104.53"),
        )
    past.bars.quality[1, :3] = BarQuality.BAD
    found = {gauge.name: gauge for gauge in (await report_of(desk, past)).breakers}

    assert found["SLIPPAGE"].value == pytest.approx(Decimal("49.995"), abs=Decimal("0.001"))  # 0.52 USD on 104.01
    assert found["DAILY_LOSS"].value == found["DRAWDOWN"].value == Decimal("0.00908")
    assert found["DATA_QUALITY"].value == Decimal("0.75")
    assert (found["DATA_QUALITY"].utilisation or 0) > 1.0
    assert found["REFUSALS"].value == 0


async def test_too_few_fills_say_nothing_of_slippage(desk: Any, past: Any) -> None:
    slippage = next(gauge for gauge in (await report_of(desk, past)).breakers if gauge.name == "SLIPPAGE")

    assert (slippage.value, slippage.detail) == (None, "then REDUCING; 0 of 2 fills needed")


async def test_the_trading_state_is_that_of_the_instant(desk: Any, past: Any) -> None:
    at = desk.minute(3)
    later = desk.minute(4)
    changes = (("ACTIVE", "HALTED", "a person saw something", at), ("HALTED", "ACTIVE", "it was nothing", later))
    for before, after, reason, when in changes:
        body = {"from": before, "to": after, "reason": reason, "by": "person"}
        desk.commit(DecisionEvent(SubjectType.TRADING_STATE, "account", "trading_state_changed", when, body=body))
    desk.reads.records = [one for one in desk.reads.records if not isinstance(one, TradingStateRecord)]
    desk.commit(TradingStateRecord(1, TradingState.ACTIVE, "it was nothing", "person", later))
    states = [(await report_of(desk, past, when)).state for when in (at - timedelta(minutes=1), at, later)]

    assert [state.state.value for state in states if state] == ["ACTIVE", "HALTED", "ACTIVE"]
    assert [state.reason for state in states if state] == ["first start", "a person saw something", "it was nothing"]


async def test_what_is_locked_is_told_first(desk: Any, past: Any) -> None:
    held(desk)
    for kind, body in (
        ("symbol_locked", {"symbol": "GOOG", "reason": "not ours", "by": "reconciliation"}),
        ("strategy_locked", {"strategy": "first", "reason": "fills look wrong", "by": "ann"}),
    ):
        desk.commit(DecisionEvent(SubjectType.ACCOUNT, "account", kind, desk.minute(2), body=body))
    before, after = await report_of(desk, past, desk.minute(1.5)), await report_of(desk, past)

    assert not any("ocked" in note for note in before.notes)
    assert after.notes == (
        "Locked, nothing new passes: GOOG.",
        "Strategy first is locked, its plans are refused: fills look wrong.",
    )
    assert "fills look wrong" in risk_page(after)


async def test_a_drawdown_adds_up_over_the_days(desk: Any, past: Any) -> None:
    for back, equity in ((3, 100_000), (2, 110_000), (1, 99_000)):
        day = date(2008, 10, 1) - timedelta(days=back)
        at = datetime(day.year, day.month, day.day, 20, tzinfo=UTC)
        desk.commit(AccountSnapshot(day, "CLOSE", at, Decimal(equity), Decimal(equity), 0, 0))
    found = await report_of(desk, past)

    assert [round(one.drawdown, 4) for one in found.falls] == [0.0, 0.0, 0.1, 0.0909, 0.0909]
    assert "deepest 10.00%" in risk_page(found)


async def test_the_map_stands_in_the_order_of_the_tree_and_its_merges_are_of_that_order(desk: Any, past: Any) -> None:
    held(desk)
    desk.commit(fill_of(desk, "AAPL", 1, 1), fill_of(desk, "AAPL", 1, 2, Side.SELL))
    tree = (await report_of(desk, past)).tree
    assert tree is not None
    members: list[set[int]] = [{leaf} for leaf in range(4)]
    for low, high, _ in tree.merges:
        members.append(members[low] | members[high])

    assert sorted(tree.symbols) == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert all(max(cluster) - min(cluster) == len(cluster) - 1 for cluster in members), "no branch crosses another"
    assert sum(tree.weights) == pytest.approx(1.0)
    assert max(tree.weights) <= 0.25 + 1e-12
    assert tree.held[tree.symbols.index("AAPL")] == 0.0
    first = past.symbols.index(tree.symbols[0]), past.symbols.index(tree.symbols[1])
    closes = past.history.close
    returns = (closes[1:] / closes[:-1] - 1.0)[-250:]
    assert tree.correlation[0][1] == pytest.approx(np.corrcoef(returns[:, first[0]], returns[:, first[1]])[0, 1], abs=1e-6)


async def test_one_symbol_has_no_map(desk: Any, past: Any) -> None:
    desk.commit(fill_of(desk, "IBM", 10, 1))
    found = await report_of(desk, past)

    assert found.tree is None
    assert found.holdings[0].component_usd == pytest.approx(found.forecasts[0].value_at_risk_usd)
    assert "Fewer than two symbols" in risk_page(found)


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers_of(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in numbers_of(inner)]
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, (int, float)):
        return [float(value)]
    return [float(value)] if re.fullmatch(r"-?\d+(\.\d+)?", value) else []


async def test_every_number_on_the_page_is_in_the_document(desk: Any, past: Any) -> None:
    """As it is, or in percent, rounded as the page rounds it; the axes of the drawings are left out."""
    held(desk)
    found = await report_of(desk, past)
    told = numbers_of(json.loads(json.dumps(document(found))))
    drawn = r'<svg[^>]*aria-label="(?:Profit|Drawdown).*?</svg>|<title>.*?</title>|<p class="window explain.*?</p>'
    apart = rf"<style>.*?</style>|<header>.*?</header>|<footer>.*?</footer>|<small>.*?</small>|{drawn}"
    page = re.sub(apart, " ", risk_page(found), flags=re.DOTALL)
    shown = re.findall(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e-\d+)?%?", re.sub(r"<[^>]+>", " ", page))
    missing = []
    for text in shown:
        plain, percent = text.rstrip("%").replace(",", ""), text.endswith("%")
        digits = plain.split("e")[0].partition(".")[2]
        step = 0.5 * 10.0 ** -len(digits) * (10.0 ** float(plain.split("e")[1]) if "e" in plain else 1.0)
        if not any(abs(float(plain) - number * (100.0 if percent else 1.0)) <= step * 1.001 for number in told):
            missing.append(text)

    assert len(shown) > 100
    assert missing == []


async def test_the_page_needs_nothing_else_and_its_drawings_are_well_formed(desk: Any, past: Any) -> None:
    held(desk)
    page = risk_page(await report_of(desk, past))
    drawings = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]

    assert not re.search(r"<script|<link|<img|https?:|url\(|@import", page)
    assert "prefers-color-scheme:dark" in page
    assert [drawing.attrib["aria-label"].split()[0] for drawing in drawings] == ["Profit", "Correlations", "Tree", "Drawdown"]


async def test_what_comes_from_outside_stays_text(desk: Any, past: Any) -> None:
    held(desk)
    found = await report_of(desk, past)
    evil = "<script>alert(1)</script>"
    holding, tree = found.holdings[0], found.tree
    assert tree is not None
    page = risk_page(
        replace(
            found,
            notice=evil,
            notes=(evil,),
            holdings=(replace(holding, symbol=evil, sector=evil),),
            sectors={evil: Decimal(1)},
            tree=replace(tree, symbols=(evil, *tree.symbols[1:])),
        )
    )

    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6


@pytest.mark.parametrize("symbols", [2, 30])
async def test_drawings_fit_their_frames(symbols: int, desk: Any, array_market: Any) -> None:
    """Two symbols or thirty: nothing is drawn outside the box that is shown."""
    names = tuple(f"SYMBOL{n:02d}" for n in range(symbols))
    market = array_market(names, desk.session)
    moves = returns_with_factors(8, 400, symbols) / 10
    market.history = history_of(market, 100.0 * np.cumprod(1.0 + np.vstack((np.zeros(symbols), moves)), axis=0))
    desk.commit(*(fill_of(desk, name, 10 + n, 1) for n, name in enumerate(names)))
    page = risk_page(await report_of(desk, market))

    for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        drawing = ElementTree.fromstring(text)
        _, _, width, height = map(float, drawing.attrib["viewBox"].split())
        for part in drawing.iter():
            x, y = float(part.attrib.get("x", 0)), float(part.attrib.get("y", 0))
            assert 0 <= x + float(part.attrib.get("width", 0)) <= width + 0.5
            assert 0 <= y + float(part.attrib.get("height", 0)) <= height + 0.5
    rows = re.findall(r'<text class="name" x="[\d.]+" y="([\d.]+)"', page)[-symbols:]
    assert min(np.diff([float(y) for y in rows])) >= 11


def test_an_instant_is_asked_for_with_its_zone_and_not_beyond_the_story() -> None:
    latest = datetime(2008, 10, 9, 15, tzinfo=UTC)

    assert instant(None, latest) == latest
    assert instant("2008-10-09T10:30:00-04:00", latest) == datetime(2008, 10, 9, 14, 30, tzinfo=UTC)
    for wrong, cure in (("noon", "such as"), ("2008-10-09T14:00:00", "distance from UTC"), ("2008-10-10T14:00:00Z", "ends at")):
        with pytest.raises(BadInput, match=cure):
            instant(wrong, latest)


async def test_before_the_first_session_there_is_no_book(desk: Any, past: Any) -> None:
    with pytest.raises(BadInput, match="first session of the market data opens at 2008-10-01"):
        await report_of(desk, past, datetime(2008, 9, 1, tzinfo=UTC))
