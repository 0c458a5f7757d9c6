"""Returns, their moments, and what they share with the market's."""

import math

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import ONE, THREE, TWENTY, ZERO, BarWindows

_LAGGED = 60 - np.asarray((1, 2, 3, 5, 10, 20, 40, 60))  # in the last 61 closes
_WIDTHS = np.asarray([[5.0], [10.0], [20.0], [60.0]])
_MEAN_OF_20_AND_60 = np.stack((np.repeat((0.0, 0.05), (40, 20)), np.full(60, 1.0 / 60.0)))
_UNBIASED = _WIDTHS / (_WIDTHS - 1.0)
_FOUR = np.asarray(4.0)
_THREE_AND_SIX, _TWO_AND_THREE = np.asarray([[3.0], [6.0]]), np.asarray([[2.0], [3.0]])
_RESIDUAL = np.asarray(60.0 / 58.0)


class Returns:
    """Simple returns over several lags, and the parts of the last one (catalogue.RETURNS)."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars = bars
        self._lagged, self._simple, self._parts = values[:8], values[:10], values[11:14]
        self._overnight, self._open_to_close, self._range, self._body, self._upper, self._lower = values[8:14]

    def update(self) -> None:
        """Write the values as of the last bars."""
        bars, now, lagged, upper, lower = self._bars, self._bars.now, self._lagged, self._upper, self._lower
        close, open_ = now.close, bars.open
        now.closes.take(_LAGGED, axis=0, out=lagged, mode="clip")
        np.divide(close, lagged, out=lagged)
        np.divide(open_, now.previous_close, out=self._overnight)
        np.divide(close, open_, out=self._open_to_close)
        np.subtract(self._simple, ONE, out=self._simple)
        np.divide(bars.width, close, out=self._range)
        np.subtract(close, open_, out=self._body)
        np.subtract(now.high, np.maximum(open_, close, out=upper), out=upper)
        np.subtract(np.minimum(open_, close, out=lower), bars.low, out=lower)
        np.divide(self._parts, bars.width, out=self._parts)


class Moments:
    """Moments of the distribution of returns (catalogue.MOMENTS), and what they share with the market's (catalogue.MARKET). Raw
    moments are enough: the mean of returns is of the order of their deviation or less."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars, sums = bars, bars.totals.sums
        self._of_windows, self._rise, self._powers = (
            sums("return", "return_2", "market_x_return"),
            sums("rise")[0, 0],
            bars.totals.sums_anew,
        )
        self._first, self._second, self._joint = self._of_windows
        self._third, self._fourth = self._powers
        self._volatilities, self._shorter, self._ratios, self._shape = values[:4], values[:3], values[4:7], values[7:9]
        self._volatility_20, self._volatility_60 = values[2:4]
        self._skewness, self._kurtosis, self._return_z, self._up_fraction = values[7:11]
        self._market_return, self._market_volatility, self._beta = values[11:14]
        self._correlations, self._idiosyncratic_return, self._idiosyncratic_volatility = values[14:16], values[16], values[17]
        self._variance: Floats = np.empty((4, bars.symbols))
        self._work, self._work_2 = np.empty((2, 2, bars.symbols))

    def update(self) -> None:
        """Write the values as of the last bars."""
        variance, volatilities = self._variance, self._volatilities
        np.divide(self._of_windows, _WIDTHS, out=self._of_windows)
        np.divide(self._powers, TWENTY, out=self._powers)
        np.multiply(self._first, self._first, out=variance)
        np.subtract(self._second, variance, out=variance)
        np.maximum(variance, ZERO, out=variance)
        np.multiply(variance, _UNBIASED, out=volatilities)
        np.sqrt(volatilities, out=volatilities)
        np.divide(self._shorter, self._volatility_60, out=self._ratios)
        self._of_20(self._first[2], self._second[2], variance[2])
        self._with_market(self._first[2:], variance[2:])

    def _of_20(self, mean: Floats, raw_2: Floats, m2: Floats) -> None:
        skewness, kurtosis, work, work_2 = self._skewness, self._kurtosis, self._work, self._work_2
        np.multiply(raw_2, _THREE_AND_SIX, out=work)
        np.multiply(mean, mean, out=skewness)
        np.multiply(skewness, _TWO_AND_THREE, out=work_2)
        np.subtract(work, work_2, out=work)
        np.multiply(work, mean, out=work)  # mean (3 raw_2 - 2 mean^2), mean (6 raw_2 - 3 mean^2)
        np.subtract(self._third, work[0], out=skewness)
        np.multiply(self._third, _FOUR, out=kurtosis)
        np.subtract(kurtosis, work[1], out=kurtosis)
        np.multiply(kurtosis, mean, out=kurtosis)
        np.subtract(self._fourth, kurtosis, out=kurtosis)
        np.sqrt(m2, out=work[0])
        work[1] = m2
        np.multiply(work, m2, out=work)
        np.divide(self._shape, work, out=self._shape)  # m3 / m2^1.5, m4 / m2^2
        np.subtract(kurtosis, THREE, out=kurtosis)
        np.subtract(self._bars.returns, mean, out=self._return_z)
        np.divide(self._return_z, self._volatility_20, out=self._return_z)
        np.divide(self._rise, TWENTY, out=self._up_fraction)

    def _with_market(self, means: Floats, variances: Floats) -> None:
        """Means and variances of the returns, of 20 and 60 bars each [2, symbols]."""
        market, joint, work, beta, residual = (
            self._bars.market,
            self._joint[2:],
            self._work,
            self._beta,
            self._idiosyncratic_return,
        )
        market_means = _MEAN_OF_20_AND_60 @ market
        market_variances = np.maximum(_MEAN_OF_20_AND_60 @ (market * market) - market_means * market_means, ZERO)
        variance_20, variance_60 = market_variances.tolist()
        self._market_return.fill(market[-1])
        self._market_volatility.fill(math.sqrt(variance_20 * 20.0 / 19.0))
        np.multiply(means, market_means[:, np.newaxis], out=work)
        np.subtract(joint, work, out=joint)
        np.multiply(variances, market_variances[:, np.newaxis], out=work)
        np.divide(joint, np.sqrt(work, out=work), out=self._correlations)
        if variance_60 > 0.0:
            np.divide(joint[1], variance_60, out=beta)
        else:
            beta.fill(0.0)
        np.multiply(beta, market[-1:], out=residual)
        np.subtract(self._bars.returns, residual, out=residual)
        unexplained = self._idiosyncratic_volatility
        np.multiply(beta, joint[1], out=unexplained)
        np.subtract(variances[1], unexplained, out=unexplained)
        np.maximum(unexplained, ZERO, out=unexplained)
        np.multiply(unexplained, _RESIDUAL, out=unexplained)
        np.sqrt(unexplained, out=unexplained)
