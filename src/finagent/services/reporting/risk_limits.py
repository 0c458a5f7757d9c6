"""How much of each limit is used, and how near each breaker is to tripping."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from finagent.domain.circuit_breakers import STATE_AFTER, Breaker, BreakerLimits
from finagent.domain.gap import GapCandidate
from finagent.domain.money import ZERO
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, SendOutcome
from finagent.domain.ports.store import Reads
from finagent.domain.risk import PortfolioLimits, RiskCode, RiskDecision, RiskProfile
from finagent.domain.runs import PipelineRun
from finagent.domain.trade_plan import TradePlan
from finagent.quant.risk.exposure import Book
from finagent.services.reporting.book_at import BookAt
from finagent.services.risk_watch import armed_at, peak_equity, slipped

_DECIMALS = 6


class Unit(Enum):
    """What value and limit are measured in."""

    FRACTION = "fraction of equity"
    MULTIPLE = "multiples of equity"
    USD = "USD"
    COUNT = "count"
    BASIS_POINTS = "basis points"
    SECONDS = "seconds"
    RATIO = "ratio"
    PART = "fraction of the universe"
    OF_PRICE = "fraction of the price"


_OF_A_PLAN = {
    RiskCode.STALE_PRICE: Unit.SECONDS,
    RiskCode.PRICE_COLLAR: Unit.OF_PRICE,
    RiskCode.PARTICIPATION: Unit.USD,
    RiskCode.CORRELATION: Unit.RATIO,
    RiskCode.DAY_TRADES: Unit.COUNT,
}


@dataclass(frozen=True, slots=True)
class Gauge:
    """A limit with what is used of it; `value` None where it is not known. `detail` names what it is of, or what follows."""

    name: str
    unit: Unit
    limit: Decimal
    value: Decimal | None
    detail: str

    @property
    def utilisation(self) -> float | None:
        """1 is the limit; None where the value is not known, or where a limit of zero has no share that could be used."""
        return float(self.value / self.limit) if self.value is not None and self.limit > 0 else None

    @property
    def used_up(self) -> bool:
        """Nothing is left of it; of a limit of zero there never was."""
        return self.value is not None and self.value >= self.limit


def gauges(reads: Reads, book: BookAt, profile: RiskProfile, drawdown: float, measured: Book | None) -> tuple[Gauge, ...]:
    """Of the gate's limits that an account has a state of; what is asked of one plan alone (its price, its age, its collar) has
    none. Limits of the past are there where they are in force. `measured` is the book as the gate measures it, None where it
    cannot be measured: then nothing new passes."""
    equity = book.equity if book.equity is not None and book.equity > 0 else None
    usd: dict[str, Decimal] = {}
    sectors: dict[str, Decimal] = {}
    for one in book.held:
        usd[one.symbol] = abs(one.exposure_usd)
        sectors[one.sector] = sectors.get(one.sector, ZERO) + abs(one.exposure_usd)

    def part(amount: Decimal) -> Decimal | None:
        return round(amount / equity, _DECIMALS) if equity else None

    largest, heaviest = max(usd, key=lambda name: usd[name], default=""), max(sectors, key=lambda name: sectors[name], default="")
    found = [
        Gauge(RiskCode.POSITION_SIZE.value, Unit.FRACTION, profile.position_fraction_max, part(usd.get(largest, ZERO)), largest),
        Gauge(
            RiskCode.SECTOR_EXPOSURE.value,
            Unit.FRACTION,
            profile.sector_fraction_max,
            part(sectors.get(heaviest, ZERO)),
            heaviest,
        ),
        Gauge(RiskCode.GROSS_LEVERAGE.value, Unit.MULTIPLE, profile.gross_leverage_max, part(sum(usd.values(), ZERO)), ""),
        Gauge(RiskCode.DAILY_LOSS.value, Unit.FRACTION, profile.daily_loss_fraction_max, _loss(book), "since the open"),
        Gauge(RiskCode.POSITION_COUNT.value, Unit.COUNT, Decimal(profile.positions_max), Decimal(len(usd)), ""),
        Gauge(RiskCode.ORDER_COUNT.value, Unit.COUNT, Decimal(profile.orders_per_day_max), Decimal(book.orders_today), "today"),
        Gauge(
            RiskCode.MESSAGE_RATE.value,
            Unit.COUNT,
            Decimal(profile.messages_per_minute_max),
            Decimal(book.messages_last_minute),
            "in the last minute",
        ),
    ]
    if profile.portfolio != PortfolioLimits():
        found += _of_the_past(reads, book, profile.portfolio, equity, drawdown, measured)
    return tuple(found)


def _of_the_past(
    reads: Reads, book: BookAt, limits: PortfolioLimits, equity: Decimal | None, drawdown: float, measured: Book | None
) -> list[Gauge]:
    entries = [
        intent for intent in reads.find(OrderIntent, leg=Leg.ENTRY) if book.session.opens_at <= intent.committed_at <= book.at
    ]
    dearest = max((one.quantity * (one.limit_price or ZERO) for one in entries), default=ZERO)
    symbols = [one.symbol for one in entries]
    most = max((symbols.count(symbol) for symbol in symbols), default=0)
    fallen = round(Decimal(repr(drawdown)), _DECIMALS)

    def part(amount: float) -> Decimal | None:
        return round(Decimal(repr(amount)) / equity, _DECIMALS) if equity else None

    at_risk = None if measured is None else part(measured.tail().value_at_risk + 0.0)  # no -0
    moved = None if measured is None else part(abs(measured.beta))
    days = 0 if measured is None else len(measured.profits)
    unknown = "" if days else "too little history: nothing new passes"
    return [
        Gauge(RiskCode.DRAWDOWN.value, Unit.FRACTION, limits.drawdown_fraction_max, fallen, "of the peak"),
        Gauge(
            RiskCode.VALUE_AT_RISK.value,
            Unit.FRACTION,
            limits.value_at_risk_fraction_max,
            at_risk,
            unknown or f"one day, 95 %, as the gate has it from {days} sessions",
        ),
        Gauge(RiskCode.BETA.value, Unit.MULTIPLE, limits.beta_max, moved, unknown),
        Gauge(RiskCode.ORDER_NOTIONAL.value, Unit.USD, limits.order_notional_max, round(dearest, 2), "largest entry today"),
        Gauge(
            RiskCode.REPEATED_ENTRY.value,
            Unit.COUNT,
            Decimal(limits.entries_per_symbol_max),
            Decimal(most),
            "of one symbol today",
        ),
    ]


def plan_gauges(reads: Reads, book: BookAt) -> tuple[Gauge, ...]:
    """Of the limits that a plan has and an account has not: the plan judged in the session by then that used the most of each."""
    found: dict[RiskCode, Gauge] = {}
    for run in reads.find(PipelineRun, session_date=book.session.date):
        for verdict in reads.find(RiskDecision, run_id=run.run_id):
            plan = reads.get(TradePlan, verdict.decision_id)
            for check in verdict.checks if verdict.at <= book.at and plan is not None else ():
                unit = _OF_A_PLAN.get(check.code)
                if unit is not None:
                    gauge = Gauge(check.code.value, unit, check.limit, check.value, plan.symbol if plan else "")
                    found[check.code] = max(found.get(check.code, gauge), gauge, key=lambda one: one.utilisation or 0.0)
    return tuple(found[code] for code in _OF_A_PLAN if code in found)


def breakers(reads: Reads, book: BookAt, limits: BreakerLimits) -> tuple[Gauge, ...]:
    """Each with what it watches, since the session's open or since a person last armed by then."""
    armed = armed_at(reads, book.at)
    since = max(book.session.opens_at, armed)
    decisions = [one.decision_id for one in reads.find(GapCandidate, session_date=book.session.date)]
    fills = [(bps, usd) for bps, usd in slipped(reads, decisions, since, book.at)]
    total = sum((usd for _, usd in fills), ZERO)
    mean = sum((bps * usd for bps, usd in fills), ZERO) / total if total else ZERO
    enough = len(fills) >= limits.slippage_fills_min
    refused = reads.find(BrokerOrder, decision_id=decisions, outcome=SendOutcome.REFUSED)
    refusals = sum(1 for order in refused if since <= order.updated_at <= book.at)
    peak = peak_equity(reads, book.at, book.equity or ZERO)
    fallen = (peak - book.equity) / peak if book.equity is not None and peak > 0 else None
    values = {
        Breaker.DAILY_LOSS: (Unit.FRACTION, limits.daily_loss_fraction_max, _loss(book)),
        Breaker.DRAWDOWN: (Unit.FRACTION, limits.drawdown_fraction_max, fallen),
        Breaker.SLIPPAGE: (Unit.BASIS_POINTS, limits.slippage_bps_max, mean if enough else None),
        Breaker.REFUSALS: (Unit.COUNT, Decimal(limits.refusals_max), Decimal(refusals)),
        Breaker.DATA_QUALITY: (Unit.PART, limits.unusable_fraction_max, Decimal(repr(book.last.unusable_fraction))),
    }
    few = f"{len(fills)} of {limits.slippage_fills_min} fills needed"
    return tuple(
        Gauge(
            breaker.value,
            unit,
            limit,
            None if value is None else round(value, _DECIMALS),
            f"then {STATE_AFTER[breaker].value}" + (f"; {few}" if breaker is Breaker.SLIPPAGE and not enough else ""),
        )
        for breaker, (unit, limit, value) in values.items()
    )


def _loss(book: BookAt) -> Decimal | None:
    """The fraction of the equity at the open that is lost; zero on a day that gains."""
    if book.equity is None or not book.open_equity:
        return None
    return round(max((book.open_equity - book.equity) / book.open_equity, ZERO), _DECIMALS)
