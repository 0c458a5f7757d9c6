"""Where the price stands against its own past: means, highs and lows."""

from collections.abc import Mapping

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows, over
from finagent.quant.features.family import State
from finagent.quant.features.smoothing import Smoother, ema

MEANS = (5, 10, 20, 60, 120)
EXPONENTIAL = (5, 10, 20)
HIGHS = (20, 60, 120)
CHANNELS = (20, 60)


class Trend:
    """Distances from means, drawdowns and places in channels."""

    def __init__(self, symbols: int) -> None:
        self._means = Smoother(tuple(ema(p) for p in EXPONENTIAL), EXPONENTIAL, symbols)
        self._widths = np.asarray(MEANS, dtype=np.float64)[:, np.newaxis]

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write the rows of the family."""
        close, closes = bars.last("close"), bars.window("close", 120)
        means = over(closes, MEANS, np.add)
        means /= self._widths
        np.divide(close, means, out=values[:5])
        np.divide(close, self._means.update(close, bars.count, bars.fewest), out=values[5:8])
        np.divide(means[0], means[2], out=values[8])
        np.divide(means[2], means[3], out=values[9])
        np.divide(close, over(closes, HIGHS, np.maximum), out=values[10:13])
        np.divide(close, over(closes[-60:], CHANNELS, np.minimum), out=values[13:15])
        values[:15] -= 1.0
        highest = over(bars.window("high", 60), CHANNELS, np.maximum)
        lowest = over(bars.window("low", 60), CHANNELS, np.minimum)
        np.divide(close - lowest, highest - lowest, out=values[15:17])

    def state(self) -> dict[str, State]:
        return {"trend": self._means.state()}

    def restore(self, state: Mapping[str, State]) -> None:
        """Go on from saved means."""
        self._means.restore(state["trend"])
