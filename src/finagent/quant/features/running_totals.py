"""Sums and means over windows of bars of what is observed at each: differences of two running totals."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats

REBASED = 64  # bars after which running totals begin at zero again

# What is averaged, and what is summed up, over windows of bars: name -> the windows, which ascend.
AVERAGED: Mapping[str, tuple[int, ...]] = {
    "return": (5, 10, 20, 60),
    "return_2": (5, 10, 20, 60),
    "return_3": (20,),
    "return_4": (20,),
    "rise": (20,),
    "market_x_return": (20, 60),
    "volume_2": (20,),
    "dollars": (20,),
}
SUMMED: Mapping[str, tuple[int, ...]] = {
    "volume": (5, 20, 60),
    "overnight": (10, 20),
    "body": (10, 20),
    "overnight_2": (10, 20),
    "body_2": (10, 20),
    "parkinson": (10, 20),
    "rogers_satchell": (10, 20),
    "typical_dollars": (20,),
    "signed_volume": (20,),
    "located_volume": (20,),
    "flow_up": (14,),
    "flow_down": (14,),
}
_ALL = {**AVERAGED, **SUMMED}
_NAMES = tuple(_ALL)


class RunningTotals:
    """Totals of each series since some bar, of the last bars: the sum over a window is the difference of two of them.

    No error is carried on: a total is forgotten when its window is over, and where nothing moved the difference is exactly zero.
    """

    def __init__(self, symbols: int) -> None:
        self._depths = np.asarray([max(windows) + 1 for windows in _ALL.values()])
        self._starts = np.cumsum(self._depths) - self._depths
        self._windows = np.asarray([width for windows in _ALL.values() for width in windows])
        self._series = np.repeat(np.arange(len(_ALL)), [len(windows) for windows in _ALL.values()])
        self._window_starts, self._window_depths = self._starts[self._series], self._depths[self._series]
        self._newest: NDArray[np.intp] = np.empty_like(self._starts)
        self._oldest: NDArray[np.intp] = np.empty_like(self._windows)
        self.bar = 0
        self.rows: Floats = np.zeros((int(self._depths.sum()), symbols))
        self._observed, self._total = np.zeros((2, len(_ALL), symbols))
        self._sums, self._before = np.zeros((2, len(self._windows), symbols))
        averaged = sum(len(windows) for windows in AVERAGED.values())
        self._means, self._widths = self._sums[:averaged], self._windows[:averaged, np.newaxis].astype(np.float64)

    def observed(self, first: str, last: str | None = None) -> Floats:
        """The row [1, symbols] of a series, or those up to another's, where `add` finds what there was at a bar."""
        return self._observed[_NAMES.index(first) : _NAMES.index(last or first) + 1]

    def windows(self, first: str, last: str | None = None) -> Floats:
        """The means or sums over the windows of a series, or of those up to another, where `look_back` leaves them."""
        places = np.flatnonzero((self._series >= _NAMES.index(first)) & (self._series <= _NAMES.index(last or first)))
        return self._sums[places[0] : places[-1] + 1]

    def add(self, begun: NDArray[np.bool_] | None) -> None:
        """Take in what was observed; whoever has just `begun` has no totals."""
        if begun is not None:
            self.rows[:, begun] = 0.0
            self._total[:, begun] = 0.0
        if self.bar % REBASED == 0:
            for start, depth, total in zip(self._starts.tolist(), self._depths.tolist(), self._total, strict=True):
                self.rows[start : start + depth] -= total
            self._total.fill(0.0)
        self._total += self._observed
        self.bar += 1
        self.rows[self._places()] = self._total

    def look_back(self) -> None:
        """Find the means and sums over all windows, which whoever reads them may change until the next call."""
        np.subtract(self.bar, self._windows, out=self._oldest)
        np.remainder(self._oldest, self._window_depths, out=self._oldest)
        self._oldest += self._window_starts
        self.rows.take(self._oldest, axis=0, out=self._before, mode="clip")  # without "clip" through a buffer
        self._total.take(self._series, axis=0, out=self._sums, mode="clip")
        self._sums -= self._before
        self._means /= self._widths

    def go_on(self, bar: int) -> None:
        """After so many bars, whose rows are in place."""
        self.bar = bar
        self._total[:] = self.rows[self._places()]

    def _places(self) -> NDArray[np.intp]:
        """Of the newest totals."""
        np.remainder(self.bar, self._depths, out=self._newest)
        self._newest += self._starts
        return self._newest
