"""How far prices range within and between bars."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import HUNDRED, RANGES, SQUARES, TWENTY, ZERO, BarWindows

_WIDTHS = np.asarray([[10.0], [20.0]])
_UNBIASED = _WIDTHS / (_WIDTHS - 1.0)
_K = 0.34 / (1.34 + (_WIDTHS + 1.0) / (_WIDTHS - 1.0))
_OVERNIGHT_AND_BODY = np.stack((_UNBIASED, _UNBIASED * _K))
_REST = 1.0 - _K
_PARKINSON, _GARMAN_KLASS = np.asarray(4.0 * np.log(2.0)), np.asarray(2.0 * np.log(2.0) - 1.0)
_HALF, _FOUR = np.asarray(0.5), np.asarray(4.0)


class Ranges:
    """Range volatilities, mean true ranges and Bollinger's band (catalogue.RANGES)."""

    def __init__(self, bars: BarWindows, values: Floats) -> None:
        self._bars, sums = bars, bars.totals.sums
        self._moves, self._moves_2 = sums("overnight", "body"), sums("overnight_2", "body_2")
        self._overnight_2, self._body_2 = self._moves_2
        self._range_2, self._satchell = sums("parkinson", "rogers_satchell")
        self._spread, self._of_windows = values[:10], values[:10].reshape(5, 2, bars.symbols)
        self._parkinson, self._garman_klass, self._rogers_satchell, self._yang_zhang, self._overnight = self._of_windows
        self._overnight_20, self._overnight_z, self._true_range = values[9:12]
        self._natr, self._natr_7, self._natr_21 = values[12:15], values[12], values[14]
        self._natr_ratio, self._ewma, self._position, self._width, self._close_z = values[15:20]
        self._mean_ranges, self._mean_square = bars.means[RANGES], bars.means[SQUARES]
        self._work: Floats = np.empty((2, bars.symbols))

    def update(self) -> None:
        """Write the values as of the last bars."""
        bars, close = self._bars, self._bars.now.close
        self._of_bodies_and_ranges()
        np.divide(bars.overnight, self._overnight_20, out=self._overnight_z)
        np.divide(bars.true_range, close, out=self._true_range)
        np.divide(self._mean_ranges, close, out=self._natr)
        np.multiply(self._natr, HUNDRED, out=self._natr)
        np.divide(self._natr_7, self._natr_21, out=self._natr_ratio)
        np.sqrt(self._mean_square, out=self._ewma)
        self._of_the_band(close, bars.away_mean, bars.away_squares)

    def _of_bodies_and_ranges(self) -> None:
        moves, moves_2, work = self._moves, self._moves_2, self._work
        np.divide(self._range_2, _PARKINSON, out=self._parkinson)
        np.multiply(self._range_2, _HALF, out=self._garman_klass)
        np.multiply(self._body_2, _GARMAN_KLASS, out=work)
        np.subtract(self._garman_klass, work, out=self._garman_klass)
        self._rogers_satchell[:] = self._satchell
        np.multiply(moves, moves, out=moves)
        np.divide(moves, _WIDTHS, out=moves)
        np.subtract(moves_2, moves, out=moves_2)
        np.multiply(moves_2, _OVERNIGHT_AND_BODY, out=moves_2)
        np.maximum(moves_2, ZERO, out=moves_2)
        self._overnight[:] = self._overnight_2
        np.multiply(self._satchell, _REST, out=self._yang_zhang)
        np.add(self._yang_zhang, self._body_2, out=self._yang_zhang)
        np.add(self._yang_zhang, self._overnight, out=self._yang_zhang)
        np.divide(self._of_windows, _WIDTHS, out=self._of_windows)
        np.maximum(self._spread, ZERO, out=self._spread)
        np.sqrt(self._spread, out=self._spread)

    def _of_the_band(self, close: Floats, away_mean: Floats, away_squares: Floats) -> None:
        """Its width is four deviations; the close stands the mean of what the others are away from it below their mean."""
        width, middle = self._work
        np.divide(away_squares, TWENTY, out=width)
        np.sqrt(width, out=width)
        np.negative(away_mean, out=self._close_z)
        np.divide(self._close_z, width, out=self._close_z)
        np.multiply(width, _FOUR, out=width)
        np.multiply(width, _HALF, out=self._position)
        np.subtract(self._position, away_mean, out=self._position)
        np.divide(self._position, width, out=self._position)
        np.add(close, away_mean, out=middle)
        np.divide(width, middle, out=self._width)
