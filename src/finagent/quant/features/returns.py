"""Returns, their moments, and what they share with the market's."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import SUMS, BarWindows

LAGS = np.asarray((1, 2, 3, 5, 10, 20, 40, 60))
_WIDTHS = np.asarray([[5.0], [10.0], [20.0], [60.0]])
_MEAN_OF_20_AND_60 = np.stack((np.repeat((0.0, 0.05), (40, 20)), np.full(60, 1.0 / 60.0)))
_UNBIASED = _WIDTHS / (_WIDTHS - 1.0)


def returns(bars: BarWindows, _sums: Floats, values: Floats) -> None:
    """Simple returns over several lags, and the parts of the last one (catalogue.RETURNS)."""
    close, open_, high, low = bars.last("close"), bars.open, bars.last("high"), bars.low
    np.divide(close, bars.window("close", 61)[60 - LAGS], out=values[:8])
    np.divide(open_, bars.previous_close, out=values[8])
    np.divide(close, open_, out=values[9])
    values[:10] -= 1.0
    width = high - low
    np.divide(width, close, out=values[10])
    np.subtract(close, open_, out=values[11])
    np.subtract(high, np.maximum(open_, close), out=values[12])
    np.subtract(np.minimum(open_, close), low, out=values[13])
    values[11:14] /= width


def moments(bars: BarWindows, sums: Floats, values: Floats) -> None:
    """Moments of the distribution of returns (catalogue.MOMENTS), and what they share with the market's (catalogue.MARKET). Raw
    moments are enough: the mean of returns is of the order of their deviation or less."""
    first, second = sums[SUMS["return"]], sums[SUMS["return_2"]]
    first /= _WIDTHS
    second /= _WIDTHS
    variance = second - first * first
    np.maximum(variance, 0.0, out=variance)
    np.sqrt(variance * _UNBIASED, out=values[:4])
    np.divide(values[:3], values[3], out=values[4:7])
    mean, m2 = first[2], variance[2]
    third, fourth = sums[SUMS["return_3"]][0], sums[SUMS["return_4"]][0]
    third /= 20.0
    fourth /= 20.0
    mean2, raw2 = mean * mean, second[2]
    np.divide(third - mean * (3.0 * raw2 - 2.0 * mean2), m2 * np.sqrt(m2), out=values[7])
    np.divide(fourth - mean * (4.0 * third - mean * (6.0 * raw2 - 3.0 * mean2)), m2 * m2, out=values[8])
    values[8] -= 3.0
    np.divide(bars.returns - mean, values[2], out=values[9])
    np.divide(sums[SUMS["rise"]][0], 20.0, out=values[10])
    _with_market(bars, sums[SUMS["market_x_return"]], first[2:], variance[2:], values[11:])


def _with_market(bars: BarWindows, joint: Floats, means: Floats, variances: Floats, values: Floats) -> None:
    """Sums of the products with the market, means and variances of the returns, of 20 and 60 bars each [2, symbols]."""
    theirs = bars.market[:, np.newaxis]
    values[0] = theirs[-1]
    their_means = _MEAN_OF_20_AND_60 @ theirs
    their_variances = np.maximum(_MEAN_OF_20_AND_60 @ (theirs * theirs) - their_means * their_means, 0.0)
    values[1] = np.sqrt(their_variances[0, 0] * 20.0 / 19.0)
    joint /= _WIDTHS[2:]
    joint -= their_means * means
    np.divide(joint, np.sqrt(their_variances * variances), out=values[3:5])
    if their_variances[1, 0] > 0.0:
        np.divide(joint[1], their_variances[1, 0], out=values[2])
    else:
        values[2] = 0.0
    np.subtract(bars.returns, values[2] * theirs[-1], out=values[5])
    np.sqrt(np.maximum(variances[1] - values[2] * joint[1], 0.0) * (60.0 / 58.0), out=values[6])
