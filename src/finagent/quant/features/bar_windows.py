"""The last bars of every symbol, side by side, and the means of all earlier ones: what features of bars look back on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import InvariantViolated
from finagent.quant.features.smoothing import Smoother, Weight, ema, wilder

SLACK = 4  # rows that a series may grow by until its last ones are moved to its front
DEPTHS: Mapping[str, int] = {"close": 61, "high": 20, "negative_low": 20, "typical_price": 20, "stochastic": 5}
_MARKET = 60
EQUAL = 1e-12  # of the price: two typical prices that only rounding tells apart are no rise and no fall
REBASED = 64  # bars after which running totals begin at zero again

# What is summed up over windows of bars: name -> the windows, which ascend.
SUMMED: Mapping[str, tuple[int, ...]] = {
    "return": (5, 10, 20, 60),
    "return_2": (5, 10, 20, 60),
    "return_3": (20,),
    "return_4": (20,),
    "rise": (20,),
    "market_x_return": (20, 60),
    "volume": (5, 20, 60),
    "volume_2": (20,),
    "overnight": (10, 20),
    "overnight_2": (10, 20),
    "body": (10, 20),
    "body_2": (10, 20),
    "parkinson": (10, 20),
    "rogers_satchell": (10, 20),
    "dollars": (20,),
    "typical_dollars": (20,),
    "signed_volume": (20,),
    "located_volume": (20,),
    "flow_up": (14,),
    "flow_down": (14,),
}

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


class RunningTotals:
    """Totals of each of SUMMED since some bar, of the last bars: the sum over a window is the difference of two of them.

    No error is carried on: a total is forgotten when its window is over, and where nothing moved the difference is exactly zero.
    """

    def __init__(self, symbols: int) -> None:
        depths = [max(windows) + 1 for windows in SUMMED.values()]
        self._starts = np.cumsum([0, *depths[:-1]])
        self._depths = np.asarray(depths)
        self._series = np.asarray([place for place, windows in enumerate(SUMMED.values()) for _ in windows])
        self._windows = np.asarray([width for windows in SUMMED.values() for width in windows])
        self._window_starts, self._window_depths = self._starts[self._series], self._depths[self._series]
        self.rows: Floats = np.zeros((sum(depths), symbols))
        self.bar = 0
        self._newest = self._places()

    def add(self, observed: Floats, begun: NDArray[np.bool_] | None) -> None:
        """Take in a row [SUMMED, symbols]; whoever has just `begun` has no totals."""
        if begun is not None:
            self.rows[:, begun] = 0.0
        before = self.rows[self._newest]
        if self.bar % REBASED == 0:
            self.rows -= np.repeat(before, self._depths, axis=0)
            before = np.zeros_like(before)
        self.bar += 1
        self._newest = self._places()
        before += observed
        self.rows[self._newest] = before

    def sums(self) -> Floats:
        """[each window of each of SUMMED, symbols]."""
        oldest = self._window_starts + (self.bar - self._windows) % self._window_depths
        found: Floats = self.rows[self._newest[self._series]]
        found -= self.rows[oldest]
        return found

    def go_on(self, bar: int) -> None:
        """After so many bars, whose rows are in place."""
        self.bar = bar
        self._newest = self._places()

    def _places(self) -> NDArray[np.intp]:
        places: NDArray[np.intp] = self._starts + self.bar % self._depths
        return places


def _slices() -> dict[str, slice]:
    found, start = {}, 0
    for name, windows in SUMMED.items():
        found[name] = slice(start, start + len(windows))
        start += len(windows)
    return found


SUMS = _slices()  # where the windows of each of SUMMED stand in `RunningTotals.sums`


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
        self.counted: NDArray[np.int64] | int = 0  # one number where it is that of all
        self._hole: NDArray[np.int64] = np.zeros(symbols, dtype=np.int64)
        self.market: Floats = np.zeros(_MARKET)  # its last returns
        self.open, self.low, self.volume, self.previous_close, self._previous_high = np.full((5, symbols), np.nan)
        self._previous_low, self.true_range = np.full((2, symbols), np.nan)
        self._first, self._second, self._third = (Smoother(weights, symbols) for weights in (_FIRST, _SECOND, _THIRD))
        self._observed: Floats = np.zeros((len(_FIRST), symbols))
        self._observed_next: Floats = np.zeros((len(_SECOND), symbols))
        self.triple_before: Floats = np.zeros(symbols)
        self._logs: Floats = np.zeros((5, symbols))
        self._totals = RunningTotals(symbols)
        self._away: tuple[Floats, Floats, Floats] | None = None  # of the last push
        self._summed: Floats = np.zeros((len(SUMMED), symbols))
        self._seen: dict[str, Floats] = dict(zip(SUMMED, self._summed, strict=True))

    def window(self, series: str, bars: int, *, ago: int = 0) -> Floats:
        """The rows [bars, symbols] of a series that end `ago` bars ago."""
        end = self._starts[series] + self._at + DEPTHS[series] - ago
        return self._rows[end - bars : end]

    def last(self, series: str) -> Floats:
        """The newest row [symbols] of a series."""
        row: Floats = self._rows[self._starts[series] + self._at + DEPTHS[series] - 1]
        return row

    @property
    def returns(self) -> Floats:
        """The last simple returns [symbols]."""
        return self._seen["return"]

    @property
    def overnight(self) -> Floats:
        """The last ln(open / previous close) [symbols]."""
        return self._seen["overnight"]

    def closes_away(self) -> tuple[Floats, Floats, Floats]:
        """The last 20 closes less the last one [20, symbols], where nothing cancels if nothing moves; the mean of that, and the
        sum of squares around the mean [symbols]."""
        if self._away is None:
            away = self.window("close", 20) - self.last("close")
            mean = summed(away)
            mean /= 20.0
            total = product_sum(away, away)
            total -= 20.0 * mean * mean
            np.maximum(total, 0.0, out=total)
            self._away = away, mean, total
        return self._away

    def sums(self) -> Floats:
        """Over the windows of SUMMED, at SUMS."""
        return self._totals.sums()

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
        self.previous_close[:], self._previous_high[:], self._previous_low[:] = self.last("close"), self.last("high"), self.low
        self._away = None
        self._advance()
        close, high, low = self.last("close"), self.last("high"), self.low
        close[:], high[:], low[:], self.open[:], self.volume[:] = bars.close, bars.high, bars.low, bars.open, bars.volume
        if bars.usable.all():
            self.count += 1
            self._hole.fill(0)
        else:
            self._fill_holes(bars.usable)
        self.fewest = int(self.count.min())
        self.counted = self.fewest if self.fewest == self.count.max() else self.count
        begun = None
        if self.fewest <= 1:  # who has just begun has no bar before: its first return is nothing
            begun = self.count <= 1
            for before, now in ((self.previous_close, close), (self._previous_high, high), (self._previous_low, low)):
                np.copyto(before, now, where=begun)
        np.negative(low, out=self.last("negative_low"))
        with np.errstate(all="ignore"):
            self._observe(close, high, low)
            self._totals.add(self._summed, begun)
            self._smooth(close, high, low)

    def _fill_holes(self, usable: NDArray[np.bool_]) -> None:
        missing = ~usable
        self._hole += 1
        self._hole[usable] = 0
        self.count += usable | (self.count > 0)
        self.count[missing & (self._hole > self._hole_bars_max)] = 0
        for row in (self.open, self.low, self.last("close"), self.last("high")):
            np.copyto(row, self.previous_close, where=missing)
        np.copyto(self.volume, 0.0, where=missing)

    def _advance(self) -> None:
        self._at += 1
        if self._at == SLACK:
            for name, start in self._starts.items():
                kept = DEPTHS[name] - 1
                self._rows[start : start + kept] = self._rows[start + SLACK : start + SLACK + kept]
            self._at = 0

    def _observe(self, close: Floats, high: Floats, low: Floats) -> None:
        """What is summed up, and the series that are made of the bars."""
        seen, newest = self._seen, self._summed
        returns, volume, overnight, body = seen["return"], seen["volume"], seen["overnight"], seen["body"]
        np.divide(close, self.previous_close, out=returns)
        returns -= 1.0
        self.market[:-1] = self.market[1:]
        self.market[-1] = self._of_market(returns)
        np.multiply(returns, returns, out=seen["return_2"])
        np.multiply(newest[:2], seen["return_2"], out=newest[2:4])
        np.greater(returns, 0.0, out=seen["rise"], casting="unsafe")
        np.multiply(returns, self.market[-1], out=seen["market_x_return"])
        volume[:] = self.volume
        np.multiply(volume, volume, out=seen["volume_2"])
        before, open_, high_, low_, close_ = logs = self._logs
        before[:], open_[:], high_[:], low_[:], close_[:] = self.previous_close, self.open, high, low, close
        np.log(logs, out=logs)
        np.subtract(open_, before, out=overnight)
        np.subtract(close_, open_, out=body)
        np.multiply(overnight, overnight, out=seen["overnight_2"])
        np.multiply(body, body, out=seen["body_2"])
        parkinson, satchell = seen["parkinson"], seen["rogers_satchell"]
        np.subtract(high_, low_, out=parkinson)
        parkinson *= parkinson
        np.multiply(high_ - close_, high_ - open_, out=satchell)
        satchell += (low_ - close_) * (low_ - open_)
        np.multiply(close, volume, out=seen["dollars"])
        np.multiply(np.sign(returns), volume, out=seen["signed_volume"])
        self._typical(close, high, low)
        self._place(close)
        np.maximum(high, self.previous_close, out=self.true_range)
        self.true_range -= np.minimum(low, self.previous_close)

    def _typical(self, close: Floats, high: Floats, low: Floats) -> None:
        typical, located, dollars = self.last("typical_price"), self._seen["located_volume"], self._seen["typical_dollars"]
        width = high - low
        np.add(high, low, out=typical)
        np.subtract(2.0 * close, typical, out=located)
        located /= width
        if not width.all():
            np.copyto(located, 0.0, where=width == 0.0)
        located *= self.volume
        typical += close
        typical /= 3.0
        np.multiply(typical, self.volume, out=dollars)
        change = typical - self.window("typical_price", 1, ago=1)[0]
        least = EQUAL * typical
        np.multiply(dollars, change > least, out=self._seen["flow_up"])
        np.multiply(dollars, change < -least, out=self._seen["flow_down"])

    def _place(self, close: Floats) -> None:
        """Of the close in the range of 14 bars, in percent."""
        lowest = np.maximum.reduce(self.window("negative_low", 14))
        reach, place = np.maximum.reduce(self.window("high", 14)) + lowest, self.last("stochastic")
        np.add(close, lowest, out=place)
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
        np.square(self.returns, out=observed[SQUARES])
        observed[_EMAS] = close
        means = self._first.update(observed, self.counted, self.fewest)
        total = means[9] + means[10]
        np.subtract(means[9], means[10], out=following[DX])
        np.abs(following[DX], out=following[DX])
        following[DX] /= total
        if not total.all():
            np.copyto(following[DX], 0.0, where=total == 0.0)
        np.subtract(means[FAST], means[SLOW], out=following[SIGNAL])
        following[TWICE] = means[TRIPLE]
        again = self._second.update(following, self.counted, self.fewest)
        self.triple_before[:] = self._third.mean[0]
        self._third.update(again[TWICE:], self.counted, self.fewest)

    def state(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Copies of the arrays that the next bars build on."""
        kept = {"rows": self._rows, "totals": self._totals.rows, "low": self.low, "count": self.count, "hole": self._hole}
        kept |= {"market": self.market, "first": self._first.mean, "second": self._second.mean, "third": self._third.mean}
        return {name: array.copy() for name, array in kept.items()} | {"at": np.asarray([self._at, self._totals.bar])}

    def restore(self, state: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]) -> None:
        """Go on from a saved state; InvariantViolated for one of another shape."""
        if state["rows"].shape != self._rows.shape:
            raise InvariantViolated(f"a state of shape {state['rows'].shape} cannot be taken for {self._rows.shape}")
        self._rows[:], self._totals.rows[:], self.low[:] = state["rows"], state["totals"], state["low"]
        self.count[:], self._hole[:], self.market[:] = state["count"], state["hole"], state["market"]
        for name, means in (("first", self._first), ("second", self._second), ("third", self._third)):
            means.mean[:] = state[name]
        self._at, self._away = int(state["at"][0]), None
        self._totals.go_on(int(state["at"][1]))
        self.fewest, self.counted = int(self.count.min()), self.count


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
