"""Every feature of completed bars: one definition, driven bar by bar or over history."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.data_spec import Group
from finagent.quant.features.bar_windows import BarRows, BarWindows
from finagent.quant.features.catalogue import BARS, MARKET, MOMENTS, MOMENTUM, RANGES, RETURNS, TREND, VOLUME
from finagent.quant.features.cross_section import Ranks
from finagent.quant.features.momentum import Momentum
from finagent.quant.features.returns import Moments, Returns
from finagent.quant.features.trend import Trend
from finagent.quant.features.volatility import Ranges
from finagent.quant.features.volume import Volume


class Family(Protocol):
    """Features of the bars, whose rows [features, symbols] it is given and writes at each `update`. Where a symbol has fewer bars
    than the warm-up they may be anything, and where nothing moved what 0/0 gives. It may change the sums over windows that no
    other family reads."""

    def __init__(self, bars: BarWindows, values: Floats) -> None: ...

    def update(self) -> None:
        """Write the values as of the last bars."""


FAMILIES: tuple[tuple[type[Family], int], ...] = (  # in the order of the catalogue
    (Returns, len(RETURNS)),
    (Moments, len(MOMENTS) + len(MARKET)),
    (Ranges, len(RANGES)),
    (Momentum, len(MOMENTUM)),
    (Volume, len(VOLUME)),
    (Trend, len(TREND)),
)
RANKED = ("return_1", "return_20", "volatility_20")
_WARMUP = np.asarray([feature.warmup for feature in BARS.features])[:, np.newaxis]
_LONGEST = int(_WARMUP.max())
_OF_MARKET = np.asarray([feature.group is Group.MARKET for feature in BARS.features])
_NEUTRAL = np.asarray([np.nan if feature.neutral is None else feature.neutral for feature in BARS.features])[:, np.newaxis]


class BarFeatures:
    """The features of BARS for `symbols` symbols; see BarWindows for `index` and holes. `push` takes in bars, `values` says what
    the features are as of then: over history, whoever wants the last values alone pushes all bars and asks once."""

    def __init__(self, symbols: int, *, index: int | None, hole_bars_max: int) -> None:
        self.bars = BarWindows(symbols, index=index, hole_bars_max=hole_bars_max)
        self._values: Floats = np.full((len(BARS.features), symbols), np.nan)
        finite: NDArray[np.bool_] = np.empty(self._values.shape, dtype=np.bool_)
        self._families: list[tuple[Family, Floats, Floats, NDArray[np.bool_]]] = []
        start = 0
        for family, rows in FAMILIES:
            own = slice(start, start + rows)
            self._families.append((family(self.bars, self._values[own]), self._values[own], _NEUTRAL[own], finite[own]))
            start += rows
        self._ranks = self._values[start:]
        self._ranked = np.asarray([BARS.columns[name] for name in RANKED])
        self._unranked: Floats = np.empty((len(RANKED), symbols))
        self._ranking = Ranks(len(RANKED), symbols)

    def push(self, bars: BarRows) -> None:
        """Take in the bars of the next bar-time."""
        self.bars.push(bars)

    def values(self) -> Floats:
        """[features, symbols] as of the last bars, NaN where unknown. The array is written anew by the next call."""
        values = self._values
        with np.errstate(all="ignore"):
            self.bars.look_back()
            for family, rows, neutral, finite in self._families:
                family.update()
                np.isfinite(rows, out=finite)  # while they are in the cache of the processor
                if np.count_nonzero(finite) < finite.size:
                    np.copyto(rows, neutral, where=~finite)
            if self.bars.fewest < _LONGEST:
                np.copyto(values, np.nan, where=self.bars.counted < _WARMUP)
            if self.bars.market_bars + 1 < _LONGEST:
                values[_OF_MARKET & (self.bars.market_bars + 1 < _WARMUP[:, 0])] = np.nan
            values.take(self._ranked, axis=0, out=self._unranked, mode="clip")
            self._ranking.write(self._unranked, self._ranks)
        return values

    def update(self, bars: BarRows) -> Floats:
        """`push` and `values`."""
        self.push(bars)
        return self.values()


def over_history(features: BarFeatures, history: Iterable[BarRows]) -> Floats:
    """Values [bar-times, symbols, features] of a history in order of time: the very updates, one after the other."""
    rows = list(history)
    found = np.empty((len(rows), len(BARS.features), features.bars.symbols))
    for bars, values in zip(rows, found, strict=True):
        values[:] = features.update(bars)
    return found.transpose(0, 2, 1)
