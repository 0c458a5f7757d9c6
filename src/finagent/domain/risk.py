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
    STRATEGY_LOCKED = "STRATEGY_LOCKED"
    POSITION_COUNT = "POSITION_COUNT"
    POSITION_SIZE = "POSITION_SIZE"
    SECTOR_EXPOSURE = "SECTOR_EXPOSURE"
    GROSS_LEVERAGE = "GROSS_LEVERAGE"
    DAILY_LOSS = "DAILY_LOSS"
    ORDER_COUNT = "ORDER_COUNT"
    MESSAGE_RATE = "MESSAGE_RATE"
    SHORT_SELLING = "SHORT_SELLING"
    DRAWDOWN = "DRAWDOWN"
    ORDER_NOTIONAL = "ORDER_NOTIONAL"
    REPEATED_ENTRY = "REPEATED_ENTRY"
    PARTICIPATION = "PARTICIPATION"
    DAY_TRADES = "DAY_TRADES"
    VALUE_AT_RISK = "VALUE_AT_RISK"
    BETA = "BETA"
    CORRELATION = "CORRELATION"


SWITCHES = frozenset(
    {
        RiskCode.BAD_INPUT,
        RiskCode.TRADING_STATE,
        RiskCode.SYMBOL_LOCKED,
        RiskCode.STRATEGY_LOCKED,
        RiskCode.SHORT_SELLING,
    }
)  # yes or no: nothing of them can be used up


@dataclass(frozen=True, slots=True)
class PortfolioLimits:
    """Limits that need a past or a history of prices. What is left out is zero and allows nothing, but for the first three.

    `position_warning_fraction`, `utilisation_warning`: from where a limit is warned of. `day_trade_equity_min` USD: from there on
    day trades are free (FINRA rule 4210 (f)(8)); `day_trades_max` in five sessions below it.
    """

    position_warning_fraction: Decimal = Decimal(0)
    utilisation_warning: Decimal = Decimal(0)
    day_trade_equity_min: Decimal = Decimal("Infinity")
    drawdown_fraction_max: Decimal = Decimal(0)
    order_notional_max: Decimal = Decimal(0)
    entries_per_symbol_max: int = 0
    participation_fraction_max: Decimal = Decimal(0)
    day_trades_max: int = 0
    value_at_risk_fraction_max: Decimal = Decimal(0)
    beta_max: Decimal = Decimal(0)
    correlation_max: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class TradeRisk:
    """What a trade would make of the book, USD of one day at 95 %, at the quantity that was asked for; and the largest quantities
    that meet each limit. `correlation` is that of the trade with the book as it stands, 0 for an empty one."""

    value_at_risk: float
    expected_shortfall: float
    value_at_risk_quantity: int
    beta: float
    beta_quantity: int
    correlation: float
    correlation_quantity: int


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of account and symbol before the trade: highest equity in USD, day trades of the last five sessions, entries
    of the symbol today, mean dollar volume a day (None: unknown), whether it was sold at a loss within 30 days, what the trade
    makes of the book (None: a symbol without history)."""

    peak_equity: Decimal
    day_trades: int
    entries_today: int
    dollar_volume_mean: float | None
    sold_at_loss: bool
    trade: TradeRisk | None


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
    portfolio: PortfolioLimits = PortfolioLimits()

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
    """One line of the ranked list: who asks, in which order, what price and age the gate saw, and what was known of account and
    symbol (None: nothing that needs a past is asked)."""

    decision_id: str
    symbol: str
    sector: str
    score: float
    last_price: Decimal | None
    price_age_seconds: float
    past: Past | None = None


@dataclass(frozen=True, slots=True)
class RiskSnapshot:
    """The one immutable value that a run's checks read, with the ranked list (score descending, then symbol). USD. What trades
    make of the book is measured when they are judged: it follows from the exposures and from the days before the session.
    `strategy_lock`: why the strategy that asks takes no new risk, None when it may."""

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
    strategy_lock: str | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: `allowed_quantity` is the largest that meets its limit; the rest is for the person who asks why."""

    code: RiskCode
    limit: Decimal
    value: Decimal
    allowed_quantity: int

    @property
    def utilisation(self) -> Decimal | None:
        """Value over limit, 1 being the limit; None where nothing can be used up: a switch, a limit of zero, a value that is no
        number."""
        known = self.limit > 0 and self.value.is_finite() and self.code not in SWITCHES
        return self.value / self.limit if known else None


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
