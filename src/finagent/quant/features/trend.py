"""Where the price stands against its own past: means, highs and lows."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import CLOSES, BarWindows, over

MEANS = (5, 10, 20, 60, 120)
HIGHS = (20, 60, 120)
CHANNELS = (20, 60)
_WIDTHS = np.asarray(MEANS, dtype=np.float64)[:, np.newaxis]


def trend(bars: BarWindows, values: Floats) -> None:
    """Distances from means, drawdowns and places in channels (catalogue.TREND)."""
    close, closes = bars.last("close"), bars.window("close", 120)
    means = over(closes, MEANS, np.add)
    means /= _WIDTHS
    np.divide(close, means, out=values[:5])
    np.divide(close, bars.means[CLOSES], out=values[5:8])
    np.divide(means[0], means[2], out=values[8])
    np.divide(means[2], means[3], out=values[9])
    np.divide(close, over(closes, HIGHS, np.maximum), out=values[10:13])
    np.divide(close, over(closes, CHANNELS, np.minimum), out=values[13:15])
    values[:15] -= 1.0
    highest, lowest = over(bars.window("high", 60), CHANNELS, np.maximum), over(bars.window("low", 60), CHANNELS, np.minimum)
    highest -= lowest
    np.subtract(close, lowest, out=values[15:17])
    values[15:17] /= highest
