"""Features of days, as of the close before a session."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date

import numpy as np

from finagent.domain.bars import BAR_COLUMNS, DailyHistory, Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.bar_features import BarFeatures
from finagent.quant.features.bar_soundness import sound_bars
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS

Taken = tuple[BarFeatures, DailyHistory]  # the state, and the days in it
Compute = Callable[[DailyHistory, Taken | None], tuple[Floats, Taken | None]]
OffLoop = Callable[[Compute, DailyHistory, Taken | None], Awaitable[tuple[Floats, Taken | None]]]  # without blocking the loop


def anchor(session: Session, years: int = 1) -> date:
    """Where the history of a session begins: with the calendar year so many before, for whoever asks and however often."""
    return date(session.date.year - years, 1, 1)


class DailyFeatures:
    """A pure function of the days from `anchor` on; the days that two sessions share are taken in once. A symbol with a hole of
    more than `hole_sessions_max` begins anew after it. `index` is the symbol that stands for the market, None for the mean of
    all (the attribute: its column); BadInput for one that is not in the universe."""

    def __init__(self, market: MarketDataPort, hole_sessions_max: int, off_loop: OffLoop, index: str | None = None) -> None:
        if index is not None and index not in market.symbols:
            raise BadInput(f"features.index_symbol: {index} is not among the {len(market.symbols)} symbols of the market data")
        self._market, self.hole_sessions_max, self._off_loop = market, hole_sessions_max, off_loop
        self.index = None if index is None else market.symbols.index(index)
        self._computing = asyncio.Lock()
        self._taken: Taken | None = None

    async def before(self, session: Session) -> Floats:
        """Values [symbols, features] of BARS, NaN where unknown. Transient where the source has no history now."""
        async with self._computing:
            history = await self._market.daily_history(session, anchor(session))
            taken, self._taken = self._taken, None  # who is cut off leaves a thread behind that goes on with it
            values, self._taken = await self._off_loop(self._values, history, taken)
            return values

    def _values(self, history: DailyHistory, taken: Taken | None) -> tuple[Floats, Taken | None]:
        if not history.sessions:
            return np.full(BARS.shape(len(history.symbols)), np.nan), None
        features, first = self._fresh(), 0
        if taken is not None and _continues(history, taken[1]):
            features, first = taken[0], len(taken[1].sessions)
        for row in _adjusted(history, first):
            features.push(row)
        return features.values().T.copy(), (features, history)

    def _fresh(self) -> BarFeatures:
        return BarFeatures(len(self._market.symbols), index=self.index, hole_bars_max=self.hole_sessions_max)


def _adjusted(history: DailyHistory, first: int) -> list[BarRows]:
    """The bars of each day from the `first` on, in shares of the very first one."""
    factor = np.cumprod(history.split, axis=0)
    open_, high, low = history.open * factor, history.high * factor, history.low * factor
    close, volume = history.close * factor, history.volume / factor
    columns = (open_, high, low, close, volume, sound_bars(open_, high, low, close, volume))
    return [BarRows(*row) for row in zip(*(column[first:] for column in columns), strict=True)]


def _continues(history: DailyHistory, before: DailyHistory) -> bool:
    """The same days and no correction of them, and more after them."""
    days = len(before.sessions)
    return history.sessions[:days] == before.sessions and all(
        np.array_equal(getattr(history, name)[:days], getattr(before, name), equal_nan=True) for name in (*BAR_COLUMNS, "split")
    )
