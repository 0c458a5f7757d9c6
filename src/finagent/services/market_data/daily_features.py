"""Features of days, as of the close before a session."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date

import numpy as np

from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.bar_features import BarFeatures
from finagent.quant.features.bar_soundness import sound_bars
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS

OffLoop = Callable[[Callable[[DailyHistory], Floats], DailyHistory], Awaitable[Floats]]  # computes without blocking the loop


def anchor(session: Session) -> date:
    """Where the history of a session begins: with the calendar year before, for whoever asks and however often."""
    return date(session.date.year - 1, 1, 1)


class DailyFeatures:
    """A pure function of the days from `anchor` on; the days that two sessions share are taken in once. A symbol with a hole of
    more than `hole_sessions_max` begins anew after it."""

    def __init__(self, market: MarketDataPort, hole_sessions_max: int, off_loop: OffLoop) -> None:
        self._market, self._hole_sessions_max, self._off_loop = market, hole_sessions_max, off_loop
        self._computing = asyncio.Lock()
        self._known: tuple[Session, Floats] | None = None
        self._taken: DailyHistory | None = None
        self._features = self._fresh()

    async def before(self, session: Session) -> Floats:
        """Values [symbols, features] of BARS, NaN where unknown. Transient where the source has no history now."""
        async with self._computing:
            if self._known is None or self._known[0] != session:
                history = await self._market.daily_history(session, anchor(session))
                self._known = session, await self._off_loop(self._values, history)
            return self._known[1]

    def _values(self, history: DailyHistory) -> Floats:
        if not history.sessions:
            return np.full(BARS.shape(len(history.symbols)), np.nan)
        taken = len(self._taken.sessions) if self._taken is not None and _continues(history, self._taken) else 0
        if not taken:
            self._features = self._fresh()
        factor = np.cumprod(history.split, axis=0)
        open_, high, low = history.open * factor, history.high * factor, history.low * factor
        close, volume = history.close * factor, history.volume / factor
        columns = (open_, high, low, close, volume, sound_bars(open_, high, low, close, volume))
        self._taken = None  # half taken in is not taken in
        for day in range(taken, len(history.sessions)):
            self._features.push(BarRows(*(column[day] for column in columns)))
        self._taken = history
        return self._features.values().T.copy()

    def _fresh(self) -> BarFeatures:
        return BarFeatures(len(self._market.symbols), index=None, hole_bars_max=self._hole_sessions_max)


def _continues(history: DailyHistory, before: DailyHistory) -> bool:
    """The same days and no correction of them, and more after them."""
    days = len(before.sessions)
    return history.sessions[:days] == before.sessions and all(
        np.array_equal(getattr(history, name)[:days], getattr(before, name), equal_nan=True)
        for name in ("open", "high", "low", "close", "volume", "split")
    )
