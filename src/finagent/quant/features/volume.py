"""How much is traded, at which prices, and in which direction."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows, over, product_sum, summed

WINDOWS = (5, 20, 60)
_WIDTHS = np.asarray(WINDOWS, dtype=np.float64)[:, np.newaxis]


def volume(bars: BarWindows, values: Floats) -> None:
    """Volume against its past, and what prices did meanwhile (catalogue.VOLUME)."""
    traded, newest = bars.window("volume", 60), bars.last("volume")
    away = traded - newest  # deviations from the last volume: nothing cancels where nothing moves
    mean = over(away, WINDOWS, np.add)
    mean /= _WIDTHS
    total = mean + newest
    np.divide(newest, total, out=values[:3])
    np.divide(total[0], total[2], out=values[3])
    variance = over(away * away, WINDOWS[1:], np.add)
    variance /= _WIDTHS[1:]
    variance -= mean[1:] * mean[1:]
    np.maximum(variance, 0.0, out=variance)
    np.divide(-mean[1:], np.sqrt(variance), out=values[4:6])
    _with_prices(bars, away[-20:], values, variance[0], mean[1])


def _with_prices(bars: BarWindows, away: Floats, values: Floats, variance: Floats, mean: Floats) -> None:
    last, returns = bars.window("volume", 20), bars.window("return", 20)
    traded = summed(last)
    dollars = bars.window("close", 20) * last
    np.log(summed(dollars) / 20.0, out=values[6])
    np.divide(product_sum(np.sign(returns), last), traded, out=values[7])
    np.divide(product_sum(bars.window("close_location", 20), last), traded, out=values[8])
    np.divide(bars.last("close") * traded, product_sum(bars.window("typical_price", 20), last), out=values[9])
    values[9] -= 1.0
    impact = np.abs(returns)
    impact /= dollars
    if last.all():
        np.multiply(summed(impact), 1e6 / 20.0, out=values[10])
    else:
        np.copyto(impact, 0.0, where=last == 0.0)
        np.divide(1e6 * summed(impact), np.count_nonzero(last, axis=0), out=values[10])
    mean_return = summed(returns)
    mean_return /= 20.0
    spread = np.maximum(product_sum(returns, returns) / 20.0 - mean_return * mean_return, 0.0)
    np.divide(product_sum(returns, away) / 20.0 - mean_return * mean, np.sqrt(spread * variance), out=values[11])
