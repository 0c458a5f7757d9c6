"""What the gate would have said to one more trade: at the account, its state, its locks and its losses of that instant."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.unit.quant.risk.test_hierarchical_parity import returns_with_factors
from tests.unit.services.pipeline.test_allocation import history_of
from tests.unit.services.pipeline.test_risk_past import WIDE
from tests.unit.services.reporting.test_risk_report import PROFILE, SECTORS, Account, a_candidate, fill_of, held, order_of

from finagent.domain.bars import BarQuality
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import BadInput
from finagent.domain.identity import decision_id
from finagent.domain.orders import OrderState, Side
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.risk import RiskCode, Verdict
from finagent.domain.trading_state import TradingState, TradingStateRecord
from finagent.services.market_data.return_history import ReturnHistory, ReturnHistoryPolicy
from finagent.services.reporting.what_if import Answer, Wish, what_if


@pytest.fixture
def desk() -> Account:
    return Account()


@pytest.fixture
def past(market: Any) -> Any:
    """400 days of four symbols that end at 100 USD, where they stand today."""
    closes = np.cumprod(1.0 + np.vstack((np.zeros(4), returns_with_factors(4, 400, 4) / 10)), axis=0)
    market.history = history_of(market, 100.0 * closes / closes[-1])
    for column in (market.bars.open, market.bars.high, market.bars.low, market.bars.close):
        column[:] = 100.0
    return market


async def asked(desk: Account, market: Any, at: datetime | None = None, **changed: Any) -> Answer:
    wish = Wish(changed.get("symbol", "AAPL"), changed.get("side", Side.BUY), changed.get("quantity", 10), changed.get("price"))
    returns = ReturnHistory(market, ReturnHistoryPolicy(500, 40, 5, None), asyncio.to_thread)
    profile = replace(PROFILE, portfolio=changed.get("limits", WIDE))
    when = at or desk.clock.now()
    return await what_if(desk.reads, market, when, wish, profile, SECTORS, 0, returns, changed.get("held_back", ""))


def refused_by(answer: Answer) -> set[RiskCode]:
    return {check.code for check in answer.verdict.checks if check.allowed_quantity == 0}


def told(desk: Account, kind: str, minute: float, subject: str = "account", **body: Any) -> None:
    desk.commit(DecisionEvent(SubjectType.ACCOUNT, subject, kind, desk.minute(minute), body=body))


async def test_a_trade_within_all_limits_passes_and_the_book_after_it_is_told(desk: Account, past: Any) -> None:
    held(desk)
    answer = await asked(desk, past, quantity=10)

    assert (answer.verdict.verdict, answer.warnings) == (Verdict.APPROVED, ())
    assert answer.after["position"] == "1000.00"
    assert answer.after["gross"] == str(Decimal(30_000 + 5_050 + 1_000) + Decimal("0.00"))
    assert float(answer.after["value_at_risk"]) > 0


async def test_what_is_held_and_what_waits_takes_its_room(desk: Account, past: Any) -> None:
    held(desk)  # 20,000 USD of IBM and 5,050 of MSFT that wait, all technology; 99,998 USD of equity
    one, other = (
        await asked(desk, past, symbol="IBM", quantity=100),
        await asked(desk, past, symbol="MSFT", quantity=900),
    )

    assert (one.verdict.code, one.verdict.quantity) == (RiskCode.POSITION_SIZE, 49)
    assert (other.verdict.code, other.verdict.quantity) == (RiskCode.POSITION_SIZE, 199)


async def test_the_trading_state_is_that_of_the_instant(desk: Account, past: Any) -> None:
    for before, after, minute in (("ACTIVE", "HALTED", 2), ("HALTED", "ACTIVE", 4)):
        body = {"from": before, "to": after, "reason": "a test", "by": "ann"}
        at = desk.minute(minute)
        desk.commit(DecisionEvent(SubjectType.TRADING_STATE, "account", "trading_state_changed", at, body=body))
    desk.reads.records = [one for one in desk.reads.records if not isinstance(one, TradingStateRecord)]
    desk.commit(TradingStateRecord(1, TradingState.ACTIVE, "a test", "ann", desk.minute(4)))

    codes = [(await asked(desk, past, desk.minute(minute))).verdict.code for minute in (1, 3, 5)]
    assert codes == [RiskCode.OK, RiskCode.TRADING_STATE, RiskCode.OK]


async def test_symbol_locks_are_those_of_the_instant(desk: Account, past: Any) -> None:
    told(desk, "symbol_locked", 2, symbol="AAPL", reason="not ours", by="reconciliation")
    told(desk, "symbol_released", 4, symbol="AAPL", by="ann")
    told(desk, "symbol_locked", 4, symbol="GOOG", reason="not ours", by="reconciliation")

    codes = [(await asked(desk, past, desk.minute(minute))).verdict.code for minute in (1, 3, 5)]
    assert codes == [RiskCode.OK, RiskCode.SYMBOL_LOCKED, RiskCode.OK]
    assert (await asked(desk, past, symbol="GOOG")).verdict.code is RiskCode.SYMBOL_LOCKED


async def test_a_parked_entry_locks_its_symbol_from_then_until_it_is_found(desk: Account, past: Any) -> None:
    desk.commit(*order_of(desk, "AAPL", 10, 1, state=OrderState.CANCELLED, updated_at=desk.minute(4)))
    decision = decision_id("run-1", "AAPL")
    told(desk, "order_parked", 2, decision, client_order_id="fa-AAPL")
    told(desk, "order_reported", 3, decision, client_order_id="another one")
    told(desk, "order_reported", 4, decision, client_order_id="fa-AAPL")

    locked = [RiskCode.SYMBOL_LOCKED in refused_by(await asked(desk, past, desk.minute(minute))) for minute in (1.5, 3, 4.5)]
    assert locked == [False, True, False]


async def test_a_locked_strategy_is_warned_of_while_it_was_locked(desk: Account, past: Any) -> None:
    told(desk, "strategy_locked", 2, strategy="first", reason="fills look wrong", by="ann")
    told(desk, "strategy_released", 4, strategy="first", reason="looked", by="ann")

    warned = [(await asked(desk, past, desk.minute(minute))).warnings for minute in (1, 3, 5)]
    assert warned == [(), ("strategy first is locked: fills look wrong; its own plans are refused",), ()]


async def test_the_loss_of_the_day_is_that_of_the_instant(desk: Account, past: Any) -> None:
    desk.commit(a_candidate(desk, "GOOG"), fill_of(desk, "GOOG", 300, 2), fill_of(desk, "GOOG", 300, 4, Side.SELL, price="92.00"))

    codes = [(await asked(desk, past, desk.minute(minute))).verdict.code for minute in (1, 3, 5)]
    assert codes == [RiskCode.OK, RiskCode.OK, RiskCode.DAILY_LOSS]


async def test_day_trades_and_wash_sales_are_those_of_the_instant(desk: Account, past: Any) -> None:
    desk.commit(a_candidate(desk, "GOOG"), fill_of(desk, "GOOG", 30, 2), fill_of(desk, "GOOG", 30, 4, Side.SELL, price="99.00"))
    limits = replace(WIDE, day_trade_equity_min=Decimal(10**9))
    answers = [await asked(desk, past, desk.minute(minute), symbol="GOOG", limits=limits) for minute in (1, 3, 5)]

    counted = [check.value for one in answers for check in one.verdict.checks if check.code is RiskCode.DAY_TRADES]
    assert counted == [1, 2, 2]
    assert ["wash sale" in " ".join(one.warnings) for one in answers] == [False, False, True]


async def test_who_wants_to_sell_what_is_held_is_told_that_exits_are_free(desk: Account, past: Any) -> None:
    held(desk)
    sold, bought = await asked(desk, past, symbol="IBM", side=Side.SELL), await asked(desk, past, symbol="IBM")

    assert sold.verdict.code is RiskCode.SHORT_SELLING
    assert sold.warnings == ("200 shares of IBM are held: to close them is an exit, which no limit stops",)
    assert not any("exit" in warning for warning in bought.warnings)


async def test_what_stops_new_risk_beside_the_store_refuses(desk: Account, past: Any) -> None:
    answer = await asked(desk, past, held_back="HALT file")

    assert (answer.verdict.code, answer.verdict.quantity) == (RiskCode.TRADING_STATE, 0)
    assert answer.warnings == ("nothing new passes: HALT file",)


async def test_a_session_whose_open_is_not_known_has_no_known_loss(desk: Account, past: Any) -> None:
    desk.reads.records = [one for one in desk.reads.records if not isinstance(one, AccountSnapshot)]
    answer = await asked(desk, past)

    assert (answer.verdict.code, answer.verdict.quantity) == (RiskCode.DAILY_LOSS, 0)
    assert "nor is the day's loss" in answer.warnings[0]


async def test_a_price_is_as_old_as_its_minute(desk: Account, past: Any) -> None:
    past.bars.quality[3:, past.symbols.index("AAPL")] = BarQuality.MISSING
    fresh, stale = await asked(desk, past, desk.minute(6)), await asked(desk, past, desk.minute(7))

    ages = [{check.code: check for check in answer.verdict.checks}[RiskCode.STALE_PRICE] for answer in (fresh, stale)]
    assert [(check.value, check.allowed_quantity) for check in ages] == [(Decimal("180.0"), 10), (Decimal("240.0"), 0)]
    at_the_open = await asked(desk, past, desk.session.opens_at)
    assert RiskCode.STALE_PRICE in refused_by(at_the_open)


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"symbol": "NOSUCH"}, "not in the universe"),
        ({"quantity": 0}, "between 1 and 1,000,000,000"),
        ({"quantity": 10**23}, "between 1 and 1,000,000,000"),
        ({"price": Decimal("NaN")}, "a price of cents"),
        ({"price": Decimal("0.01")}, "a price of cents"),
        ({"price": Decimal("1e400")}, "a price of cents"),
    ],
)
async def test_what_cannot_be_a_trade_is_refused_by_name(desk: Account, past: Any, wish: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        await asked(desk, past, **wish)


async def test_an_instant_before_the_data_is_refused_by_name(desk: Account, past: Any) -> None:
    with pytest.raises(BadInput, match="the first session of the market data"):
        await asked(desk, past, desk.session.opens_at - timedelta(days=900))
