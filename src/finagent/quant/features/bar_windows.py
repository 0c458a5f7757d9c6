"""The last bars of every symbol, side by side: what features of bars look back on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import InvariantViolated

SLACK = 16  # rows that a series may grow by until its last ones are moved to its front
DEPTHS: Mapping[str, int] = {
    "close": 121,
    "high": 60,
    "low": 60,
    "volume": 60,
    "return": 61,
    "typical_price": 20,
    "overnight": 20,
    "open_to_close": 20,
    "parkinson": 20,
    "garman_klass": 20,
    "rogers_satchell": 20,
    "close_location": 20,
}
_BARS = ("close", "high", "low", "volume")


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
    more than `hole_bars_max`; within shorter holes its bars are flat at the last close, without volume.

    A window is a view of contiguous rows, oldest first, of which those of before a symbol's first bar hold anything: what is
    computed from them is no value (see FeatureSpec.warmup).
    """

    def __init__(self, symbols: int, hole_bars_max: int) -> None:
        self.symbols, self._hole_bars_max = symbols, hole_bars_max
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
        self.open: Floats = np.full(symbols, np.nan)
        self.previous_close: Floats = np.full(symbols, np.nan)
        self.previous_high: Floats = np.full(symbols, np.nan)
        self.previous_low: Floats = np.full(symbols, np.nan)
        self.true_range: Floats = np.full(symbols, np.nan)

    @property
    def nbytes(self) -> int:
        """Of the state."""
        return sum(array.nbytes for array in self.state().values())

    def window(self, series: str, bars: int, *, ago: int = 0) -> Floats:
        """The rows [bars, symbols] of a series that end `ago` bars ago."""
        end = self._starts[series] + self._at + DEPTHS[series] - ago
        return self._rows[end - bars : end]

    def last(self, series: str, *, ago: int = 0) -> Floats:
        """The row [symbols] of a series `ago` bars ago."""
        row: Floats = self._rows[self._starts[series] + self._at + DEPTHS[series] - 1 - ago]
        return row

    def push(self, bars: BarRows) -> None:
        """Take in the bars of the next bar-time."""
        self.previous_close[:], self.previous_high[:] = self.last("close"), self.last("high")
        self.previous_low[:] = self.last("low")
        self._advance()
        close, high, low, volume = (self.last(name) for name in _BARS)
        close[:], high[:], low[:], volume[:], self.open[:] = bars.close, bars.high, bars.low, bars.volume, bars.open
        if bars.usable.all():
            self.count += 1
            self._hole.fill(0)
        else:
            self._fill_holes(bars.usable)
        self.fewest = int(self.count.min())
        if self.fewest <= 1:  # who has just begun has no bar before: its first return is nothing
            begun = self.count <= 1
            for before, now in ((self.previous_close, close), (self.previous_high, high), (self.previous_low, low)):
                np.copyto(before, now, where=begun)
        self._derive(close, high, low)

    def _fill_holes(self, usable: NDArray[np.bool_]) -> None:
        missing = ~usable
        self._hole += 1
        self._hole[usable] = 0
        self.count += usable | (self.count > 0)
        self.count[missing & (self._hole > self._hole_bars_max)] = 0
        for row in (self.open, *(self.last(name) for name in ("close", "high", "low"))):
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
        with np.errstate(all="ignore"):
            returns = self.last("return")
            np.divide(close, self.previous_close, out=returns)
            returns -= 1.0
            typical = self.last("typical_price")
            np.add(high, low, out=typical)
            typical += close
            typical /= 3.0
            np.maximum(high, self.previous_close, out=self.true_range)
            self.true_range -= np.minimum(low, self.previous_close)
            logs = np.log(np.stack((self.previous_close, self.open, high, low, close)))
            before, open_, high_, low_, close_ = logs
            np.subtract(open_, before, out=self.last("overnight"))
            body = self.last("open_to_close")
            np.subtract(close_, open_, out=body)
            parkinson = self.last("parkinson")
            np.subtract(high_, low_, out=parkinson)
            parkinson *= parkinson
            np.multiply(body, body, out=self.last("garman_klass"))
            self.last("garman_klass")[:] *= 1.0 - 2.0 * np.log(2.0)
            self.last("garman_klass")[:] += 0.5 * parkinson
            up, down = high_ - close_, low_ - close_
            np.multiply(up, high_ - open_, out=self.last("rogers_satchell"))
            self.last("rogers_satchell")[:] += down * (low_ - open_)
            width = high - low
            location = self.last("close_location")
            np.subtract(2.0 * close, high, out=location)
            location -= low
            location /= width
            np.copyto(location, 0.0, where=width == 0.0)

    def state(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """The arrays that the next bars build on."""
        return {"rows": self._rows, "count": self.count, "hole": self._hole, "at": np.asarray([self._at])}

    def restore(self, state: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]) -> None:
        """Go on from a saved state; InvariantViolated for one of another shape."""
        if state["rows"].shape != self._rows.shape:
            raise InvariantViolated(f"a state of shape {state['rows'].shape} cannot be taken for {self._rows.shape}")
        self._rows[:], self.count[:], self._hole[:] = state["rows"], state["count"], state["hole"]
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
