"""Every feature of completed bars: one definition, driven bar by bar or over history."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarRows, BarWindows
from finagent.quant.features.catalogue import BARS, MARKET, MOMENTS, MOMENTUM, RANGES, RETURNS, TREND, VOLUME
from finagent.quant.features.cross_section import ranks
from finagent.quant.features.family import Family, State
from finagent.quant.features.momentum import Momentum
from finagent.quant.features.returns import Market, Moments, Returns
from finagent.quant.features.trend import Trend
from finagent.quant.features.volatility import Ranges
from finagent.quant.features.volume import Volume

RANKED = ("return_1", "return_20", "volatility_20", "volume_ratio_20")


class BarFeatures:
    """The features of BARS for `symbols` symbols, whose state is the last bars. `index` is the column of the market index, None
    for the mean of all symbols."""

    def __init__(self, symbols: int, *, index: int | None, hole_bars_max: int) -> None:
        self.bars = BarWindows(symbols, hole_bars_max)
        families: tuple[tuple[Family, int], ...] = (
            (Returns(), len(RETURNS)),
            (Moments(), len(MOMENTS)),
            (Ranges(symbols), len(RANGES)),
            (Momentum(symbols), len(MOMENTUM)),
            (Volume(), len(VOLUME)),
            (Trend(symbols), len(TREND)),
            (Market(index), len(MARKET)),
        )
        self._values: Floats = np.full((len(BARS.features), symbols), np.nan)
        self._families: list[tuple[Family, Floats]] = []
        start = 0
        for family, rows in families:
            self._families.append((family, self._values[start : start + rows]))
            start += rows
        self._ranks = self._values[start:]
        self._ranked = [BARS.columns[name] for name in RANKED]
        self._warmup = np.asarray([feature.warmup for feature in BARS.features])[:, np.newaxis]
        self._longest = int(self._warmup.max())
        self._neutral = np.asarray([np.nan if f.neutral is None else f.neutral for f in BARS.features])[:, np.newaxis]

    def update(self, bars: BarRows) -> Floats:
        """Take in the bars of the next bar-time; the values [features, symbols] as of then, NaN where unknown. The array is
        written anew by the next update."""
        self.bars.push(bars)
        values = self._values
        with np.errstate(all="ignore"):
            for family, rows in self._families:
                family.update(self.bars, rows)
            np.copyto(values, self._neutral, where=~np.isfinite(values))
            if self.bars.fewest < self._longest:
                np.copyto(values, np.nan, where=self.bars.count < self._warmup)
            self._ranks[:] = ranks(values[self._ranked])
        return values

    def state(self) -> dict[str, State]:
        """Copies of all arrays that the next bars build on; `restore` goes on from them."""
        kept: dict[str, State] = {"bars": self.bars.state()}
        for family, _ in self._families:
            kept |= family.state()
        return {part: {name: array.copy() for name, array in arrays.items()} for part, arrays in kept.items()}

    def restore(self, state: Mapping[str, State]) -> None:
        """Go on from a saved state of as many symbols."""
        self.bars.restore(state["bars"])
        for family, _ in self._families:
            family.restore(state)


def over_history(features: BarFeatures, history: Iterable[BarRows]) -> NDArray[np.float64]:
    """Values [bar-times, symbols, features] of a history in order of time: the very updates, one after the other."""
    return np.stack([features.update(bars).T.copy() for bars in history])
