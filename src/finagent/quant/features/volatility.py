"""How far prices range within and between bars."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import RANGES, SQUARES, BarWindows, over, product_sum, summed

WINDOWS = (10, 20)
_WIDTHS = np.asarray(WINDOWS, dtype=np.float64)[:, np.newaxis]
_UNBIASED = _WIDTHS / (_WIDTHS - 1.0)
_K = 0.34 / (1.34 + (_WIDTHS + 1.0) / (_WIDTHS - 1.0))


def ranges(bars: BarWindows, values: Floats) -> None:
    """Range volatilities, mean true ranges and Bollinger's band (catalogue.RANGES)."""
    _of_bodies_and_ranges(bars, values)
    close, means = bars.last("close"), bars.means
    np.divide(bars.true_range, close, out=values[10])
    np.divide(means[RANGES], close, out=values[11:14])
    values[11:14] *= 100.0
    np.sqrt(means[SQUARES], out=values[14])
    away = bars.window("close", 20) - close  # deviations from the last close: nothing cancels where nothing moves
    mean = summed(away)
    mean /= 20.0
    deviation = np.sqrt(np.maximum(product_sum(away, away) / 20.0 - mean * mean, 0.0))
    np.divide(-mean, deviation, out=values[17])
    deviation *= 4.0
    np.divide(0.5 * deviation - mean, deviation, out=values[15])
    np.divide(deviation, close + mean, out=values[16])


def _of_bodies_and_ranges(bars: BarWindows, values: Floats) -> None:
    highs_and_lows, rogers_satchell = (over(bars.window(name, 20), WINDOWS, np.add) for name in ("parkinson", "rogers_satchell"))
    overnight, bodies = bars.window("overnight", 20), bars.window("body", 20)
    squares = over(bodies * bodies, WINDOWS, np.add)
    np.divide(highs_and_lows, 4.0 * np.log(2.0), out=values[:2])
    np.multiply(highs_and_lows, 0.5, out=values[2:4])
    values[2:4] -= (2.0 * np.log(2.0) - 1.0) * squares
    values[4:6] = rogers_satchell
    values[:6] /= np.concatenate((_WIDTHS, _WIDTHS, _WIDTHS))
    _variances(over(overnight, WINDOWS, np.add), over(overnight * overnight, WINDOWS, np.add), values[8:10])
    _variances(over(bodies, WINDOWS, np.add), squares, values[6:8])
    values[6:8] *= _K
    values[6:8] += values[8:10]
    values[6:8] += (1.0 - _K) * values[4:6]
    np.maximum(values[:10], 0.0, out=values[:10])
    np.sqrt(values[:10], out=values[:10])


def _variances(sums: Floats, squares: Floats, found: Floats) -> None:
    """With n - 1, from sums over WINDOWS."""
    sums /= _WIDTHS
    np.divide(squares, _WIDTHS, out=found)
    found -= sums * sums
    np.maximum(found, 0.0, out=found)
    found *= _UNBIASED
