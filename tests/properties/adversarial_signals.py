"""Signals that want too much, before a gate whose every limit is near in turn, and a replayer that trusts none of it.

`python -m tests.properties.adversarial_signals 1000000` prints the figures as JSON; it ends with 1 where a promise is not kept.

The gate is the product's: the checks, and the book that they measure. The replayer has the ledger of the account (what was held,
and what the gate let through) and the limits; it computes everything else by itself, in other words, and imports nothing of
either.
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
SYMBOLS = tuple(f"S{number}" for number in range(12))
SECTORS = {symbol: f"sector {number % 4}" for number, symbol in enumerate(SYMBOLS)}
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
ROUNDING = 1e-6  # USD a share or an account: floats on both sides
NONSENSE = (None, *map(Decimal, ("NaN", "Infinity", "-Infinity", "-5", "0")))

APPROVED_MIN, REDUCED_MIN, BINDING_MIN = 0.20, 0.10, 1e-3


@dataclass(frozen=True)
class Prices:
    """Past returns, the measure that the gate makes of them, and the replayer's own."""

    returns: Any
    market: Any
    history: History
    replayed: "Replayed"


@dataclass(frozen=True)
class Replayed:
    """By the replayer: scenarios [symbols][days], slopes on the market, and covariances."""

    scenarios: Any
    slopes: list[float]
    covariance: list[list[float]]


@dataclass
class Account:
    """What the broker would know: signed shares, signed orders with their worst price, prices, equity."""

    shares: dict[str, int]
    prices: dict[str, Decimal]
    equity: Decimal
    opened: Decimal
    peak: Decimal
    state: TradingState
    locked: tuple[str, ...]
    orders: list[tuple[str, int, Decimal]] = field(default_factory=list)
    entries: int = 0
    messages: int = 0
    day_trades: int = 0
    entered: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Signal:
    """One plan, with what the gate is told beside it."""

    plan: TradePlan
    last: Decimal | None
    age: float
    dollars: float | None


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


# -- the replayer ----------------------------------------------------------------------------------------------------------------


def replayed(returns: Any, market: Any) -> Replayed:
    """Scenarios of filtered historical simulation, slopes and Ledoit-Wolf's covariance, from the papers, in plain loops."""
    days, names = len(returns), range(len(returns[0]))
    columns = [[float(row[name]) for row in returns] for name in names]
    scenarios = np.asarray([_filtered(column) for column in columns])
    means = [sum(column) / days for column in columns]
    index = [float(value) for value in market]
    middle = sum(index) / days
    spread = sum((value - middle) ** 2 for value in index)
    slopes = [sum((column[t] - means[n]) * (index[t] - middle) for t in range(days)) / spread for n, column in enumerate(columns)]
    return Replayed(scenarios, slopes, _shrunk(columns, means))


def _filtered(column: list[float]) -> list[float]:
    variance = sum(value * value for value in column) / len(column)
    forecasts = []
    for value in column:
        forecasts.append(variance)
        variance = 0.94 * variance + 0.06 * value * value
    return [value * math.sqrt(variance / forecast) for value, forecast in zip(column, forecasts, strict=True)]


def _shrunk(columns: list[list[float]], means: list[float]) -> list[list[float]]:
    """Towards one correlation (Ledoit & Wolf, 2004, appendix B)."""
    days, names = len(columns[0]), range(len(columns))
    away = [[value - means[n] for value in columns[n]] for n in names]
    sample = [[sum(a * b for a, b in zip(away[i], away[j], strict=True)) / days for j in names] for i in names]
    deviation = [math.sqrt(sample[i][i]) for i in names]
    pairs = [(i, j) for i in names for j in names if i != j]
    mean = sum(sample[i][j] / (deviation[i] * deviation[j]) for i, j in pairs) / len(pairs)
    target = [[sample[i][j] if i == j else mean * deviation[i] * deviation[j] for j in names] for i in names]
    noise = [
        [sum((a * b - sample[i][j]) ** 2 for a, b in zip(away[i], away[j], strict=True)) / days for j in names] for i in names
    ]
    shared = sum(noise[i][i] for i in names)
    for i, j in pairs:
        both = [a * b - sample[i][j] for a, b in zip(away[i], away[j], strict=True)]
        of_i = sum((a * a - sample[i][i]) * c for a, c in zip(away[i], both, strict=True)) / days
        of_j = sum((b * b - sample[j][j]) * c for b, c in zip(away[j], both, strict=True)) / days
        shared += mean / 2 * (deviation[j] / deviation[i] * of_i + deviation[i] / deviation[j] * of_j)
    apart = sum((target[i][j] - sample[i][j]) ** 2 for i in names for j in names)
    weight = max(0.0, min(1.0, (sum(map(sum, noise)) - shared) / apart / days))
    return [[weight * target[i][j] + (1 - weight) * sample[i][j] for j in names] for i in names]


def breaches(account: Account, signal: Signal, quantity: int, profile: RiskProfile, prices: Prices) -> Iterator[str]:
    """Every limit that an approval of `quantity` breaks, from the account as it was before."""
    plan, last, limits = signal.plan, signal.last, profile.portfolio
    if last is None or not last.is_finite() or last <= 0 or not account.equity.is_finite() or account.equity <= 0:
        yield "BAD_INPUT"
        return
    if account.state is not TradingState.ACTIVE:
        yield "TRADING_STATE"
    if plan.symbol in account.locked:
        yield "SYMBOL_LOCKED"
    if plan.side is Side.SELL and not profile.short_selling:
        yield "SHORT_SELLING"
    if not 0 <= signal.age <= profile.price_age_seconds_max:
        yield "STALE_PRICE"
    if abs(plan.entry_limit - last) > profile.price_collar_fraction * last + Decimal("1e-5") * last:
        yield "PRICE_COLLAR"
    worst = max(plan.entry_limit, last)
    usd = quantity * worst
    yield from _of_exposure(account, plan, usd, profile)
    yield from _of_counts(account, plan, profile)
    if account.opened - account.equity >= profile.daily_loss_fraction_max * account.opened:
        yield "DAILY_LOSS"
    highest = max(account.peak, account.equity)
    if highest - account.equity >= limits.drawdown_fraction_max * highest:
        yield "DRAWDOWN"
    if usd > limits.order_notional_max:
        yield "ORDER_NOTIONAL"
    if signal.dollars is None or not usd <= float(limits.participation_fraction_max) * signal.dollars + ROUNDING:
        yield "PARTICIPATION"
    yield from _of_the_book(account, plan, float(usd), limits, prices.replayed)


def _of_exposure(account: Account, plan: TradePlan, usd: Decimal, profile: RiskProfile) -> Iterator[str]:
    bound = dict.fromkeys(SYMBOLS, Decimal(0))
    for symbol, shares in account.shares.items():
        bound[symbol] += abs(shares) * account.prices[symbol]
    for symbol, shares, price in account.orders:
        bound[symbol] += abs(shares) * price
    bound[plan.symbol] += usd
    if bound[plan.symbol] > profile.position_fraction_max * account.equity:
        yield "POSITION_SIZE"
    mine = sum(worth for symbol, worth in bound.items() if SECTORS[symbol] == SECTORS[plan.symbol])
    if mine > profile.sector_fraction_max * account.equity:
        yield "SECTOR_EXPOSURE"
    if sum(bound.values()) > profile.gross_leverage_max * account.equity:
        yield "GROSS_LEVERAGE"


def _of_counts(account: Account, plan: TradePlan, profile: RiskProfile) -> Iterator[str]:
    limits = profile.portfolio
    if len({*account.shares, *(symbol for symbol, _, _ in account.orders), plan.symbol}) > profile.positions_max:
        yield "POSITION_COUNT"
    if account.entries + 1 > profile.orders_per_day_max:
        yield "ORDER_COUNT"
    if account.messages + 1 > profile.messages_per_minute_max:
        yield "MESSAGE_RATE"
    if account.entered[plan.symbol] + 1 > limits.entries_per_symbol_max:
        yield "REPEATED_ENTRY"
    if account.equity < limits.day_trade_equity_min and account.day_trades + 1 > limits.day_trades_max:
        yield "DAY_TRADES"


def _of_the_book(account: Account, plan: TradePlan, usd: float, limits: PortfolioLimits, market: Replayed) -> Iterator[str]:
    held = [0.0] * len(SYMBOLS)
    for symbol, shares in account.shares.items():
        held[SYMBOLS.index(symbol)] += float(shares * account.prices[symbol])
    for symbol, shares, price in account.orders:
        held[SYMBOLS.index(symbol)] += float(shares * price)
    mine, sign, equity = SYMBOLS.index(plan.symbol), 1 if plan.side is Side.BUY else -1, float(account.equity)
    covariance = market.covariance
    joint = sum(covariance[mine][n] * amount for n, amount in enumerate(held))
    book = sum(a * b * covariance[i][j] for i, a in enumerate(held) if a for j, b in enumerate(held) if b)
    if book > 0 and sign * joint / math.sqrt(book * covariance[mine][mine]) > float(limits.correlation_max) + ROUNDING:
        yield "CORRELATION"
    held[mine] += sign * usd
    outcomes = sorted((np.asarray(held) @ market.scenarios).tolist())
    allowed = sum(1 for _ in range((len(outcomes) - 1) // 20))  # scenarios that may lose more: one in twenty
    if -outcomes[allowed] > float(limits.value_at_risk_fraction_max) * equity * (1 + ROUNDING) + ROUNDING:
        yield "VALUE_AT_RISK"
    if abs(sum(a * b for a, b in zip(held, market.slopes, strict=True))) > float(limits.beta_max) * equity * (1 + ROUNDING):
        yield "BETA"


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
        account.entries, account.messages, lines,
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
                for broken in breaches(ledger, signal, verdict.quantity, profile, prices):
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
