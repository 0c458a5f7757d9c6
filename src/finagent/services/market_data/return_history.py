"""Daily returns before a session: one reading and one meaning for the gate, the split of a scan's risk and the risk report."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput, Transient
from finagent.domain.identity import digest
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.risk.exposure import History
from finagent.services.market_data.daily_features import anchor

_SYMBOLS_MIN = 2  # a covariance needs them
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReturnHistoryPolicy:
    """What is read begins with the calendar year so many `years` before that of the session. A book is measured on at most
    `days_max` sessions of it; with fewer than `days_min` a symbol is not known. `index` is the column of the symbol that stands
    for the market, None for the mean of all."""

    days_max: int
    days_min: int
    hole_sessions_max: int
    index: int | None
    years: int = 1


@dataclass(frozen=True, slots=True)
class DailyReturns:
    """Of the sessions of `days`, oldest first: from close to close [days, symbols], NaN where not known, and those of the market
    as a whole [days]."""

    days: tuple[date, ...]
    returns: Floats
    market: Floats

    def last(self, count: int) -> "DailyReturns":
        """Of the last so many sessions."""
        first = max(0, len(self.days) - count)
        return DailyReturns(self.days[first:], self.returns[first:], self.market[first:])

    def of(self, columns: list[int]) -> "DailyReturns":
        """Of those symbols."""
        return DailyReturns(self.days, self.returns[:, columns], self.market)

    def known_days(self) -> NDArray[np.intp]:
        """How many sessions up to the last have a return without one missing [symbols]; what never moved says nothing: none."""
        holes = ~np.isfinite(self.returns)
        if not len(holes):
            return np.zeros(self.returns.shape[1], dtype=np.intp)
        days = np.where(holes.any(axis=0), holes[::-1].argmax(axis=0), len(holes))
        days[np.ptp(np.where(holes, 0.0, self.returns), axis=0) == 0.0] = 0
        return days


@dataclass(frozen=True, slots=True)
class MeasuredHistory:
    """`digest` names the returns that were measured, of the last `days` sessions."""

    history: History
    days: int
    digest: str


class ReturnHistory:
    """A pure function of the days before a session: whoever asks, and asks again after a kill, is told the same. History that
    cannot be had now is none; who asks later may be told more."""

    def __init__(self, market: MarketDataPort, policy: ReturnHistoryPolicy, off_loop: Callable[..., Awaitable[Any]]) -> None:
        self._market, self._policy, self._off_loop = market, policy, off_loop
        self._read: tuple[Session, DailyReturns] | None = None
        self._measured: tuple[tuple[Session, frozenset[str]], MeasuredHistory | None] | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """Of the columns."""
        return self._market.symbols

    async def before(self, session: Session) -> DailyReturns:
        """Read once a session, off the loop: whoever opens it asks first."""
        if self._read is None or self._read[0] != session:
            try:
                history = await self._market.daily_history(session, anchor(session, self._policy.years))
            except Transient as error:
                log.warning("returns_unknown", session=session.date.isoformat(), error=str(error))
                return DailyReturns((), np.empty((0, len(self.symbols))), np.empty(0))
            self._read = (session, await self._off_loop(self._of_days, history))
        return self._read[1]

    async def of(self, session: Session, symbols: frozenset[str]) -> MeasuredHistory | None:
        """Of those of the symbols that are known, and where they are fewer than two of the first others of the market beside
        them. None where nothing can be measured: nothing new may be risked on that."""
        if self._measured is not None and self._measured[0] == (session, symbols):
            return self._measured[1]
        read = await self.before(session)
        earlier = sum(day < anchor(session) for day in read.days)
        recent = read.last(len(read.days) - earlier - 1) if earlier else read  # who reads more years measures the same
        if not recent.days:
            return None
        found: MeasuredHistory | None = await self._off_loop(self._measure, recent.last(self._policy.days_max), symbols)
        self._measured = ((session, symbols), found)
        return found

    def _of_days(self, history: DailyHistory) -> DailyReturns:
        returns = daily_returns(history, self._policy.hole_sessions_max)
        if self._policy.index is not None:
            return DailyReturns(history.sessions[1:], returns, returns[:, self._policy.index])
        known = np.isfinite(returns)
        total = np.where(known, returns, 0.0).sum(axis=1)
        return DailyReturns(history.sessions[1:], returns, total / np.maximum(known.sum(axis=1), 1))

    def _measure(self, recent: DailyReturns, symbols: frozenset[str]) -> MeasuredHistory | None:
        days = dict(zip(self.symbols, recent.known_days().tolist(), strict=True))
        known = [name for name, number in days.items() if number >= self._policy.days_min]
        chosen = sorted(symbols & set(known))
        chosen = sorted(chosen + [name for name in known if name not in symbols][: max(0, _SYMBOLS_MIN - len(chosen))])
        if len(chosen) < _SYMBOLS_MIN:
            return None
        shared = recent.last(min(days[name] for name in chosen))
        columns = [self.symbols.index(name) for name in chosen]
        rows = np.ascontiguousarray(shared.returns[:, columns])
        if not np.isfinite(shared.market).all():
            return None
        named = digest(*chosen, rows.tobytes().hex(), shared.market.tobytes().hex(), length=16)
        try:
            return MeasuredHistory(History.measured(tuple(chosen), rows, shared.market), len(shared.days), named)
        except BadInput as error:
            log.warning("returns_not_measured", error=str(error))
            return None


def daily_returns(history: DailyHistory, hole_sessions_max: int) -> Floats:
    """[sessions - 1, symbols] from close to close in shares of one size, NaN where not known. Over a hole of at most
    `hole_sessions_max` sessions the price stands still, and the day after it has the whole move."""
    closes = history.close * np.cumprod(history.split, axis=0)
    rows = np.arange(len(closes))[:, None]
    seen = np.maximum.accumulate(np.where(np.isfinite(closes) & (closes > 0), rows, -1), axis=0)
    carried = np.take_along_axis(closes, np.maximum(seen, 0), axis=0)
    carried[(seen < 0) | (rows - seen > hole_sessions_max)] = np.nan
    returns: Floats = carried[1:] / carried[:-1] - 1.0
    return returns
