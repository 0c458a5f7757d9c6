"""What the limits of an account say, computed again from its ledger by somebody who trusts no gate.

It has the ledger (what was held, and what the gate let through) and the limits; everything else it computes by itself, in other
words than the product's, from the papers. Of the product it imports the words of the trade alone, and a test holds it to that.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from finagent.domain.orders import Side
from finagent.domain.risk import PortfolioLimits, RiskProfile
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState

SYMBOLS = tuple(f"S{number}" for number in range(12))
SECTORS = {symbol: f"sector {number % 4}" for number, symbol in enumerate(SYMBOLS)}
ROUNDING = 1e-6  # USD a share or an account: floats on both sides


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
    strategy_locked: bool
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


def breaches(account: Account, signal: Signal, quantity: int, profile: RiskProfile, market: Replayed) -> Iterator[str]:
    """Every limit that an approval of `quantity` breaks, from the account as it was before."""
    plan, last, limits = signal.plan, signal.last, profile.portfolio
    if last is None or not last.is_finite() or last <= 0 or not account.equity.is_finite() or account.equity <= 0:
        yield "BAD_INPUT"
        return
    if account.state is not TradingState.ACTIVE:
        yield "TRADING_STATE"
    if plan.symbol in account.locked:
        yield "SYMBOL_LOCKED"
    if account.strategy_locked:
        yield "STRATEGY_LOCKED"
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
    yield from _of_the_book(account, plan, float(usd), limits, market)


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
