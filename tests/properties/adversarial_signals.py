"""Signals that want too much, before a gate whose every limit is near in turn; `ledger_replayer` trusts none of its verdicts.

`python -m tests.properties.adversarial_signals 1000000` prints the figures as JSON; it ends with 1 where a promise is not kept.
The gate is the product's: the checks, and the book that they measure.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from tests.properties.ledger_replayer import SECTORS, SYMBOLS, Account, Replayed, Signal, breaches, replayed

from finagent.domain.errors import BadInput
from finagent.domain.orders import Side
from finagent.domain.risk import (
    Exposure,
    Past,
    PortfolioLimits,
    RankedPlan,
    RiskCode,
    RiskDecision,
    RiskProfile,
    RiskSnapshot,
    Verdict,
)
from finagent.domain.risk_checks import Question, decide
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState
from finagent.quant.risk.exposure import Book, BookLimits, History

AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
DAYS, HISTORIES, PLANS_A_RUN = 120, 8, 5
TIGHT = [code for code in RiskCode if code is not RiskCode.OK]
SIZES = [  # limits that cut a plan, and do not only refuse it
    RiskCode.POSITION_SIZE,
    RiskCode.SECTOR_EXPOSURE,
    RiskCode.GROSS_LEVERAGE,
    RiskCode.ORDER_NOTIONAL,
    RiskCode.PARTICIPATION,
    RiskCode.VALUE_AT_RISK,
    RiskCode.BETA,
]
NEAR = TIGHT + 3 * SIZES
NONSENSE = (None, *map(Decimal, ("NaN", "Infinity", "-Infinity", "-5", "0")))

APPROVED_MIN, REDUCED_MIN, BINDING_MIN = 0.20, 0.10, 1e-3


@dataclass(frozen=True)
class Prices:
    """Past returns, the measure that the gate makes of them, and the replayer's own."""

    returns: Any
    market: Any
    history: History
    replayed: Replayed


@dataclass
class Told:
    """What came of all signals."""

    signals: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    binding: Counter[str] = field(default_factory=Counter)
    refused_at_the_edge: int = 0
    breaches: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        parts = {name: count / self.signals for name, count in self.verdicts.items()}
        missing = [code.value for code in TIGHT if self.binding[code.value] < BINDING_MIN * self.signals]
        held = not self.breaches and not missing
        held &= parts.get("APPROVED", 0) >= APPROVED_MIN and parts.get("REDUCED", 0) >= REDUCED_MIN
        return {
            "signals": self.signals,
            "parts": parts,
            "binding": dict(sorted(self.binding.items())),
            "bound_too_seldom": missing,
            "refused_at_the_edge": self.refused_at_the_edge,
            "breaches": len(self.breaches),
            "first_breaches": self.breaches[:5],
            "held": held,
        }


def many_prices() -> list[Prices]:
    """Markets of twelve symbols, calm and wild."""
    found = []
    for key in range(HISTORIES):
        chance = np.random.Generator(np.random.Philox(key=100 + key))
        market = chance.standard_t(4, DAYS) * 0.01 * (1 + key % 3)
        own = chance.standard_t(4, (DAYS, len(SYMBOLS))) * 0.012
        returns = market[:, None] * chance.uniform(-0.3, 1.8, len(SYMBOLS)) + own
        found.append(Prices(returns, market, History.measured(SYMBOLS, returns, market), replayed(returns, market)))
    return found


# -- the signals -----------------------------------------------------------------------------------------------------------------


class Draws:
    """Uniform numbers in the order of their need."""

    def __init__(self, seed: int) -> None:
        self._chance = np.random.Generator(np.random.Philox(key=seed))
        self._left: Iterator[float] = iter(())

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        for value in self._left:
            return float(low + (high - low) * value)
        self._left = iter(self._chance.random(4096).tolist())
        return self(low, high)

    def one_in(self, number: int) -> bool:
        return self() * number < 1

    def integer(self, low: int, high: int) -> int:
        """Both included."""
        return low + int(self() * (high - low + 1))

    def of(self, values: Any) -> Any:
        return values[int(self() * len(values))]


def _cents(amount: float) -> Decimal:
    return Decimal(round(amount * 100)) / 100


LOOSE = RiskProfile(
    position_fraction_max=Decimal(50),
    sector_fraction_max=Decimal(50),
    gross_leverage_max=Decimal(100),
    daily_loss_fraction_max=Decimal(2),
    positions_max=99,
    orders_per_day_max=999,
    messages_per_minute_max=999,
    price_collar_fraction=Decimal(50),
    price_age_seconds_max=1e9,
    short_selling=True,
    portfolio=PortfolioLimits(
        day_trade_equity_min=Decimal(0),
        drawdown_fraction_max=Decimal(2),
        order_notional_max=Decimal(10**12),
        entries_per_symbol_max=99,
        participation_fraction_max=Decimal(1),
        day_trades_max=99,
        value_at_risk_fraction_max=Decimal(10),
        beta_max=Decimal(500),
        correlation_max=Decimal(1),
    ),
)


def _limits(code: RiskCode, draw: Draws) -> RiskProfile:
    """Everything wide but the one limit."""

    def part(low: float, high: float) -> Decimal:
        return Decimal(round(draw(low, high) * 10_000)) / 10_000

    gate: dict[RiskCode, dict[str, Any]] = {
        RiskCode.STALE_PRICE: {"price_age_seconds_max": draw(1, 9)},
        RiskCode.PRICE_COLLAR: {"price_collar_fraction": part(0.002, 0.02)},
        RiskCode.SHORT_SELLING: {"short_selling": False},
        RiskCode.DAILY_LOSS: {"daily_loss_fraction_max": part(0.01, 0.03)},
        RiskCode.POSITION_COUNT: {"positions_max": draw.integer(1, 5)},
        RiskCode.ORDER_COUNT: {"orders_per_day_max": draw.integer(0, 6)},
        RiskCode.MESSAGE_RATE: {"messages_per_minute_max": draw.integer(0, 6)},
        RiskCode.POSITION_SIZE: {"position_fraction_max": part(0.02, 0.3)},
        RiskCode.SECTOR_EXPOSURE: {"sector_fraction_max": part(0.05, 0.6)},
        RiskCode.GROSS_LEVERAGE: {"gross_leverage_max": part(0.1, 1.5)},
    }
    past: dict[RiskCode, dict[str, Any]] = {
        RiskCode.DRAWDOWN: {"drawdown_fraction_max": part(0.02, 0.2)},
        RiskCode.ORDER_NOTIONAL: {"order_notional_max": _cents(draw(1_000, 60_000))},
        RiskCode.REPEATED_ENTRY: {"entries_per_symbol_max": draw.integer(0, 2)},
        RiskCode.PARTICIPATION: {"participation_fraction_max": part(0.001, 0.02)},
        RiskCode.DAY_TRADES: {"day_trades_max": draw.integer(0, 4), "day_trade_equity_min": Decimal(100_000)},
        RiskCode.VALUE_AT_RISK: {"value_at_risk_fraction_max": part(0.002, 0.03)},
        RiskCode.BETA: {"beta_max": part(0.05, 0.8)},
        RiskCode.CORRELATION: {"correlation_max": part(0.0, 0.6)},
    }
    profile = replace(LOOSE, **gate.get(code, {}))
    return replace(profile, portfolio=replace(profile.portfolio, **past.get(code, {})))


def _account(code: RiskCode, draw: Draws) -> Account:
    equity = draw(20_000, 200_000)
    prices = {symbol: _cents(draw(5, 300)) for symbol in SYMBOLS}
    held = [symbol for symbol in SYMBOLS if draw.one_in(5)]
    sign = 1 if code is RiskCode.CORRELATION or not draw.one_in(3) else -1
    shares = {symbol: sign * (int(equity * draw(0.02, 0.2) / float(prices[symbol])) or 1) for symbol in held}
    stopped, absurd = code is RiskCode.TRADING_STATE and draw.one_in(2), code is RiskCode.BAD_INPUT and draw.one_in(3)
    return Account(
        shares=shares,
        prices=prices,
        equity=Decimal(draw.of(("NaN", "0", "-1", "Infinity"))) if absurd else _cents(equity),
        opened=_cents(equity * draw(0.97, 1.04) if code is RiskCode.DAILY_LOSS else equity),
        peak=_cents(equity * draw(0.9, 1.3) if code is RiskCode.DRAWDOWN else equity),
        state=draw.of((TradingState.REDUCING, TradingState.HALTED)) if stopped else TradingState.ACTIVE,
        locked=tuple(symbol for symbol in SYMBOLS if code is RiskCode.SYMBOL_LOCKED and draw.one_in(2)),
        strategy_locked=code is RiskCode.STRATEGY_LOCKED and draw.one_in(2),
        entries=draw.integer(0, 3),
        messages=draw.integer(0, 3),
        day_trades=draw.integer(0, 3),
    )


def _signal(number: int, account: Account, code: RiskCode, draw: Draws, told: Told) -> Signal | None:
    """None where the plan cannot even be written down."""
    symbol = draw.of(SYMBOLS)
    mark = float(account.prices[symbol])
    side = Side.SELL if draw.one_in(2 if code is RiskCode.SHORT_SELLING else 4) else Side.BUY
    sign, limit = side.sign, mark * (1 + draw(-0.02, 0.02))
    most = math.log(60_000 / mark)
    quantity = 10**9 if draw.one_in(200) else max(1, int(math.exp(draw(most / 2 if code in SIZES else 0.0, most))))
    ladder = [limit - sign * 0.03 * mark, limit - sign * 0.01 * mark, limit, limit + sign * 0.04 * mark]
    if draw.one_in(100):  # a crossed ladder, or what is no number
        ladder[draw.integer(0, 3)] = draw.of((float("nan"), float("inf"), -5.0, mark * 3))
    odd = draw.one_in(3 if code is RiskCode.BAD_INPUT else 100)
    last = draw.of(NONSENSE) if odd else account.prices[symbol]
    try:
        stop, entry, worst, target = (Decimal(repr(price)) if not math.isfinite(price) else _cents(price) for price in ladder)
        plan = TradePlan(f"dec-{number}", "run", symbol, side, quantity, entry, worst, stop, target, AT + timedelta(1), "drawn")
    except (BadInput, ArithmeticError):
        told.refused_at_the_edge += 1
        return None
    age = draw(0, 12) if code is RiskCode.STALE_PRICE else 1.0
    dollars = (
        draw.of((None, float("nan"), 0.0)) if draw.one_in(100) else draw(1e5, 1e7) if code is RiskCode.PARTICIPATION else 1e12
    )
    return Signal(plan, last, age, dollars)


# -- the gate --------------------------------------------------------------------------------------------------------------------


def _judged(
    account: Account, signals: list[Signal], profile: RiskProfile, prices: Prices
) -> Iterator[tuple[Signal, RiskDecision]]:
    """As the risk service does: one snapshot, verdicts one after the other, approvals in the book of the next."""
    exposures = [
        Exposure(symbol, SECTORS[symbol], shares, shares * account.prices[symbol]) for symbol, shares in account.shares.items()
    ]
    lines = tuple(
        RankedPlan(each.plan.decision_id, each.plan.symbol, SECTORS[each.plan.symbol], 0.5, each.last, each.age)
        for each in signals
    )
    snapshot = RiskSnapshot(
        "run", AT, account.state, account.equity, account.opened, account.equity, tuple(exposures), account.locked,
        account.entries, account.messages, lines, "first is locked: drawn" if account.strategy_locked else None,
    )  # fmt: skip
    limits, equity = profile.portfolio, float(account.equity)
    bounds = BookLimits(
        float(limits.value_at_risk_fraction_max) * equity, float(limits.beta_max) * equity, float(limits.correlation_max)
    )
    book = Book.of(prices.history, {one.symbol: float(one.notional) for one in exposures})
    earlier: list[RiskDecision] = []
    for rank, (signal, line) in enumerate(zip(signals, lines, strict=True)):
        past = Past(account.peak, account.day_trades, 0, signal.dollars, sold_at_loss=False, trade=None)
        question = Question(signal.plan, line, snapshot, profile, tuple(earlier), past)
        sign = signal.plan.side.sign
        trade = book.trade_risk(signal.plan.symbol, float(sign * question.price), signal.plan.quantity, bounds)
        verdict = decide(replace(question, past=replace(past, trade=trade)), rank, AT)
        earlier.append(verdict)
        if verdict.quantity:
            book = book.with_trade(signal.plan.symbol, float(sign * verdict.notional))
        yield signal, verdict


def run(signals: int, seed: int = 1, judged: Callable[..., Iterator[tuple[Signal, RiskDecision]]] = _judged) -> Told:
    """So many signals in runs of PLANS_A_RUN, each run at an account of its own with one limit near."""
    told, draw, markets, number = Told(), Draws(seed), many_prices(), 0
    while told.signals < signals:
        code = NEAR[number % len(NEAR)]
        number += 1
        profile, account, prices = _limits(code, draw), _account(code, draw), draw.of(markets)
        drawn = [_signal(place, account, code, draw, told) for place in range(PLANS_A_RUN)]
        ledger = account
        for signal, verdict in judged(account, [each for each in drawn if each is not None], profile, prices):
            told.signals += 1
            told.verdicts[verdict.verdict.value] += 1
            if verdict.verdict is not Verdict.APPROVED:
                told.binding[verdict.code.value] += 1
            if verdict.quantity:
                plan, last = signal.plan, signal.last or Decimal(0)
                for broken in breaches(ledger, signal, verdict.quantity, profile, prices.replayed):
                    told.breaches.append(f"run {number}, {plan.decision_id}: {broken} with {verdict.quantity} of {plan.quantity}")
                worst = max(plan.entry_limit, last)
                order = (plan.symbol, plan.side.sign * verdict.quantity, worst)
                ledger = replace(
                    ledger,
                    orders=[*ledger.orders, order],
                    entries=ledger.entries + 1,
                    messages=ledger.messages + 1,
                    day_trades=ledger.day_trades + 1,
                    entered=ledger.entered + Counter([plan.symbol]),
                )
    return told


if __name__ == "__main__":
    document = run(int(sys.argv[1])).document()
    print(json.dumps(document, indent=1))
    sys.exit(int(not document["held"]))
