"""What the risk report says, all of it: exposures, value at risk with what came, limits, correlations, drawdown, breakers."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from finagent.domain.circuit_breakers import BreakerLimits
from finagent.domain.errors import BadInput
from finagent.domain.gap import GapCandidate
from finagent.domain.money import ZERO
from finagent.domain.orders import Fill
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.store import Reads
from finagent.domain.risk import RiskProfile
from finagent.domain.trading_state import TradingStateRecord
from finagent.quant.risk.drawdown import drawdowns
from finagent.quant.risk.value_at_risk import CONFIDENCE
from finagent.services.execution.symbol_locks import locked_at
from finagent.services.kill_switch import state_at, strategies_locked_at
from finagent.services.market_data.return_history import ReturnHistory
from finagent.services.pipeline.risk import book_of
from finagent.services.reporting.book_at import BookAt, book_at, largest_at
from finagent.services.reporting.canonical import as_plain
from finagent.services.reporting.risk_limits import Gauge, breakers, gauges, plan_gauges
from finagent.services.reporting.risk_measures import Backtest, Forecast, RiskReportPolicy, Tree, measured, tree


@dataclass(frozen=True, slots=True)
class Holding:
    """A line of the book in USD; `weight` is its part of equity. `component_usd`: what it adds to the value at risk; that and
    `beta` None where the symbol has no history."""

    symbol: str
    sector: str
    shares: int
    price: Decimal
    position_usd: Decimal
    ordered_usd: Decimal
    exposure_usd: Decimal
    weight: float | None
    beta: float | None
    component_usd: float | None


@dataclass(frozen=True, slots=True)
class Fall:
    """The account at one instant: equity in USD and the fraction that it is below its highest so far."""

    at: datetime
    equity: Decimal
    drawdown: float


@dataclass(frozen=True, slots=True)
class RiskReport:
    """USD. `note` says what the reader must know first: an empty book, symbols without price or history."""

    at: datetime
    session_date: date
    notice: str
    source_id: str
    ledger_id: str
    notes: tuple[str, ...]
    state: TradingStateRecord | None
    equity: Decimal | None
    cash: Decimal
    gross_usd: Decimal
    net_usd: Decimal
    gross_leverage: float | None
    net_leverage: float | None
    beta: float | None
    holdings: tuple[Holding, ...]
    sectors: dict[str, Decimal]
    window_sessions: int
    forecasts: tuple[Forecast, ...]
    backtest: Backtest | None
    limits: tuple[Gauge, ...]
    plan_limits: tuple[Gauge, ...]
    breakers: tuple[Gauge, ...]
    tree: Tree | None
    falls: tuple[Fall, ...]


async def risk_report(
    reads: Reads,
    market: MarketDataPort,
    at: datetime,
    profile: RiskProfile,
    breaker_limits: BreakerLimits,
    sectors: dict[str, str],
    policy: RiskReportPolicy,
    returns: ReturnHistory,
    identity: tuple[str, str],
) -> RiskReport:
    """As of an instant, from what was committed by then and the days before its session. `identity`: notice and ledger id."""
    book = await book_at(reads, market, at, sectors, policy.bad_bars_max)
    past = (await returns.before(book.session)).last(policy.history_sessions)
    recent, column = past.last(policy.window_sessions), {symbol: place for place, symbol in enumerate(returns.symbols)}
    enough = recent.known_days() >= policy.window_sessions
    exposures = {one.symbol: float(one.exposure_usd) for one in book.held}
    known = [symbol for symbol in exposures if enough[column[symbol]]]
    forecasts, backtest, components, slopes = measured(
        past.of([column[symbol] for symbol in known]), known, exposures, book.equity, policy.window_sessions
    )
    interesting = [symbol for symbol in _of_interest(reads, exposures, at) if symbol in column and enough[column[symbol]]]
    on_the_map = sorted(interesting[: policy.symbols_max])
    gross = sum((abs(one.exposure_usd) for one in book.held), ZERO)
    net = sum((one.exposure_usd for one in book.held), ZERO)
    equity = book.equity if book.equity is not None and book.equity > 0 else None
    falls = _falls(reads, book)
    beta = sum(slopes[symbol] * exposures[symbol] for symbol in known) if known else 0.0
    by_sector: dict[str, Decimal] = {}
    for one in book.held:
        by_sector[one.sector] = by_sector.get(one.sector, ZERO) + abs(one.exposure_usd)
    of_gate = await returns.of(book.session, frozenset(exposures))
    gated = None if of_gate is None else book_of(of_gate.history, book.exposures)
    return RiskReport(
        at=at,
        session_date=book.session.date,
        notice=identity[0],
        source_id=market.source_id,
        ledger_id=identity[1],
        notes=_notes(reads, book, {symbol: int(past.known_days()[column[symbol]]) for symbol in exposures}, policy),
        state=state_at(reads, at),
        equity=book.equity,
        cash=book.cash,
        gross_usd=gross,
        net_usd=net,
        gross_leverage=float(gross / equity) if equity else None,
        net_leverage=float(net / equity) if equity else None,
        beta=beta / float(equity) if equity else None,
        holdings=_holdings(book, equity, slopes, components),
        sectors=dict(sorted(by_sector.items(), key=lambda item: (-item[1], item[0]))),
        window_sessions=policy.window_sessions,
        forecasts=forecasts,
        backtest=backtest,
        limits=gauges(reads, book, profile, falls[-1].drawdown if falls else 0.0, gated),
        plan_limits=plan_gauges(reads, book),
        breakers=breakers(reads, book, breaker_limits),
        tree=tree(recent.of([column[symbol] for symbol in on_the_map]).returns, on_the_map, exposures, policy),
        falls=falls,
    )


def _holdings(
    book: BookAt, equity: Decimal | None, slopes: dict[str, float], components: dict[str, float]
) -> tuple[Holding, ...]:
    """The largest first."""
    return tuple(
        Holding(
            one.symbol,
            one.sector,
            one.shares,
            one.price,
            one.position_usd,
            one.ordered_usd,
            one.exposure_usd,
            float(one.exposure_usd / equity) if equity else None,
            slopes.get(one.symbol),
            components.get(one.symbol),
        )
        for one in sorted(book.held, key=lambda one: (-abs(one.exposure_usd), one.symbol))
    )


def _of_interest(reads: Reads, exposures: dict[str, float], at: datetime) -> list[str]:
    """What is held, the largest first, then what was traded, then what was found, the latest first."""
    traded = sorted((fill for fill in reads.find(Fill) if fill.filled_at <= at), key=lambda one: one.filled_at, reverse=True)
    found = sorted((one for one in reads.find(GapCandidate) if one.as_of <= at), key=lambda one: one.as_of, reverse=True)
    held = sorted(exposures, key=lambda symbol: (-abs(exposures[symbol]), symbol))
    return list(dict.fromkeys([*held, *(fill.symbol for fill in traded), *(one.symbol for one in found)]))


def _falls(reads: Reads, book: BookAt) -> tuple[Fall, ...]:
    """At each open and close, and at the instant itself."""
    points = [(one.at, one.equity) for one in reads.find(AccountSnapshot) if one.at <= book.at]
    points = sorted(points) + ([(book.at, book.equity)] if book.equity is not None else [])
    if not points or min(equity for _, equity in points) <= 0:
        return ()
    below = drawdowns(np.asarray([float(equity) for _, equity in points]))
    return tuple(Fall(at, equity, float(part)) for (at, equity), part in zip(points, below, strict=True))


def _notes(reads: Reads, book: BookAt, days: dict[str, int], policy: RiskReportPolicy) -> tuple[str, ...]:
    notes = []
    if not book.held and not book.unpriced:
        when = largest_at(reads)
        hint = f"; it was largest at {when.isoformat()}, ask with --at" if when is not None else "; nothing was ever traded"
        notes.append(f"The book is empty: no position is open and no entry waits{hint}.")
    locked = sorted(locked_at(reads, book.at))
    notes += [f"Locked, nothing new passes: {', '.join(locked)}."] if locked else []
    for strategy, reason in strategies_locked_at(reads, book.at).items():
        notes.append(f"Strategy {strategy} is locked, its plans are refused: {reason}.")
    if book.unpriced:
        notes.append(f"No price for {', '.join(book.unpriced)}: the market data do not have it, so equity is not known.")
    silent = [f"{one.symbol} ({days[one.symbol]})" for one in book.held if days[one.symbol] < policy.window_sessions]
    if silent:
        notes.append(
            f"Not in value at risk, beta and components, for want of {policy.window_sessions} sessions of history: "
            f"{', '.join(silent)}. report.risk_window_sessions asks for fewer."
        )
    return tuple(notes)


def document(report: RiskReport) -> dict[str, Any]:
    """All of it as plain values, with what the page computes from it: the use of limits and the rates of breaches."""
    told: dict[str, Any] = as_plain(report)
    for name in ("limits", "plan_limits", "breakers"):
        told[name] = [
            row | {"utilisation": gauge.utilisation, "used_up": gauge.used_up}
            for row, gauge in zip(told[name], getattr(report, name), strict=True)
        ]
    for row, one in zip(told["forecasts"], report.forecasts, strict=True):
        if one.coverage is not None:
            row["coverage"] |= {"rate": one.coverage.rate, "wanted": one.coverage.days * (1.0 - CONFIDENCE)}
    return told


def instant(text: str | None, latest: datetime) -> datetime:
    """The instant that is asked for; BadInput for what is none or lies in the future of the story."""
    if text is None:
        return latest
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadInput(f"--at {text}: an instant such as 2008-10-09T14:00:00Z is needed, with its distance from UTC")
    if at > latest:
        raise BadInput(f"--at {text}: the story ends at {latest.isoformat()}, ask for that or earlier")
    return at
