"""Where a symbol stands among all others at the same time."""

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats


def ranks(values: Floats) -> Floats:
    """Places [features, symbols] in [0, 1] along the symbols, the mean place for equal values; NaN stays NaN, and one alone is in
    the middle."""
    unknown = np.isnan(values)
    order = np.argsort(values, axis=1)
    order += _row_starts(values)
    placed = values.ravel()[order]
    places: Floats = np.broadcast_to(np.arange(values.shape[1], dtype=np.float64), values.shape)
    if (placed[:, 1:] == placed[:, :-1]).any():
        places = np.stack([_mean_places(row) for row in placed])
    found = np.empty_like(values)
    found.ravel()[order] = places
    if unknown.any():
        count = values.shape[1] - np.count_nonzero(unknown, axis=1, keepdims=True)
        found /= np.maximum(count - 1, 1)
        np.copyto(found, 0.5, where=count == 1)
        np.copyto(found, np.nan, where=unknown)
    elif values.shape[1] > 1:
        found /= values.shape[1] - 1
    else:
        found.fill(0.5)
    return found


def _row_starts(values: Floats) -> NDArray[np.intp]:
    """Where each row begins in the array laid flat, [rows, 1]."""
    starts: NDArray[np.intp] = np.arange(values.shape[0], dtype=np.intp)[:, np.newaxis] * values.shape[1]
    return starts


def _mean_places(placed: Floats) -> Floats:
    """The places of a row in order, equal values sharing theirs."""
    starts = np.flatnonzero(np.concatenate(([True], placed[1:] != placed[:-1])))
    sizes = np.diff(np.append(starts, len(placed)))
    shared: Floats = np.repeat(starts + (sizes - 1) / 2.0, sizes)
    return shared
