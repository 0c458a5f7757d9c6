"""The last bars of every symbol, side by side, and the means of all earlier ones: what features of bars look back on.

At some hundred symbols the time of a bar is that of its numpy calls, whatever they compute. So arrays are written in place, views
of them are taken once, and constants are arrays of their own, which numpy takes in faster than numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import InvariantViolated
from finagent.quant.features.running_totals import SERIES, RunningTotals
from finagent.quant.features.smoothing import Smoother, Weight, ema, wilder

SLACK = 4  # rows that a series may grow by until its last ones are moved to its front
_CLOSES, _TYPICAL, _PLACES, _EXTREMES = 61, 20, 5, 20  # rows of each series
_MARKET = 60
EQUAL = np.asarray(1e-12)  # of the price: two typical prices that only rounding tells apart are no rise and no fall
LEAST = np.asarray(np.finfo(np.float64).smallest_subnormal)  # a divisor that makes 0/0 zero and changes nothing else
ZERO, ONE, TWO, THREE, TWENTY, HUNDRED = (np.asarray(number) for number in (0.0, 1.0, 2.0, 3.0, 20.0, 100.0))

WILDER_PERIODS = (7, 14, 21)
EMA_PERIODS = (5, 10, 20)
DECAY = 0.06
GAINS, LOSSES, RANGES = slice(0, 3), slice(3, 6), slice(6, 9)
DIRECTIONS, SQUARES, CLOSES, FAST, SLOW, TRIPLE = slice(9, 11), 11, slice(12, 15), 15, 16, 17
_EMAS = slice(12, 18)
_FIRST = (
    *(Weight(wilder(period), period, 1) for _ in range(3) for period in WILDER_PERIODS),
    *(Weight(wilder(14), 14, 1) for _ in range(2)),
    Weight(DECAY, 1, 1),
    *(Weight(ema(period), period, 0) for period in (*EMA_PERIODS, 12, 26, 15)),
)
DX, SIGNAL, TWICE = 0, 1, 2
_SECOND = (Weight(wilder(14), 14, 14), Weight(ema(9), 9, 25), Weight(ema(15), 15, 14))
_THIRD = (Weight(ema(15), 15, 28),)


@dataclass(frozen=True, slots=True)
class BarRows:
    """One bar of every symbol: prices in USD, volume in shares; `usable` False where there is none that can be true."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    usable: NDArray[np.bool_]


class Windows:
    """Views of the last rows [bars, symbols] of every series at one of its SLACK places, oldest first."""

    def __init__(self, rows: Floats, extremes: Floats, at: int) -> None:
        typical, places = _CLOSES + SLACK + at, _CLOSES + _TYPICAL + 2 * SLACK + at
        self.closes, self.typical_prices = rows[at : at + _CLOSES], rows[typical : typical + _TYPICAL]
        self.places = rows[places : places + _PLACES]  # of the close in the range of 14 bars, in percent
        extremes = extremes[at : at + _EXTREMES]  # [bars, high and negative low, symbols]
        self.previous_close, self.close = self.closes[-2:]
        self.closes_of_5, self.closes_of_20 = self.closes[-5:], self.closes[-20:]
        self.closes_before_5, self.closes_before_10 = self.closes[-10:-5], self.closes[-20:-10]  # up to 10 and 20 bars ago
        self.closes_before_20 = self.closes[-60:-20]
        self.extremes_of_14, self.extremes_before_14 = extremes[-14:], extremes[:-14]
        self.previous_extremes, self.extremes = extremes[-2:]
        self.high, self.negative_low = self.extremes
        self.previous_typical, self.typical = self.typical_prices[-2:]
        self.place = self.places[-1]


class BarWindows:
    """State over symbols, arrays [.., symbols]. `count` [symbols] counts the bars of a symbol since its first, or since a hole of
    more than `hole_bars_max`; within shorter holes its bars are flat at the last close, without volume. `index` is the column of
    the market index, None for the mean of all symbols.

    The windows that `now` views hold anything in the rows of before a symbol's first bar: what is computed from them is no value
    (see FeatureSpec.warmup).
    """

    def __init__(self, symbols: int, *, index: int | None, hole_bars_max: int) -> None:
        self.symbols, self._index, self._hole_bars_max = symbols, index, hole_bars_max
        self._rows: Floats = np.full((_CLOSES + _TYPICAL + _PLACES + 3 * SLACK, symbols), np.nan)
        self._extremes: Floats = np.full((_EXTREMES + SLACK, 2, symbols), np.nan)
        self._places = [Windows(self._rows, self._extremes, at) for at in range(SLACK)]
        self._at = 0
        self.now = self._places[0]
        self.count: NDArray[np.int64] = np.zeros(symbols, dtype=np.int64)
        self.fewest, self._most = 0, 0  # bars of the symbol with the fewest, and of that with the most
        self.counted: NDArray[np.int64] | int = 0  # one number where it is that of all
        self._hole: NDArray[np.int64] = np.zeros(symbols, dtype=np.int64)
        self.market: Floats = np.zeros(_MARKET)  # its last returns
        self.market_bars = 0  # how many of them are known, up to the last
        self._prices, self._logs = np.full((4, symbols), np.nan), np.full((5, symbols), np.nan)
        self.open, self._close, self._high, self.low = self._prices
        self._log_rows = tuple(self._logs)  # of the previous close, and of the prices
        self.width, self.triple_before, self.away_mean, self.away_squares = np.zeros((4, symbols))
        self.closes_away: Floats = np.zeros((20, symbols))
        self.extremes_of_14: Floats = np.zeros((2, symbols))
        self._highest, self._negative_lowest = self.extremes_of_14
        self._work: Floats = np.zeros((2, symbols))
        self._work_rows = tuple(self._work)
        self._scratch: Floats = np.zeros(symbols)
        self.totals = totals = RunningTotals(symbols)
        self._seen = {name: totals.observed(name)[0] for name in SERIES}
        self.returns, self.overnight, self.volume = (self._seen[name] for name in ("return", "overnight", "volume"))
        self._powers, self._next_powers = totals.observed("return", "return_2"), totals.observed("return_3", "return_4")
        self._moves, self._moves_2 = totals.observed("overnight", "body"), totals.observed("overnight_2", "body_2")
        self._first, self._second, self._third = (Smoother(weights, symbols) for weights in (_FIRST, _SECOND, _THIRD))
        self._wilder = self._first.observed[:9].reshape(3, 3, symbols)
        self._gains, self._losses, self.true_range = self._wilder[:, 0]
        self._directions, self._flows = self._first.observed[DIRECTIONS], totals.observed("flow_up", "flow_down")
        self._direction_rows = tuple(self._directions)
        self._direction_index, self.macd, _ = self._second.observed
        self.means, self.means_of_means, (self.triple,) = self._first.mean, self._second.mean, self._third.mean
        self._up, self._down = self.means[DIRECTIONS]

    def push(self, bars: BarRows) -> None:
        """Take in the bars of the next bar-time."""
        self._advance()
        now = self.now
        self.open[:], self._close[:], self._high[:], self.low[:] = bars.open, bars.close, bars.high, bars.low
        self.volume[:] = bars.volume
        if np.count_nonzero(bars.usable) == self.symbols:
            self.count += 1
            self._hole.fill(0)
            self.fewest, self._most = self.fewest + 1, self._most + 1
        else:
            self._fill_holes(bars.usable)
            self.fewest, self._most = int(self.count.min()), int(self.count.max())
        self.counted = self.fewest if self.fewest == self._most else self.count
        now.close[:], now.high[:] = self._close, self._high
        np.negative(self.low, out=now.negative_low)
        begun = None
        if self.fewest <= 1:  # who has just begun has no bar before: its first return is nothing
            begun = self.count <= 1
            np.copyto(now.previous_close, now.close, where=begun)
            np.copyto(now.previous_extremes, now.extremes, where=begun)
        with np.errstate(all="ignore"):
            self._observe_returns()
            self._observe_logs(begun is None)
            self._observe_places()
            self.totals.add(begun)
            self._smooth()

    def _advance(self) -> None:
        self._at += 1
        if self._at == SLACK:
            for rows in (self._rows, self._extremes):
                flat, moved = rows.reshape(-1), SLACK * rows[0].size  # flat, because numpy copies overlapping rows twice
                flat[:-moved] = flat[moved:]
            self._at = 0
        self.now = self._places[self._at]

    def _fill_holes(self, usable: NDArray[np.bool_]) -> None:
        missing = ~usable
        self._hole += 1
        self._hole[usable] = 0
        self.count += usable | (self.count > 0)
        self.count[missing & (self._hole > self._hole_bars_max)] = 0
        np.copyto(self._prices, self.now.previous_close, where=missing)
        np.copyto(self.volume, 0.0, where=missing)

    def _observe_returns(self) -> None:
        now, returns, seen = self.now, self.returns, self._seen
        np.divide(now.close, now.previous_close, out=returns)
        np.subtract(returns, ONE, out=returns)
        self.market[:-1] = self.market[1:]
        told = self._of_market(returns)
        self.market[-1], self.market_bars = (0.0, 0) if told is None else (told, self.market_bars + 1)
        np.multiply(returns, returns, out=seen["return_2"])
        np.multiply(self._powers, seen["return_2"], out=self._next_powers)
        seen["rise"][:] = returns > ZERO
        np.multiply(returns, self.market[-1:], out=seen["market_x_return"])
        np.multiply(self.volume, self.volume, out=seen["volume_2"])
        np.multiply(now.close, self.volume, out=seen["dollars"])
        np.sign(returns, out=seen["signed_volume"])
        np.multiply(seen["signed_volume"], self.volume, out=seen["signed_volume"])

    def _observe_logs(self, all_go_on: bool) -> None:
        before, open_, close, high, low = self._log_rows
        if all_go_on:
            before[:] = close
        else:
            np.log(self.now.previous_close, out=before)
        np.log(self._prices, out=self._logs[1:])
        parkinson, satchell = self._seen["parkinson"], self._seen["rogers_satchell"]
        np.subtract(self._logs[1:3], self._logs[:2], out=self._moves)  # open - previous close, close - open
        np.multiply(self._moves, self._moves, out=self._moves_2)
        np.subtract(high, low, out=parkinson)
        np.multiply(parkinson, parkinson, out=parkinson)
        from_close, from_open = self._work_rows
        np.multiply(np.subtract(high, close, out=from_close), np.subtract(high, open_, out=from_open), out=satchell)
        np.multiply(np.subtract(low, close, out=from_close), np.subtract(low, open_, out=from_open), out=from_close)
        np.add(satchell, from_close, out=satchell)

    def _observe_places(self) -> None:
        """Of the close in the bar, and in the range of 14 bars."""
        now, seen, work, scratch = self.now, self._seen, self._work, self._scratch
        typical, located, dollars = now.typical, seen["located_volume"], seen["typical_dollars"]
        np.subtract(self._high, self.low, out=self.width)
        np.add(self._high, self.low, out=typical)
        np.multiply(now.close, TWO, out=located)
        np.subtract(located, typical, out=located)
        np.divide(located, np.maximum(self.width, LEAST, out=scratch), out=located)
        np.multiply(located, self.volume, out=located)
        np.add(typical, now.close, out=typical)
        np.divide(typical, THREE, out=typical)
        np.multiply(typical, self.volume, out=dollars)
        rise, fall = self._work_rows
        np.subtract(typical, now.previous_typical, out=rise)
        np.subtract(now.previous_typical, typical, out=fall)
        np.multiply(typical, EQUAL, out=scratch)
        np.multiply(dollars, work > scratch, out=self._flows)
        np.maximum.reduce(now.extremes_of_14, axis=0, out=self.extremes_of_14)
        reach, place = scratch, now.place
        np.add(self._highest, self._negative_lowest, out=reach)
        np.add(now.close, self._negative_lowest, out=place)
        np.divide(place, reach, out=place)
        np.multiply(place, HUNDRED, out=place)
        if np.count_nonzero(reach) < self.symbols:
            np.copyto(place, 50.0, where=reach == 0.0)

    def _of_market(self, returns: Floats) -> float | None:
        """None where it is not known: the index, or everybody, has no bar before."""
        if self._index is not None:
            return float(returns[self._index]) if self.count[self._index] >= 2 else None
        if self.fewest >= 2:
            return float(np.add.reduce(returns)) / self.symbols
        known = self.count >= 2
        return float(returns[known].mean()) if known.any() else None

    def _smooth(self) -> None:
        """The means of all bars so far."""
        now, work, scratch, observed, index = self.now, self._work, self._scratch, self._first.observed, self._direction_index
        np.subtract(now.close, now.previous_close, out=scratch)
        np.maximum(scratch, ZERO, out=self._gains)
        np.subtract(self._gains, scratch, out=self._losses)
        np.minimum(self.low, now.previous_close, out=scratch)
        np.maximum(self._high, now.previous_close, out=self.true_range)
        np.subtract(self.true_range, scratch, out=self.true_range)
        self._wilder[:, 1:] = self._wilder[:, :1]
        directions, (up, down), (least_up, least_down) = self._directions, self._direction_rows, self._work_rows
        np.subtract(now.extremes, now.previous_extremes, out=directions)
        np.maximum(down, ZERO, out=least_up)  # of up and down the larger one counts, if it is positive
        np.maximum(up, ZERO, out=least_down)
        np.multiply(directions, directions > work, out=directions)
        observed[SQUARES] = self._seen["return_2"]
        observed[_EMAS] = now.close
        means = self._first.update(self.counted, self.fewest)
        np.subtract(self._up, self._down, out=index)
        np.abs(index, out=index)
        np.add(self._up, self._down, out=scratch)
        np.divide(index, np.maximum(scratch, LEAST, out=scratch), out=index)
        np.subtract(means[FAST], means[SLOW], out=self.macd)
        self._second.observed[TWICE] = means[TRIPLE]
        again = self._second.update(self.counted, self.fewest)
        self.triple_before[:] = self.triple
        self._third.observed[:] = again[TWICE]
        self._third.update(self.counted, self.fewest)

    def look_back(self) -> None:
        """Find what features share: `totals` over their windows; the last 20 closes less the last one, where nothing cancels if
        nothing moves, the mean of that, and the sum of squares around the mean."""
        away, mean, squares, scratch = self.closes_away, self.away_mean, self.away_squares, self._scratch
        self.totals.look_back()
        np.subtract(self.now.closes_of_20, self.now.close, out=away)
        np.add.reduce(away, axis=0, out=mean)
        np.divide(mean, TWENTY, out=mean)
        np.einsum("ij,ij->j", away, away, out=squares)
        np.multiply(mean, TWENTY, out=scratch)
        np.multiply(scratch, mean, out=scratch)
        np.subtract(squares, scratch, out=squares)
        np.maximum(squares, ZERO, out=squares)

    def state(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Copies of the arrays that the next bars build on."""
        kept = {"rows": self._rows, "extremes": self._extremes, "totals": self.totals.rows, "market": self.market}
        kept |= {"first": self._first.mean, "second": self._second.mean, "third": self._third.mean}
        counts = {"count": self.count, "hole": self._hole, "at": np.asarray([self._at, self.totals.bar, self.market_bars])}
        return {name: array.copy() for name, array in (kept | counts).items()}

    def restore(self, state: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]) -> None:
        """Go on from a saved state; InvariantViolated for one of another shape."""
        if state["rows"].shape != self._rows.shape:
            raise InvariantViolated(f"a state of shape {state['rows'].shape} cannot be taken for {self._rows.shape}")
        self._rows[:], self._extremes[:], self.totals.rows[:] = state["rows"], state["extremes"], state["totals"]
        self.count[:], self._hole[:], self.market[:] = state["count"], state["hole"], state["market"]
        for name, means in (("first", self._first), ("second", self._second), ("third", self._third)):
            means.mean[:] = state[name]
        self._at, bar, self.market_bars = state["at"].astype(int).tolist()
        self.now = self._places[self._at]
        np.log(self.now.close, out=self._log_rows[2])
        self.totals.go_on(bar)
        self.fewest, self._most = int(self.count.min()), int(self.count.max())
        self.counted = self.count
