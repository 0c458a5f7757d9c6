"""Which way prices go, and how persistently."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import (
    DIRECTIONS,
    DX,
    GAINS,
    HUNDRED,
    LOSSES,
    ONE,
    RANGES,
    SIGNAL,
    SLOW,
    THREE,
    TWENTY,
    BarWindows,
)

_STEPS = np.arange(20.0) - 9.5
_SPREAD = np.asarray(_STEPS @ _STEPS)
_WEIGHTS = _STEPS / _SPREAD
_MINUS_CCI = np.asarray(-0.015 / 20.0)


class Momentum:
    """Oscillators of closes and ranges (catalogue.MOMENTUM)."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars, means, again = bars, bars.means, bars.means_of_means
        self._gains, self._losses, self._directions = means[GAINS], means[LOSSES], means[DIRECTIONS]
        self._range_14, self._slow_mean, self._mean_dx, self._mean_macd = means[RANGES][1], means[SLOW], again[DX], again[SIGNAL]
        self._rsi, self._plus_and_minus_di, self._of_100, self._ppo_and_trix = values[:3], values[4:6], values[:8], values[11:13]
        self._cmo, self._plus_di, self._minus_di, self._dx, self._adx = values[3:8]
        self._macd, self._signal, self._histogram, self._ppo, self._trix = values[8:13]
        self._fast_k, self._slow_k, self._slow_d, self._williams_r, self._cci, self._mfi, self._slope, self._fit = values[13:21]
        self._flow_up, self._flow_down = bars.totals.sums("flow_up", "flow_down")[:, 0]
        self._three = np.empty((3, bars.symbols))
        self._away = np.empty((20, bars.symbols))
        self._scratch, self._scratch_2 = np.empty((2, bars.symbols))

    def update(self) -> None:
        """Write the values as of the last bars."""
        self._of_means()
        self._of_places()
        self._of_typical_prices()
        self._of_the_line()

    def _of_means(self) -> None:
        bars, close, total, dx = self._bars, self._bars.now.close, self._three, self._dx
        np.add(self._gains, self._losses, out=total)
        np.divide(self._gains, total, out=self._rsi)
        np.subtract(self._gains[1], self._losses[1], out=self._cmo)
        np.divide(self._cmo, total[1], out=self._cmo)
        np.divide(self._directions, self._range_14, out=self._plus_and_minus_di)
        np.subtract(self._plus_di, self._minus_di, out=dx)
        np.abs(dx, out=dx)
        np.add(self._plus_di, self._minus_di, out=self._scratch)
        np.divide(dx, self._scratch, out=dx)
        self._adx[:] = self._mean_dx
        np.multiply(self._of_100, HUNDRED, out=self._of_100)
        np.divide(bars.macd, close, out=self._macd)
        np.divide(self._mean_macd, close, out=self._signal)
        np.subtract(self._macd, self._signal, out=self._histogram)
        np.divide(bars.macd, self._slow_mean, out=self._ppo)
        np.divide(bars.triple, bars.triple_before, out=self._trix)
        np.subtract(self._trix, ONE, out=self._trix)
        np.multiply(self._ppo_and_trix, HUNDRED, out=self._ppo_and_trix)

    def _of_places(self) -> None:
        places, slow = self._bars.now.places, self._three
        np.add(places[:-2], places[1:-1], out=slow)
        np.add(slow, places[2:], out=slow)
        np.divide(slow, THREE, out=slow)
        self._fast_k[:], self._slow_k[:] = places[-1], slow[-1]
        np.add.reduce(slow, axis=0, out=self._slow_d)
        np.divide(self._slow_d, THREE, out=self._slow_d)
        np.subtract(places[-1], HUNDRED, out=self._williams_r)

    def _of_typical_prices(self) -> None:
        now, away, mean, deviation, mfi = self._bars.now, self._away, self._scratch, self._scratch_2, self._mfi
        np.subtract(now.typical_prices, now.typical, out=away)
        np.add.reduce(away, axis=0, out=mean)
        np.divide(mean, TWENTY, out=mean)
        np.subtract(away, mean, out=away)
        np.abs(away, out=away)
        np.add.reduce(away, axis=0, out=deviation)
        np.multiply(deviation, _MINUS_CCI, out=deviation)  # the last price stands minus the mean above the mean
        np.divide(mean, deviation, out=self._cci)
        np.add(self._flow_up, self._flow_down, out=mfi)
        np.divide(self._flow_up, mfi, out=mfi)
        np.multiply(mfi, HUNDRED, out=mfi)

    def _of_the_line(self) -> None:
        bars, slope = self._bars, self._scratch
        np.einsum("i,ij->j", _WEIGHTS, bars.closes_away, out=slope)
        np.divide(slope, bars.now.close, out=self._slope)
        np.multiply(slope, slope, out=slope)
        np.multiply(slope, _SPREAD, out=slope)
        np.divide(slope, bars.away_squares, out=self._fit)
