"""Which way prices go, and how persistently."""

from collections.abc import Mapping

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows, product_sum, summed
from finagent.quant.features.family import State
from finagent.quant.features.smoothing import Smoother, ema, wilder

PERIODS = (7, 14, 21)
FAST, SLOW, SIGNAL, TRIPLE = 12, 26, 9, 15
SMOOTHED = 3
EQUAL = 1e-12  # of the price: two typical prices that only rounding tells apart are no rise and no fall


class Momentum:
    """Oscillators of closes and ranges."""

    def __init__(self, symbols: int) -> None:
        self._moves = Smoother(
            tuple(wilder(p) for p in (*PERIODS, *PERIODS, 14, 14, 14)), (*PERIODS, *PERIODS, 14, 14, 14), symbols
        )
        self._observed: Floats = np.zeros((9, symbols))
        self._adx = Smoother((wilder(14),), (14,), symbols)
        self._prices = Smoother((ema(FAST), ema(SLOW), ema(TRIPLE)), (FAST, SLOW, TRIPLE), symbols)
        self._signal = Smoother((ema(SIGNAL),), (SIGNAL,), symbols)
        self._second = Smoother((ema(TRIPLE),), (TRIPLE,), symbols)
        self._third = Smoother((ema(TRIPLE),), (TRIPLE,), symbols)
        self._places: Floats = np.full((2 * SMOOTHED - 1, symbols), np.nan)  # the last stochastic_k_14
        steps = np.arange(20.0) - 9.5
        self._weights = steps / (steps @ steps)
        self._spread = float(steps @ steps)

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write the rows of the family."""
        self._directions(bars, values)
        self._means(bars, values)
        self._places_in_range(bars, values)
        self._typical_prices(bars, values)
        self._line(bars, values)

    def _directions(self, bars: BarWindows, values: Floats) -> None:
        close, high, low, observed = bars.last("close"), bars.last("high"), bars.last("low"), self._observed
        change = close - bars.previous_close
        np.maximum(change, 0.0, out=observed[0])
        np.subtract(observed[0], change, out=observed[3])
        observed[1:3], observed[4:6] = observed[0], observed[3]
        up, down = high - bars.previous_high, bars.previous_low - low
        np.multiply(up, (up > 0.0) & (up > down), out=observed[6])
        np.multiply(down, (down > 0.0) & (up < down), out=observed[7])
        observed[8] = bars.true_range
        means = self._moves.update(observed, bars.count - 1, bars.fewest - 1)
        gains, losses = means[:3], means[3:6]
        np.divide(gains, gains + losses, out=values[:3])
        values[:3] *= 100.0
        np.multiply(values[1], 2.0, out=values[3])
        values[3] -= 100.0
        np.divide(means[6:8], means[8], out=values[4:6])
        values[4:6] *= 100.0
        np.divide(np.abs(values[4] - values[5]), values[4] + values[5], out=values[6])
        values[6] *= 100.0
        np.copyto(values[6], 0.0, where=~np.isfinite(values[6]))
        values[7] = self._adx.update(values[6], bars.count - 14, bars.fewest - 14)[0]

    def _means(self, bars: BarWindows, values: Floats) -> None:
        close = bars.last("close")
        fast, slow, triple = self._prices.update(close, bars.count, bars.fewest)
        macd = fast - slow
        signal = self._signal.update(macd, bars.count - (SLOW - 1), bars.fewest - (SLOW - 1))[0]
        np.divide(macd, close, out=values[8])
        np.divide(signal, close, out=values[9])
        np.subtract(values[8], values[9], out=values[10])
        np.divide(macd, slow, out=values[11])
        second = self._second.update(triple, bars.count - (TRIPLE - 1), bars.fewest - (TRIPLE - 1))[0]
        later = 2 * (TRIPLE - 1)
        before = self._third.mean[0].copy()
        third = self._third.update(second, bars.count - later, bars.fewest - later)[0]
        np.divide(third, before, out=values[12])
        values[12] -= 1.0
        values[11:13] *= 100.0

    def _places_in_range(self, bars: BarWindows, values: Floats) -> None:
        highest, lowest = bars.window("high", 14).max(axis=0), bars.window("low", 14).min(axis=0)
        place = self._places
        place[:-1] = place[1:]
        width = highest - lowest
        np.divide(bars.last("close") - lowest, width, out=place[-1])
        place[-1] *= 100.0
        np.copyto(place[-1], 50.0, where=width == 0.0)
        values[13] = place[-1]
        slow = place[:-2] + place[1:-1] + place[2:]
        slow /= 3.0
        values[14] = slow[-1]
        np.divide(summed(slow), 3.0, out=values[15])
        np.subtract(place[-1], 100.0, out=values[16])

    def _typical_prices(self, bars: BarWindows, values: Floats) -> None:
        prices = bars.window("typical_price", 20)
        for row, width in ((17, 14), (18, 20)):
            away = prices[-width:] - prices[-1]
            mean = summed(away) / width
            away -= mean
            np.divide(-mean, 0.015 / width * summed(np.abs(away)), out=values[row])
        flow = prices[-14:] * bars.window("volume", 14)
        change = prices[-14:] - prices[-15:-1]
        least = EQUAL * prices[-1]
        up, down = summed(flow * (change > least)), summed(flow * (change < -least))
        np.divide(up, up + down, out=values[19])
        values[19] *= 100.0

    def _line(self, bars: BarWindows, values: Floats) -> None:
        close = bars.last("close")
        away = bars.window("close", 20) - close
        slope = np.einsum("i,ij->j", self._weights, away)
        np.divide(slope, close, out=values[20])
        total = product_sum(away, away) - summed(away) ** 2 / 20.0
        np.divide(slope * slope * self._spread, total, out=values[21])

    @property
    def _kept(self) -> dict[str, Smoother]:
        return {
            "moves": self._moves,
            "adx": self._adx,
            "prices": self._prices,
            "signal": self._signal,
            "second": self._second,
            "third": self._third,
        }

    def state(self) -> dict[str, State]:
        return {**{name: kept.state() for name, kept in self._kept.items()}, "places": {"rows": self._places}}

    def restore(self, state: Mapping[str, State]) -> None:
        """Go on from saved means."""
        for name, kept in self._kept.items():
            kept.restore(state[name])
        self._places[:] = state["places"]["rows"]
