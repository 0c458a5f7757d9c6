"""Where a symbol stands among all others at the same time."""

import numpy as np

from finagent.domain.bars import Floats


def ranks(values: Floats) -> Floats:
    """Places [features, symbols] in [0, 1] along the symbols, the mean place for equal values; NaN stays NaN, and one alone is in
    the middle."""
    order = np.argsort(values, axis=1)
    placed = np.take_along_axis(values, order, axis=1)
    count = np.count_nonzero(~np.isnan(placed), axis=1, keepdims=True)
    places = np.broadcast_to(np.arange(values.shape[1], dtype=np.float64), values.shape)
    equal = placed[:, 1:] == placed[:, :-1]
    if equal.any():
        places = np.stack([_mean_places(row) for row in placed])
    found = np.empty_like(values)
    np.put_along_axis(found, order, places, axis=1)
    found /= np.maximum(count - 1, 1)
    np.copyto(found, 0.5, where=count == 1)
    np.copyto(found, np.nan, where=np.isnan(values))
    return found


def _mean_places(placed: Floats) -> Floats:
    """The places of a row in order, equal values sharing theirs."""
    starts = np.flatnonzero(np.concatenate(([True], placed[1:] != placed[:-1])))
    sizes = np.diff(np.append(starts, len(placed)))
    shared: Floats = np.repeat(starts + (sizes - 1) / 2.0, sizes)
    return shared
