"""Sums over windows of bars of what is observed at each: differences of two running totals, or all terms anew."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats

REBASED = 64  # bars after which running totals begin at zero again

# What is summed up: windows of bars, which ascend -> the series.
SUMMED: Mapping[tuple[int, ...], tuple[str, ...]] = {
    (5, 10, 20, 60): ("return", "return_2", "market_x_return", "volume"),
    (10, 20): ("overnight", "body", "overnight_2", "body_2", "parkinson", "rogers_satchell"),
    (20,): (
        "rise",
        "volume_2",
        "dollars",
        "typical_dollars",
        "signed_volume",
        "located_volume",
    ),
    (14,): ("flow_up", "flow_down"),
}
# Summed anew at each bar: of powers so high, what one bar leaves in a total is more than all the others are.
ANEW_WINDOW, ANEW = 20, ("return_3", "return_4")
SERIES = (*(name for names in SUMMED.values() for name in names), *ANEW)


class _Ring:
    """The totals of series of the same windows at the last bars, each bar's side by side."""

    def __init__(self, windows: tuple[int, ...], rows: Floats, total: Floats) -> None:
        self.depth = windows[-1] + 1
        self.rows = rows.reshape(self.depth, *total.shape)
        self.total = total
        self.sums: Floats = np.zeros((len(total), len(windows), total.shape[1]))
        self.by_window = [(width, self.sums[:, place]) for place, width in enumerate(windows)]


class RunningTotals:
    """Totals of each series since some bar, of the last bars: the sum over a window is the difference of two of them. Where
    nothing moved it is exactly zero; what is rounded away of a large term is forgotten with the totals that hold it, REBASED bars
    and a window later at the latest."""

    def __init__(self, symbols: int) -> None:
        self.bar = 0
        totals = sum((windows[-1] + 1) * len(names) for windows, names in SUMMED.items())
        self.rows: Floats = np.zeros((totals + ANEW_WINDOW * len(ANEW), symbols))
        self._anew = self.rows[totals:].reshape(ANEW_WINDOW, len(ANEW), symbols)
        self._anew_observed = slice(len(SERIES) - len(ANEW), len(SERIES))
        self.sums_anew: Floats = np.zeros((len(ANEW), symbols))
        self._observed, self._total = np.zeros((2, len(SERIES), symbols))
        self._rings: list[_Ring] = []
        self._places: dict[str, tuple[_Ring, int]] = {}
        row = series = 0
        for windows, names in SUMMED.items():
            end = row + (windows[-1] + 1) * len(names)
            ring = _Ring(windows, self.rows[row:end], self._total[series : series + len(names)])
            self._rings.append(ring)
            self._places |= {name: (ring, place) for place, name in enumerate(names)}
            row, series = end, series + len(names)

    def observed(self, *names: str) -> Floats:
        """Rows [names, symbols] of series that stand side by side, where `add` finds what there was at a bar."""
        place = SERIES.index(names[0])
        return self._observed[place : place + len(names)]

    def sums(self, *names: str) -> Floats:
        """[names, windows, symbols] of series that stand side by side, where `look_back` leaves the sums."""
        ring, place = self._places[names[0]]
        return ring.sums[place : place + len(names)]

    def add(self, begun: NDArray[np.bool_] | None) -> None:
        """Take in what was observed; whoever has just `begun` has no totals."""
        if begun is not None:
            self.rows[:, begun] = 0.0
            self._total[:, begun] = 0.0
        if self.bar % REBASED == 0:
            for ring in self._rings:
                ring.rows -= ring.total
            self._total.fill(0.0)
        self._total += self._observed
        self.bar += 1
        for ring in self._rings:
            ring.rows[self.bar % ring.depth] = ring.total
        self._anew[self.bar % ANEW_WINDOW] = self._observed[self._anew_observed]

    def look_back(self) -> None:
        """Find the sums over all windows, which whoever reads them may change until the next call."""
        for ring in self._rings:
            for width, sums in ring.by_window:
                np.subtract(ring.total, ring.rows[(self.bar - width) % ring.depth], out=sums)
        np.add.reduce(self._anew, axis=0, out=self.sums_anew)

    def go_on(self, bar: int) -> None:
        """After so many bars, whose rows are in place."""
        self.bar = bar
        for ring in self._rings:
            ring.total[:] = ring.rows[bar % ring.depth]
