"""The last bars of every symbol, side by side, and the means of all earlier ones: what features of bars look back on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import InvariantViolated
from finagent.quant.features.smoothing import Smoother, Weight, ema, wilder

SLACK = 16  # rows that a series may grow by until its last ones are moved to its front
DEPTHS: Mapping[str, int] = {
    "close": 121,
    "high": 60,
    "low": 60,
    "volume": 60,
    "return": 61,
    "typical_price": 20,
    "overnight": 20,
    "body": 20,
    "parkinson": 20,
    "rogers_satchell": 20,
    "close_location": 20,
    "stochastic": 5,
}
_BARS = ("close", "high", "low", "volume")
_MARKET = 60

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


class BarWindows:
    """State over symbols, arrays [.., symbols]. `count` [symbols] counts the bars of a symbol since its first, or since a hole of
    more than `hole_bars_max`; within shorter holes its bars are flat at the last close, without volume. `index` is the column of
    the market index, None for the mean of all symbols.

    A window is a view of contiguous rows, oldest first, of which those of before a symbol's first bar hold anything: what is
    computed from them is no value (see FeatureSpec.warmup).
    """

    def __init__(self, symbols: int, *, index: int | None, hole_bars_max: int) -> None:
        self.symbols, self._index, self._hole_bars_max = symbols, index, hole_bars_max
        self._starts: dict[str, int] = {}
        total = 0
        for name, depth in DEPTHS.items():
            self._starts[name] = total
            total += depth + SLACK
        self._rows: Floats = np.full((total, symbols), np.nan)
        self._at = 0
        self.count: NDArray[np.int64] = np.zeros(symbols, dtype=np.int64)
        self.fewest = 0  # bars of the symbol with the fewest
        self._hole: NDArray[np.int64] = np.zeros(symbols, dtype=np.int64)
        self.market: Floats = np.zeros(_MARKET)  # its last returns
        self.open, self.previous_close = np.full((2, symbols), np.nan)
        self._previous_high, self._previous_low = np.full((2, symbols), np.nan)
        self.true_range: Floats = np.full(symbols, np.nan)
        self._first, self._second, self._third = (Smoother(weights, symbols) for weights in (_FIRST, _SECOND, _THIRD))
        self._observed: Floats = np.zeros((len(_FIRST), symbols))
        self._observed_next: Floats = np.zeros((len(_SECOND), symbols))
        self.triple_before: Floats = np.zeros(symbols)

    def window(self, series: str, bars: int, *, ago: int = 0) -> Floats:
        """The rows [bars, symbols] of a series that end `ago` bars ago."""
        end = self._starts[series] + self._at + DEPTHS[series] - ago
        return self._rows[end - bars : end]

    def last(self, series: str) -> Floats:
        """The newest row [symbols] of a series."""
        row: Floats = self._rows[self._starts[series] + self._at + DEPTHS[series] - 1]
        return row

    @property
    def means(self) -> Floats:
        """Exponential means [GAINS .. TRIPLE, symbols] of closes, changes and ranges."""
        return self._first.mean

    @property
    def means_of_means(self) -> Floats:
        """[DX, SIGNAL, TWICE, symbols]."""
        return self._second.mean

    @property
    def triple(self) -> Floats:
        """The triple exponential mean of closes [symbols]; `triple_before` is that of the bar before."""
        row: Floats = self._third.mean[0]
        return row

    def push(self, bars: BarRows) -> None:
        """Take in the bars of the next bar-time."""
        self.previous_close[:], self._previous_high[:], self._previous_low[:] = map(self.last, ("close", "high", "low"))
        self._advance()
        close, high, low, volume = map(self.last, _BARS)
        close[:], high[:], low[:], volume[:], self.open[:] = bars.close, bars.high, bars.low, bars.volume, bars.open
        if bars.usable.all():
            self.count += 1
            self._hole.fill(0)
        else:
            self._fill_holes(bars.usable)
        self.fewest = int(self.count.min())
        if self.fewest <= 1:  # who has just begun has no bar before: its first return is nothing
            begun = self.count <= 1
            for before, now in ((self.previous_close, close), (self._previous_high, high), (self._previous_low, low)):
                np.copyto(before, now, where=begun)
        with np.errstate(all="ignore"):
            self._derive(close, high, low)
            self._smooth(close, high, low)

    def _fill_holes(self, usable: NDArray[np.bool_]) -> None:
        missing = ~usable
        self._hole += 1
        self._hole[usable] = 0
        self.count += usable | (self.count > 0)
        self.count[missing & (self._hole > self._hole_bars_max)] = 0
        for row in (self.open, *map(self.last, ("close", "high", "low"))):
            np.copyto(row, self.previous_close, where=missing)
        np.copyto(self.last("volume"), 0.0, where=missing)

    def _advance(self) -> None:
        self._at += 1
        if self._at == SLACK:
            for name, start in self._starts.items():
                kept = DEPTHS[name] - 1
                self._rows[start : start + kept] = self._rows[start + SLACK : start + SLACK + kept]
            self._at = 0

    def _derive(self, close: Floats, high: Floats, low: Floats) -> None:
        """The series that are made of the bars."""
        returns, typical, location = map(self.last, ("return", "typical_price", "close_location"))
        np.divide(close, self.previous_close, out=returns)
        returns -= 1.0
        self.market[:-1] = self.market[1:]
        self.market[-1] = self._of_market(returns)
        np.add(high, low, out=typical)
        np.subtract(2.0 * close, typical, out=location)
        typical += close
        typical /= 3.0
        width = high - low
        location /= width
        if not width.all():
            np.copyto(location, 0.0, where=width == 0.0)
        np.maximum(high, self.previous_close, out=self.true_range)
        self.true_range -= np.minimum(low, self.previous_close)
        before, open_, high_, low_, close_ = np.log((self.previous_close, self.open, high, low, close))
        np.subtract(open_, before, out=self.last("overnight"))
        np.subtract(close_, open_, out=self.last("body"))
        parkinson = self.last("parkinson")
        np.subtract(high_, low_, out=parkinson)
        parkinson *= parkinson
        np.multiply(high_ - close_, high_ - open_, out=self.last("rogers_satchell"))
        self.last("rogers_satchell")[:] += (low_ - close_) * (low_ - open_)
        lowest = np.minimum.reduce(self.window("low", 14))
        reach = np.maximum.reduce(self.window("high", 14))
        reach -= lowest
        place = self.last("stochastic")
        np.subtract(close, lowest, out=place)
        place /= reach
        place *= 100.0
        if not reach.all():
            np.copyto(place, 50.0, where=reach == 0.0)

    def _of_market(self, returns: Floats) -> float:
        if self._index is not None:
            return float(returns[self._index])
        if self.fewest >= 2:
            return float(np.add.reduce(returns)) / self.symbols
        known = self.count >= 2
        return float(returns[known].mean()) if known.any() else 0.0

    def _smooth(self, close: Floats, high: Floats, low: Floats) -> None:
        """The means of all bars so far."""
        observed, following = self._observed, self._observed_next
        change = close - self.previous_close
        np.maximum(change, 0.0, out=observed[GAINS.start])
        np.subtract(observed[GAINS.start], change, out=observed[LOSSES.start])
        observed[1:3], observed[4:6], observed[RANGES] = observed[0], observed[3], self.true_range
        up, down = high - self._previous_high, self._previous_low - low
        np.multiply(up, (up > 0.0) & (up > down), out=observed[9])
        np.multiply(down, (down > 0.0) & (up < down), out=observed[10])
        np.square(self.last("return"), out=observed[SQUARES])
        observed[_EMAS] = close
        means = self._first.update(observed, self.count, self.fewest)
        total = means[9] + means[10]
        np.subtract(means[9], means[10], out=following[DX])
        np.abs(following[DX], out=following[DX])
        following[DX] /= total
        if not total.all():
            np.copyto(following[DX], 0.0, where=total == 0.0)
        np.subtract(means[FAST], means[SLOW], out=following[SIGNAL])
        following[TWICE] = means[TRIPLE]
        again = self._second.update(following, self.count, self.fewest)
        self.triple_before[:] = self._third.mean[0]
        self._third.update(again[TWICE:], self.count, self.fewest)

    def state(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Copies of the arrays that the next bars build on."""
        kept = {"rows": self._rows, "count": self.count, "hole": self._hole, "market": self.market}
        kept |= {"first": self._first.mean, "second": self._second.mean, "third": self._third.mean}
        return {name: array.copy() for name, array in kept.items()} | {"at": np.asarray([self._at])}

    def restore(self, state: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]) -> None:
        """Go on from a saved state; InvariantViolated for one of another shape."""
        if state["rows"].shape != self._rows.shape:
            raise InvariantViolated(f"a state of shape {state['rows'].shape} cannot be taken for {self._rows.shape}")
        self._rows[:], self.count[:], self._hole[:], self.market[:] = (
            state[name] for name in ("rows", "count", "hole", "market")
        )
        for name, means in (("first", self._first), ("second", self._second), ("third", self._third)):
            means.mean[:] = state[name]
        self._at, self.fewest = int(state["at"][0]), int(self.count.min())


def summed(rows: Floats) -> Floats:
    """Sum over the rows of a window, in their order."""
    total: Floats = np.add.reduce(rows, axis=0)
    return total


def product_sum(rows: Floats, others: Floats) -> Floats:
    """Sum over the rows of the products of two windows."""
    total: Floats = np.einsum("ij,ij->j", rows, others)
    return total


def over(rows: Floats, windows: tuple[int, ...], reduce: np.ufunc) -> Floats:
    """[windows, symbols]: the reduction of the last w rows for each w, which ascend; each row is read once."""
    found: Floats = np.empty((len(windows), rows.shape[1]))
    end = len(rows)
    taken = 0
    for place, width in enumerate(windows):
        part = reduce.reduce(rows[end - width : end - taken], axis=0, out=found[place])
        if place:
            reduce(found[place - 1], part, out=found[place])
        taken = width
    return found
