"""The gate's words: limits in force, the immutable snapshot it decides on, verdicts, and the seal of approval."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Generic, TypeVar

from finagent.domain.finite import require_finite
from finagent.domain.trading_state import TradingState


class Verdict(Enum):
    APPROVED = "APPROVED"
    REDUCED = "REDUCED"
    REFUSED = "REFUSED"


class RiskCode(Enum):
    """Which rule decided; OK when none objected."""

    OK = "OK"
    TRADING_STATE = "TRADING_STATE"
    BAD_INPUT = "BAD_INPUT"
    STALE_PRICE = "STALE_PRICE"
    PRICE_COLLAR = "PRICE_COLLAR"
    SYMBOL_LOCKED = "SYMBOL_LOCKED"
    POSITION_COUNT = "POSITION_COUNT"
    POSITION_SIZE = "POSITION_SIZE"
    SECTOR_EXPOSURE = "SECTOR_EXPOSURE"
    GROSS_LEVERAGE = "GROSS_LEVERAGE"
    DAILY_LOSS = "DAILY_LOSS"
    ORDER_COUNT = "ORDER_COUNT"
    MESSAGE_RATE = "MESSAGE_RATE"
    SHORT_SELLING = "SHORT_SELLING"


@dataclass(frozen=True, slots=True)
class RiskProfile:
    """The limits in force for an account. Fractions of equity; a limit of zero allows nothing."""

    position_fraction_max: Decimal
    sector_fraction_max: Decimal
    gross_leverage_max: Decimal
    daily_loss_fraction_max: Decimal
    positions_max: int
    orders_per_day_max: int
    messages_per_minute_max: int
    price_collar_fraction: Decimal
    price_age_seconds_max: float
    short_selling: bool

    def __post_init__(self) -> None:
        require_finite(self)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a symbol already binds: open position and live or unresolved entry orders, at the worse price, in USD."""

    symbol: str
    sector: str
    quantity: int
    notional: Decimal


@dataclass(frozen=True, slots=True)
class RankedPlan:
    """One line of the ranked list: who asks, in which order, and what price and age the gate saw."""

    decision_id: str
    symbol: str
    sector: str
    score: float
    last_price: Decimal | None
    price_age_seconds: float


@dataclass(frozen=True, slots=True)
class RiskSnapshot:
    """The one immutable value that a run's checks read, with the ranked list (score descending, then symbol). USD."""

    run_id: str
    at: datetime
    trading_state: TradingState
    equity: Decimal
    session_open_equity: Decimal
    cash: Decimal
    exposures: tuple[Exposure, ...]
    locked_symbols: tuple[str, ...]
    orders_today: int
    messages_last_minute: int
    ranked: tuple[RankedPlan, ...]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: `allowed_quantity` is the largest that meets its limit; the rest is for the person who asks why."""

    code: RiskCode
    limit: Decimal
    value: Decimal
    allowed_quantity: int


@dataclass(frozen=True, slots=True)
class RiskDecision:
    """The committed verdict of the gate on one plan. `quantity` is what may be sent (0 when REFUSED)."""

    decision_id: str
    run_id: str
    rank: int
    verdict: Verdict
    code: RiskCode
    limit_value: Decimal
    value: Decimal
    quantity: int
    notional: Decimal
    checks: tuple[CheckResult, ...]
    at: datetime


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Approved(Generic[T]):
    """A plan that the gate let pass, with the quantity that it allowed. Only `services.pipeline.risk` makes one."""

    item: T
    quantity: int
    rank: int
