"""Past returns of the symbols that a book may hold, measured for the gate once a set of symbols."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput, Transient
from finagent.domain.identity import digest
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.risk.exposure import History
from finagent.services.market_data.daily_features import anchor
from finagent.services.market_data.daily_returns import daily_returns

_SYMBOLS_MIN = 2  # a covariance needs them
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReturnHistoryPolicy:
    """At most `days_max` sessions before the one at hand; with fewer than `days_min` a symbol is not known. `index` is the column
    of the symbol that stands for the market, None for the mean of all."""

    days_max: int
    days_min: int
    hole_sessions_max: int
    index: int | None


@dataclass(frozen=True, slots=True)
class MeasuredHistory:
    """`digest` names the returns that were measured, of the last `days` sessions."""

    history: History
    days: int
    digest: str


class ReturnHistory:
    """A pure function of the days before a session: whoever asks, and asks again after a kill, is told the same."""

    def __init__(self, market: MarketDataPort, policy: ReturnHistoryPolicy, off_loop: Callable[..., Awaitable[Any]]) -> None:
        self._market, self._policy, self._off_loop = market, policy, off_loop
        self._returns: tuple[Session, Floats, Floats] | None = None
        self._measured: tuple[tuple[Session, frozenset[str]], MeasuredHistory | None] | None = None

    async def of(self, session: Session, symbols: frozenset[str]) -> MeasuredHistory | None:
        """Of those of the symbols that are known, and where they are fewer than two of the first others of the market beside
        them. None where nothing can be measured, or the source has no history now: nothing new may be risked on that."""
        if self._measured is not None and self._measured[0] == (session, symbols):
            return self._measured[1]
        try:
            if self._returns is None or self._returns[0] != session:
                history = await self._market.daily_history(session, anchor(session))
                self._returns = (session, *await self._off_loop(self._of_days, history))
            found: MeasuredHistory | None = await self._off_loop(self._measure, *self._returns[1:], symbols)
        except (BadInput, Transient) as error:
            log.warning("risk_without_history", session=session.date.isoformat(), error=str(error))
            return None
        self._measured = ((session, symbols), found)
        return found

    def _of_days(self, history: DailyHistory) -> tuple[Floats, Floats]:
        """Returns [days, symbols], and those of the market [days]."""
        returns = daily_returns(history, self._policy.hole_sessions_max)[-self._policy.days_max :]
        if self._policy.index is not None:
            return returns, returns[:, self._policy.index]
        known = np.isfinite(returns)
        total = np.where(known, returns, 0.0).sum(axis=1)
        return returns, total / np.maximum(known.sum(axis=1), 1)

    def _measure(self, returns: Floats, market: Floats, symbols: frozenset[str]) -> MeasuredHistory | None:
        if not len(returns):
            return None
        holes = ~np.isfinite(returns)
        days = np.where(holes.any(axis=0), holes[::-1].argmax(axis=0), len(returns))  # without a hole, up to the last
        days[np.ptp(np.where(holes, 0.0, returns), axis=0) == 0.0] = 0  # what never moved says nothing
        known = [
            name for name, number in zip(self._market.symbols, days.tolist(), strict=True) if number >= self._policy.days_min
        ]
        chosen = sorted(symbols & set(known))
        chosen = sorted(chosen + [name for name in known if name not in symbols][: max(0, _SYMBOLS_MIN - len(chosen))])
        if len(chosen) < _SYMBOLS_MIN:
            return None
        columns = [self._market.symbols.index(name) for name in chosen]
        window = int(days[columns].min())
        rows, of_market = np.ascontiguousarray(returns[-window:, columns]), market[-window:]
        if not np.isfinite(of_market).all():
            return None
        named = digest(*chosen, rows.tobytes().hex(), of_market.tobytes().hex(), length=16)
        return MeasuredHistory(History.measured(tuple(chosen), rows, of_market), window, named)
