"""Where the price stands against its own past: means, highs and lows."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import CLOSES, BarWindows, over

MEANS = (5, 10, 20, 60)
EXTREMES = (20, 60)
_WIDTHS = np.asarray(MEANS, dtype=np.float64)[:, np.newaxis]


def trend(bars: BarWindows, _sums: Floats, values: Floats) -> None:
    """Distances from means, drawdowns and places in channels (catalogue.TREND)."""
    close, closes = bars.last("close"), bars.window("close", 60)
    means = over(closes, MEANS, np.add)
    means /= _WIDTHS
    exponential = bars.means[CLOSES]
    np.divide(close, means, out=values[:4])
    np.divide(close, exponential, out=values[4:7])
    np.divide(means[::2], means[2:], out=values[7:9])
    np.divide(exponential[0], exponential[2], out=values[9])
    np.divide(close, over(closes, EXTREMES, np.maximum), out=values[10:12])
    np.divide(close, over(closes, EXTREMES, np.minimum), out=values[12:14])
    values[:14] -= 1.0
    highest = np.maximum.reduce(bars.window("high", 20))
    negative_lowest = np.maximum.reduce(bars.window("negative_low", 20))
    np.add(close, negative_lowest, out=values[14])
    highest += negative_lowest
    values[14] /= highest
