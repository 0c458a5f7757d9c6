"""Returns, their moments, and what they share with the market's."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows, over, product_sum, summed

LAGS = np.asarray((1, 5, 10, 20, 60))
WINDOWS = (5, 10, 20, 60)
_WIDTHS = np.asarray(WINDOWS, dtype=np.float64)[:, np.newaxis]
_UNBIASED = _WIDTHS / (_WIDTHS - 1.0)
LONGER = (20, 60)
_WIDE = _WIDTHS[2:]


def returns(bars: BarWindows, values: Floats) -> None:
    """Simple returns over several lags, and the parts of the last one (catalogue.RETURNS)."""
    close, open_, high, low = bars.last("close"), bars.open, bars.last("high"), bars.last("low")
    np.divide(close, bars.window("close", 61)[60 - LAGS], out=values[:5])
    np.divide(open_, bars.previous_close, out=values[5])
    np.divide(close, open_, out=values[6])
    values[:7] -= 1.0
    width = high - low
    np.divide(width, close, out=values[7])
    np.subtract(close, open_, out=values[8])
    np.subtract(high, np.maximum(open_, close), out=values[9])
    np.subtract(np.minimum(open_, close), low, out=values[10])
    values[8:11] /= width


def moments(bars: BarWindows, values: Floats) -> None:
    """Moments of the distribution of returns (catalogue.MOMENTS). Raw moments are enough: the mean of returns is of the order of
    their deviation or less."""
    last = bars.window("return", 60)
    squares = last * last
    first, second = over(last, WINDOWS, np.add), over(squares, WINDOWS, np.add)
    first /= _WIDTHS
    second /= _WIDTHS
    variance = np.maximum(second - first * first, 0.0)
    np.sqrt(variance * _UNBIASED, out=values[:4])
    np.divide(values[0], values[3], out=values[4])
    mean, m2, raw2 = first[2:], variance[2:], second[2:]
    mean2 = mean * mean
    third = over(squares * last, LONGER, np.add)
    third /= _WIDE
    squares *= squares
    fourth = over(squares, LONGER, np.add)
    fourth /= _WIDE
    np.divide(third - mean * (3.0 * raw2 - 2.0 * mean2), m2 * np.sqrt(m2), out=values[5:7])
    np.divide(fourth - mean * (4.0 * third - 6.0 * mean * raw2 + 3.0 * mean * mean2), m2 * m2, out=values[7:9])
    values[7:9] -= 3.0
    np.divide(last[-1] - mean[0], values[2], out=values[9])
    np.divide(np.add.reduce(last[-20:] > 0.0, axis=0), 20.0, out=values[10])
    oldest = bars.window("return", 1, ago=20)[0]
    mean_before = mean[0] + (oldest - last[-1]) / 20.0
    raw_before = raw2[0] + (oldest * oldest - last[-1] * last[-1]) / 20.0
    joint = product_sum(last[-20:], bars.window("return", 20, ago=1)) / 20.0
    variance_before = np.maximum(raw_before - mean_before * mean_before, 0.0)
    np.divide(joint - mean[0] * mean_before, np.sqrt(variance_before * m2[0]), out=values[11])


def market(bars: BarWindows, values: Floats) -> None:
    """What a symbol shares with the market (catalogue.MARKET)."""
    last, theirs = bars.window("return", 60), bars.market
    values[0] = theirs[-1]
    values[1] = theirs[-20:].std(ddof=1)
    for place, width in ((3, 20), (4, 60)):
        ours, away = last[-width:], theirs[-width:] - theirs[-width:].mean()
        their_variance = float(away @ away) / width
        covariance = np.einsum("i,ij->j", away, ours)
        covariance /= width
        mean = summed(ours) / width
        variance = np.maximum(product_sum(ours, ours) / width - mean * mean, 0.0)
        np.divide(covariance, np.sqrt(their_variance * variance), out=values[place])
    if their_variance > 0.0:
        np.divide(covariance, their_variance, out=values[2])
    else:
        values[2] = 0.0
    np.subtract(last[-1], values[2] * theirs[-1], out=values[5])
    np.sqrt(np.maximum(variance - values[2] * covariance, 0.0) * (60.0 / 58.0), out=values[6])
