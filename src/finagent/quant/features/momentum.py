"""Which way prices go, and how persistently."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import (
    DIRECTIONS,
    DX,
    FAST,
    GAINS,
    LOSSES,
    RANGES,
    SIGNAL,
    SLOW,
    SUMS,
    BarWindows,
    summed,
)

_STEPS = np.arange(20.0) - 9.5
_SPREAD = float(_STEPS @ _STEPS)
_WEIGHTS = _STEPS / _SPREAD


def momentum(bars: BarWindows, sums: Floats, values: Floats) -> None:
    """Oscillators of closes and ranges (catalogue.MOMENTUM)."""
    _of_means(bars, values)
    _of_places(bars, values)
    _of_typical_prices(bars, sums, values)
    _of_the_line(bars, values)


def _of_means(bars: BarWindows, values: Floats) -> None:
    close, means, again = bars.last("close"), bars.means, bars.means_of_means
    gains, losses = means[GAINS], means[LOSSES]
    total = gains + losses
    np.divide(gains, total, out=values[:3])
    np.divide(gains[1] - losses[1], total[1], out=values[3])
    np.divide(means[DIRECTIONS], means[RANGES][1], out=values[4:6])
    np.divide(np.abs(values[4] - values[5]), values[4] + values[5], out=values[6])
    values[7] = again[DX]
    macd = means[FAST] - means[SLOW]
    np.divide(macd, close, out=values[8])
    np.divide(again[SIGNAL], close, out=values[9])
    np.subtract(values[8], values[9], out=values[10])
    np.divide(macd, means[SLOW], out=values[11])
    np.divide(bars.triple, bars.triple_before, out=values[12])
    values[12] -= 1.0
    values[:8] *= 100.0
    values[11:13] *= 100.0


def _of_places(bars: BarWindows, values: Floats) -> None:
    last = bars.window("stochastic", 5)
    slow = last[:-2] + last[1:-1]
    slow += last[2:]
    slow /= 3.0
    values[13], values[14] = last[-1], slow[-1]
    np.divide(summed(slow), 3.0, out=values[15])
    np.subtract(last[-1], 100.0, out=values[16])


def _of_typical_prices(bars: BarWindows, sums: Floats, values: Floats) -> None:
    prices = bars.window("typical_price", 20)
    away = prices - prices[-1]
    mean = summed(away)
    mean /= 20.0
    away -= mean
    np.abs(away, out=away)
    np.divide(-mean, 0.015 / 20.0 * summed(away), out=values[17])
    up, down = sums[SUMS["flow_up"]][0], sums[SUMS["flow_down"]][0]
    np.divide(up, up + down, out=values[18])
    values[18] *= 100.0


def _of_the_line(bars: BarWindows, values: Floats) -> None:
    away, _, total = bars.closes_away()
    slope = np.einsum("i,ij->j", _WEIGHTS, away)
    np.divide(slope, bars.last("close"), out=values[19])
    slope *= slope
    slope *= _SPREAD
    np.divide(slope, total, out=values[20])
