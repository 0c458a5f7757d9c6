"""Returns, their moments, and what they share with the market's."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import DEPTHS, BarWindows, over, product_sum, summed
from finagent.quant.features.family import State, WindowFamily

LAGS = (1, 5, 10, 20, 60)
WINDOWS = (5, 10, 20, 60)


class Returns(WindowFamily):
    """Simple returns over several lags, and the parts of the last one."""

    def __init__(self) -> None:
        self._lags = np.asarray(LAGS)

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write the rows of the family."""
        close, open_, high, low = bars.last("close"), bars.open, bars.last("high"), bars.last("low")
        window = bars.window("close", LAGS[-1] + 1)
        np.divide(close, window[LAGS[-1] - self._lags], out=values[:5])
        np.divide(open_, bars.previous_close, out=values[5])
        np.divide(close, open_, out=values[6])
        values[:7] -= 1.0
        width = high - low
        np.divide(width, close, out=values[7])
        np.subtract(close, open_, out=values[8])
        np.subtract(high, np.maximum(open_, close), out=values[9])
        np.subtract(np.minimum(open_, close), low, out=values[10])
        values[8:11] /= width


class Moments(WindowFamily):
    """Moments of the distribution of returns over windows of bars."""

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Raw moments are enough: the mean of returns is of the order of their deviation or less."""
        returns = bars.window("return", 60)
        widths = np.asarray(WINDOWS, dtype=np.float64)[:, np.newaxis]
        squares = returns * returns
        first, second = over(returns, WINDOWS, np.add) / widths, over(squares, WINDOWS, np.add) / widths
        variance = second - first * first
        np.sqrt(np.maximum(variance, 0.0) * (widths / (widths - 1.0)), out=values[:4])
        np.divide(values[0], values[3], out=values[4])
        longer, mean, m2 = (20, 60), first[2:], np.maximum(variance[2:], 0.0)
        wide = widths[2:]
        third = over(squares * returns, longer, np.add) / wide
        fourth = over(squares * squares, longer, np.add) / wide
        mean2 = mean * mean
        np.divide(third - 3.0 * mean * second[2:] + 2.0 * mean * mean2, m2 * np.sqrt(m2), out=values[5:7])
        np.divide(fourth - 4.0 * mean * third + 6.0 * mean2 * second[2:] - 3.0 * mean2 * mean2, m2 * m2, out=values[7:9])
        values[7:9] -= 3.0
        np.divide(returns[-1] - mean[0], values[2], out=values[9])
        np.divide(np.add.reduce(returns[-20:] > 0.0, axis=0), 20.0, out=values[10])
        before = bars.window("return", 20, ago=1)
        joint = product_sum(returns[-20:], before) / 20.0
        mean_before = summed(before) / 20.0
        variance_before = product_sum(before, before) / 20.0 - mean_before * mean_before
        np.divide(joint - mean[0] * mean_before, np.sqrt(np.maximum(variance_before, 0.0) * m2[0]), out=values[11])


class Market:
    """What a symbol shares with the market: `index` is the column that is the market, None the plain mean of all symbols."""

    def __init__(self, index: int | None) -> None:
        self._index = index
        self._market: Floats = np.zeros(DEPTHS["return"])

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write the rows of the family."""
        newest = bars.last("return")
        self._market[:-1] = self._market[1:]
        self._market[-1] = self._of_market(newest, bars)
        market = self._market[-60:, np.newaxis]
        returns = bars.window("return", 60)
        values[0] = self._market[-1]
        for place, width in ((3, 20), (4, 60)):
            theirs, ours = market[-width:], returns[-width:]
            their_mean, our_mean = theirs.mean(), summed(ours) / width
            covariance = np.einsum("i,ij->j", theirs[:, 0] - their_mean, ours) / width
            their_variance = float(theirs.var())
            variance = np.maximum(product_sum(ours, ours) / width - our_mean * our_mean, 0.0)
            np.divide(covariance, np.sqrt(their_variance * variance), out=values[place])
        values[1] = market[-20:].std(ddof=1)
        np.divide(covariance, their_variance, out=values[2])
        if their_variance == 0.0:
            values[2] = 0.0
        np.subtract(newest, values[2] * self._market[-1], out=values[5])
        np.sqrt(np.maximum(variance - values[2] * covariance, 0.0) * (60.0 / 58.0), out=values[6])

    def _of_market(self, newest: Floats, bars: BarWindows) -> float:
        if self._index is not None:
            return float(newest[self._index])
        known: NDArray[np.bool_] = bars.count >= 2
        return float(newest[known].mean()) if known.any() else 0.0

    def state(self) -> dict[str, State]:
        return {"market": {"returns": self._market}}

    def restore(self, state: Mapping[str, State]) -> None:
        """Go on from the saved returns of the market."""
        self._market[:] = state["market"]["returns"]
