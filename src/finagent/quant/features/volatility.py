"""How far prices range within and between bars."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import RANGES, SQUARES, SUMS, BarWindows

_WIDTHS = np.asarray([[10.0], [20.0]])
_UNBIASED = _WIDTHS / (_WIDTHS - 1.0)
_K = 0.34 / (1.34 + (_WIDTHS + 1.0) / (_WIDTHS - 1.0))


def ranges(bars: BarWindows, sums: Floats, values: Floats) -> None:
    """Range volatilities, mean true ranges and Bollinger's band (catalogue.RANGES)."""
    _of_bodies_and_ranges(sums, values)
    close, means = bars.last("close"), bars.means
    np.divide(bars.overnight, values[9], out=values[10])
    np.divide(bars.true_range, close, out=values[11])
    np.divide(means[RANGES], close, out=values[12:15])
    values[12:15] *= 100.0
    np.divide(values[12], values[14], out=values[15])
    np.sqrt(means[SQUARES], out=values[16])
    _, mean, total = bars.closes_away()
    deviation = np.sqrt(total / 20.0)
    np.divide(-mean, deviation, out=values[19])
    deviation *= 4.0
    np.divide(0.5 * deviation - mean, deviation, out=values[17])
    np.divide(deviation, close + mean, out=values[18])


def _of_bodies_and_ranges(sums: Floats, values: Floats) -> None:
    parkinson, satchell = sums[SUMS["parkinson"]], sums[SUMS["rogers_satchell"]]
    overnight, body, body_2 = sums[SUMS["overnight"]], sums[SUMS["body"]], sums[SUMS["body_2"]]
    np.divide(parkinson, 4.0 * np.log(2.0), out=values[:2])
    np.multiply(parkinson, 0.5, out=values[2:4])
    values[2:4] -= (2.0 * np.log(2.0) - 1.0) * body_2
    values[4:6] = satchell
    values[8:10] = sums[SUMS["overnight_2"]]
    values[8:10] -= overnight * overnight / _WIDTHS
    values[8:10] *= _UNBIASED
    np.maximum(values[8:10], 0.0, out=values[8:10])
    body_2 -= body * body / _WIDTHS
    body_2 *= _UNBIASED * _K
    np.maximum(body_2, 0.0, out=body_2)
    np.multiply(satchell, 1.0 - _K, out=values[6:8])
    values[6:8] += body_2
    values[6:8] += values[8:10]
    spread = values[:10].reshape(5, 2, -1)
    spread /= _WIDTHS
    np.maximum(spread, 0.0, out=spread)
    np.sqrt(spread, out=spread)
