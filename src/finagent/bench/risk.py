"""`finagent bench risk`: one full check of the gate in front of a book of 200 positions and 500 days of prices."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from statistics import median

import numpy as np
import pandas as pd

from finagent.bench.contest import AtLeast, Below, Contest, Contestant, Goal, Row, interleaved, spread
from finagent.domain.bars import Floats
from finagent.domain.orders import Side
from finagent.domain.risk import (
    Exposure,
    Past,
    PortfolioLimits,
    RankedPlan,
    RiskDecision,
    RiskProfile,
    RiskSnapshot,
)
from finagent.domain.risk_checks import Held, Question, decide
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState
from finagent.quant.risk.exposure import Book, BookLimits, History
from finagent.quant.risk.value_at_risk import DECAY

POSITIONS, DAYS, SECTORS = 200, 500, 11
CALLS = 400  # checks a repeat, of which the percentiles are taken
PANDAS_CALLS = 5
QUANTILES = (50, 95, 99)
AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
EQUITY = Decimal(10_000_000)
PRICE, QUANTITY = Decimal("50.00"), 2_000


def risk_contest(repeats: int) -> Contest:
    """Ours, from a measured book, beside a plain check in pandas that measures the book for each plan."""
    desk = Desk()
    wall, busy = _percentiles(repeats, desk.check, time.perf_counter), _percentiles(repeats, desk.check, time.thread_time)
    plain = interleaved([Contestant("ours", desk.check), Contestant("pandas", desk.plain_check)], repeats, PANDAS_CALLS)
    refresh = [_each(desk.measure, 1, time.perf_counter)[0] for _ in range(repeats)]
    figure = f"full check of a plan, {POSITIONS} positions, {DAYS} days"
    rows = [_row(f"{figure}, p{q} of {CALLS}", wall[q], (Below(200.0),) if q == 99 else ()) for q in QUANTILES]
    rows += [_row(f"the same in processor time, without what else the machine did, p{q}", busy[q], ()) for q in QUANTILES]
    ours = median(plain["ours"])
    beside = Row(
        figure=f"{figure}, beside pandas",
        unit="us",
        better="lower",
        ours=ours * 1e6,
        floor=None,
        peers={"pandas": median(plain["pandas"]) * 1e6},
        repeats=repeats,
        spread=spread(plain["ours"]),
        goals=(AtLeast(50),),
    )
    return Contest((*rows, beside, _row("history and book measured anew, off the path", refresh, ())), ())


class Desk:
    """One account, its book, and a plan before the gate."""

    def __init__(self, value_at_risk_fraction: float = 0.02) -> None:
        chance = np.random.Generator(np.random.Philox(key=7))
        self._symbols = tuple(f"S{n:03d}" for n in range(POSITIONS))
        self._market: Floats = chance.standard_t(5, DAYS) * 0.009
        slopes = chance.uniform(0.3, 1.7, POSITIONS)
        self._returns = self._market[:, None] * slopes + chance.standard_t(5, (DAYS, POSITIONS)) * 0.014
        self._held = dict(zip(self._symbols, chance.uniform(10_000, 60_000, POSITIONS).round(2).tolist(), strict=True))
        self._limits = BookLimits(
            value_at_risk=value_at_risk_fraction * float(EQUITY), beta=1.5 * float(EQUITY), correlation=0.95
        )
        self._snapshot, self._plan = self._before(), _plan(self._symbols[7])
        self._frame = pd.DataFrame(self._returns, columns=list(self._symbols))
        self._book, self._bound = self.measure()

    def measure(self) -> tuple[Book, Held]:
        """What is done once a session and once a book."""
        history = History.measured(self._symbols, self._returns, self._market)
        return Book.of(history, self._held), Held.of(self._snapshot.exposures)

    def check(self) -> RiskDecision:
        """What the trade makes of the book, and every check of the gate on it."""
        trade = self._book.trade_risk(self._plan.symbol, float(PRICE), self._plan.quantity, self._limits)
        past = Past(EQUITY, 0, 0, 5e8, sold_at_loss=False, trade=trade)
        question = Question(self._plan, self._snapshot.ranked[0], self._snapshot, PROFILE, (), past, self._bound)
        return decide(question, 0, AT)

    def plain_check(self) -> bool:
        """The same limits as they are written down in pandas, at the quantity that is asked for."""
        usd = pd.Series(self._held)
        trade = float(PRICE) * self._plan.quantity
        symbol, equity = self._plan.symbol, float(EQUITY)
        sectors = pd.Series({exposure.symbol: exposure.sector for exposure in self._snapshot.exposures})
        correlation = self._frame[symbol].corr((self._frame * usd).sum(axis=1))
        after = usd.copy()
        after[symbol] += trade
        volatility = (self._frame**2).ewm(alpha=1.0 - DECAY, adjust=False).mean() ** 0.5
        filtered = (self._frame / volatility.shift(1) * volatility.iloc[-1]).dropna()
        at_risk = -(filtered * after).sum(axis=1).quantile(0.05)
        market = pd.Series(self._market)
        slopes = self._frame.apply(lambda returns: returns.cov(market)) / market.var()
        return bool(
            after[symbol] <= 0.25 * equity
            and after.groupby(sectors).sum()[sectors[symbol]] <= 0.5 * equity
            and after.abs().sum() <= 1.5 * equity
            and at_risk <= self._limits.value_at_risk
            and abs((slopes * after).sum()) <= self._limits.beta
            and correlation <= self._limits.correlation
        )

    def _before(self) -> RiskSnapshot:
        exposures = tuple(
            Exposure(symbol, f"sector {n % SECTORS}", 100, Decimal(repr(usd)))
            for n, (symbol, usd) in enumerate(self._held.items())
        )
        line = RankedPlan("dec-0", self._symbols[7], exposures[7].sector, 0.9, PRICE, 1.0)
        return RiskSnapshot("run-0", AT, TradingState.ACTIVE, EQUITY, EQUITY, EQUITY, exposures, (), 0, 0, (line,))


def _plan(symbol: str) -> TradePlan:
    entry = PRICE - Decimal("0.05")
    return TradePlan("dec-0", "run-0", symbol, Side.BUY, QUANTITY, entry, PRICE, Decimal(48), Decimal(54), AT, "bench")


PROFILE = RiskProfile(
    position_fraction_max=Decimal("0.25"),
    sector_fraction_max=Decimal("0.50"),
    gross_leverage_max=Decimal("1.5"),
    daily_loss_fraction_max=Decimal("0.02"),
    positions_max=POSITIONS,
    orders_per_day_max=20,
    messages_per_minute_max=60,
    price_collar_fraction=Decimal("0.03"),
    price_age_seconds_max=180.0,
    short_selling=False,
    portfolio=PortfolioLimits(
        position_warning_fraction=Decimal("0.23"),
        utilisation_warning=Decimal("0.9"),
        day_trade_equity_min=Decimal(25_000),
        drawdown_fraction_max=Decimal("0.10"),
        order_notional_max=Decimal(250_000),
        entries_per_symbol_max=2,
        participation_fraction_max=Decimal("0.01"),
        day_trades_max=3,
        value_at_risk_fraction_max=Decimal("0.02"),
        beta_max=Decimal("1.5"),
        correlation_max=Decimal("0.95"),
    ),
)


def _percentiles(repeats: int, run: Callable[[], object], clock: Callable[[], float]) -> dict[int, list[float]]:
    taken = [_each(run, CALLS, clock) for _ in range(repeats)]
    return {quantile: [float(np.percentile(seconds, quantile)) for seconds in taken] for quantile in QUANTILES}


def _each(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> list[float]:
    seconds = []
    for _ in range(calls):
        started = clock()
        run()
        seconds.append(clock() - started)
    return seconds


def _row(figure: str, seconds: list[float], goals: tuple[Goal, ...]) -> Row:
    return Row(figure, "us", "lower", median(seconds) * 1e6, None, {}, len(seconds), spread(seconds), goals)
