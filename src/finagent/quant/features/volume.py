"""How much is traded, at which prices, and in which direction."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows, over, product_sum, summed
from finagent.quant.features.family import WindowFamily

WINDOWS = (5, 20, 60)


class Volume(WindowFamily):
    """Volume against its past, and what prices did meanwhile."""

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write the rows of the family."""
        volumes, volume = bars.window("volume", 60), bars.last("volume")
        widths = np.asarray(WINDOWS, dtype=np.float64)[:, np.newaxis]
        means = over(volumes, WINDOWS, np.add)
        means /= widths
        np.divide(volume, means, out=values[:3])
        np.divide(means[0], means[2], out=values[3])
        away = volumes - volume  # deviations from the last volume: nothing cancels where nothing moves
        mean = over(away, WINDOWS[1:], np.add) / widths[1:]
        variance = np.maximum(over(away * away, WINDOWS[1:], np.add) / widths[1:] - mean * mean, 0.0)
        np.divide(-mean, np.sqrt(variance), out=values[4:6])
        last, returns = volumes[-20:], bars.window("return", 20)
        traded = summed(last)
        dollars = bars.window("close", 20) * last
        np.log(summed(dollars) / 20.0, out=values[6])
        np.divide(product_sum(np.sign(returns), last), traded, out=values[7])
        np.divide(product_sum(bars.window("close_location", 20), last), traded, out=values[8])
        np.divide(bars.last("close") * traded, product_sum(bars.window("typical_price", 20), last), out=values[9])
        values[9] -= 1.0
        self._illiquidity(returns, dollars, values[10])
        covariance = product_sum(returns, away[-20:]) / 20.0
        mean_return = summed(returns) / 20.0
        spread = np.maximum(product_sum(returns, returns) / 20.0 - mean_return * mean_return, 0.0)
        np.divide(covariance - mean_return * mean[0], np.sqrt(spread * variance[0]), out=values[11])

    def _illiquidity(self, returns: Floats, dollars: Floats, value: Floats) -> None:
        traded = dollars > 0.0
        impact = np.abs(returns)
        impact /= dollars
        impact *= 1e6
        if traded.all():
            np.divide(summed(impact), 20.0, out=value)
            return
        np.copyto(impact, 0.0, where=~traded)
        np.divide(summed(impact), traded.sum(axis=0), out=value)
