"""What stops new risk by itself: losses, bad fills, refusals and bad data, each a limit with the state that it brings about."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from finagent.domain.finite import require_finite
from finagent.domain.trading_state import TradingState


class Breaker(Enum):
    """DAILY_LOSS ends with its session; a person re-arms after every other one."""

    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    SLIPPAGE = "SLIPPAGE"
    REFUSALS = "REFUSALS"
    DATA_QUALITY = "DATA_QUALITY"


STATE_AFTER = {
    Breaker.DAILY_LOSS: TradingState.REDUCING,
    Breaker.DRAWDOWN: TradingState.HALTED,
    Breaker.SLIPPAGE: TradingState.REDUCING,
    Breaker.REFUSALS: TradingState.HALTED,
    Breaker.DATA_QUALITY: TradingState.REDUCING,
}


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """A value at its limit trips. Fractions of equity at the open and at its peak; `slippage_bps_max` in the mean of
    `slippage_fills_min` fills or more; `refusals_max` orders that the broker refused; `unusable_fraction_max` of the universe."""

    daily_loss_fraction_max: Decimal
    drawdown_fraction_max: Decimal
    slippage_bps_max: Decimal
    slippage_fills_min: int
    refusals_max: int
    unusable_fraction_max: Decimal

    def __post_init__(self) -> None:
        require_finite(self)


@dataclass(frozen=True, slots=True)
class Readings:
    """The account as watched. `equity` is None where an open position has no price; `session_open_equity` and `peak_equity` in
    USD like it; `slippage_bps` the mean of `fills`, above zero where they were worse than asked for."""

    equity: Decimal | None
    session_open_equity: Decimal
    peak_equity: Decimal
    slippage_bps: Decimal
    fills: int
    refusals: int
    unusable_fraction: Decimal


@dataclass(frozen=True, slots=True)
class Trip:
    """A breaker that its value has reached."""

    breaker: Breaker
    value: Decimal
    limit: Decimal

    @property
    def state(self) -> TradingState:
        return STATE_AFTER[self.breaker]

    def __str__(self) -> str:
        return f"{self.breaker.value}: {self.value} has reached its limit {self.limit}"


def tripped(readings: Readings, limits: BreakerLimits) -> tuple[Trip, ...]:
    """Those that trip, the gravest first. An equity that is not known trips none: the gate refuses on it anyway."""
    found = []

    def ask(breaker: Breaker, value: Decimal, limit: Decimal) -> None:
        if value >= limit:
            found.append(Trip(breaker, round(value, 6), limit))

    if readings.equity is not None:
        ask(Breaker.DRAWDOWN, _fallen(readings.peak_equity, readings.equity), limits.drawdown_fraction_max)
    ask(Breaker.REFUSALS, Decimal(readings.refusals), Decimal(limits.refusals_max))
    if readings.fills >= limits.slippage_fills_min:
        ask(Breaker.SLIPPAGE, readings.slippage_bps, limits.slippage_bps_max)
    ask(Breaker.DATA_QUALITY, readings.unusable_fraction, limits.unusable_fraction_max)
    if readings.equity is not None:
        ask(Breaker.DAILY_LOSS, _fallen(readings.session_open_equity, readings.equity), limits.daily_loss_fraction_max)
    return tuple(found)


def _fallen(before: Decimal, now: Decimal) -> Decimal:
    """The fraction that was lost; all of it where there was nothing."""
    return (before - now) / before if before > 0 else Decimal(1)
