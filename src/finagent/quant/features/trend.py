"""Where the price stands against its own past: means, highs and lows."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import CLOSES, ONE, BarWindows

_WIDTHS = np.asarray([[5.0], [10.0], [20.0], [60.0]])


class Trend:
    """Distances from means, drawdowns and places in channels (catalogue.TREND)."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars, self._exponential = bars, bars.means[CLOSES]
        self._means: Floats = np.empty((4, bars.symbols))
        self._sma_distances, self._ema_distances = values[:4], values[4:7]
        self._sma_crosses, self._ema_cross = values[7:9], values[9]
        self._extremes, self._extreme_rows, self._mean_rows = values[10:14], tuple(values[10:14]), tuple(self._means)
        self._returns, self._channel_position = values[:14], values[14]
        self._channel: Floats = np.empty((2, bars.symbols))
        self._channel_rows = tuple(self._channel)

    def update(self) -> None:
        """Write the values as of the last bars."""
        now, means, exponential = self._bars.now, self._means, self._exponential
        close = now.close
        self._sum_up()
        np.divide(means, _WIDTHS, out=means)
        np.divide(close, means, out=self._sma_distances)
        np.divide(close, exponential, out=self._ema_distances)
        np.divide(means[::2], means[2:], out=self._sma_crosses)
        np.divide(exponential[0], exponential[2], out=self._ema_cross)
        self._find_extremes()
        np.divide(close, self._extremes, out=self._extremes)
        np.subtract(self._returns, ONE, out=self._returns)
        channel, position, highest, negative_lowest = self._channel, self._channel_position, *self._channel_rows
        np.maximum.reduce(now.extremes_before_14, axis=0, out=channel)
        np.maximum(channel, self._bars.extremes_of_14, out=channel)
        np.add(close, negative_lowest, out=position)
        np.add(highest, negative_lowest, out=highest)
        np.divide(position, highest, out=position)

    def _sum_up(self) -> None:
        """The closes of 5, 10, 20 and 60 bars, each of which is read once."""
        now, (of_5, of_10, of_20, of_60) = self._bars.now, self._mean_rows
        np.add.reduce(now.closes_of_5, axis=0, out=of_5)
        np.add(of_5, np.add.reduce(now.closes_before_5, axis=0, out=of_10), out=of_10)
        np.add(of_10, np.add.reduce(now.closes_before_10, axis=0, out=of_20), out=of_20)
        np.add(of_20, np.add.reduce(now.closes_before_20, axis=0, out=of_60), out=of_60)

    def _find_extremes(self) -> None:
        now, (highest_20, highest_60, lowest_20, lowest_60) = self._bars.now, self._extreme_rows
        np.maximum.reduce(now.closes_of_20, axis=0, out=highest_20)
        np.maximum(highest_20, np.maximum.reduce(now.closes_before_20, axis=0, out=highest_60), out=highest_60)
        np.minimum.reduce(now.closes_of_20, axis=0, out=lowest_20)
        np.minimum(lowest_20, np.minimum.reduce(now.closes_before_20, axis=0, out=lowest_60), out=lowest_60)
