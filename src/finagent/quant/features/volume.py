"""How much is traded, at which prices, and in which direction."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import SUMS, BarWindows

_WIDTHS = np.asarray([[5.0], [20.0], [60.0]])


def volume(bars: BarWindows, sums: Floats, values: Floats) -> None:
    """Volume against its past, and what prices did meanwhile (catalogue.VOLUME)."""
    totals, newest = sums[SUMS["volume"]], bars.volume
    traded = totals[1].copy()
    totals /= _WIDTHS
    np.divide(newest, totals, out=values[:3])
    np.divide(totals[:2], totals[2], out=values[3:5])
    variance = sums[SUMS["volume_2"]][0] / 20.0
    variance -= totals[1] * totals[1]
    np.divide(newest - totals[1], np.sqrt(np.maximum(variance, 0.0)), out=values[5])
    np.log(sums[SUMS["dollars"]][0] / 20.0, out=values[6])
    np.divide(sums[SUMS["signed_volume"]][0], traded, out=values[7])
    np.divide(sums[SUMS["located_volume"]][0], traded, out=values[8])
    np.divide(bars.last("close") * traded, sums[SUMS["typical_dollars"]][0], out=values[9])
    values[9] -= 1.0
