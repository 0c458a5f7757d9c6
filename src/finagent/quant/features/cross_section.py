"""Where a symbol stands among all others at the same time."""

import numpy as np

from finagent.domain.bars import Floats


class Ranks:
    """Places [features, symbols] in [0, 1] along the symbols, the mean place for equal values; NaN stays NaN, and one alone is in
    the middle."""

    def __init__(self, features: int, symbols: int) -> None:
        shape = (features, symbols)
        self._columns = np.broadcast_to(np.arange(symbols), shape).copy()
        self._starts = np.broadcast_to(np.arange(features)[:, np.newaxis] * symbols, shape).copy()  # in the array laid flat
        self._column_bits = np.asarray((1 << symbols.bit_length()) - 1)
        self._value_bits = ~self._column_bits
        self._places = self._columns / max(symbols - 1, 1)
        self._keys: Floats = np.empty(shape)
        self._order = self._keys.view(np.int64)

    def write(self, values: Floats, found: Floats) -> None:
        """Write the places of values that lie side by side.

        Sorting is several times as fast as sorting indices: so the last bits of each value make way for its column. Where that
        changes the order, or values are equal or NaN, what is placed does not ascend, and the indices of that row are sorted.
        """
        if values.shape[1] == 1:
            found[:] = np.where(np.isnan(values), np.nan, 0.5)
            return
        order = self._order
        np.bitwise_and(values.view(np.int64), self._value_bits, out=order)
        np.bitwise_or(order, self._columns, out=order)
        self._keys.sort(axis=1)
        np.bitwise_and(order, self._column_bits, out=order)
        np.add(order, self._starts, out=order)
        placed = values.reshape(-1).take(order)
        found.reshape(-1)[order] = self._places
        ascends = placed[:, 1:] > placed[:, :-1]
        if np.count_nonzero(ascends) < ascends.size:
            for row in np.flatnonzero(~ascends.all(axis=1)):
                found[row] = _mean_places(values[row])


def ranks(values: Floats) -> Floats:
    """The places of one row of values [symbols]."""
    found = np.empty_like(values)
    Ranks(1, len(values)).write(values[np.newaxis], found[np.newaxis])
    return found


def _mean_places(row: Floats) -> Floats:
    """Equal values share their places."""
    order = row.argsort()[: len(row) - np.count_nonzero(np.isnan(row))]
    known = len(order)
    placed = row[order]
    starts = np.flatnonzero(np.concatenate(([True], placed[1:] != placed[:-1])))[:known]
    ends = np.append(starts[1:], known)[: len(starts)]
    found = np.full_like(row, np.nan)
    found[order] = 0.5 if known == 1 else np.repeat((starts + ends - 1) / 2.0, ends - starts) / max(known - 1, 1)
    return found
