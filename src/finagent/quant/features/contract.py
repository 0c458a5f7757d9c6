"""What values of features must be, checked where they are handed on to others: a guard in numpy, told in words."""

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput

NAMED_MAX = 5


def sound_values(values: Floats) -> NDArray[np.bool_]:
    """True where a value may be handed on: a number, or NaN for unknown; never an infinity."""
    return np.asarray(~np.isinf(values))


def require_sound(values: Floats, spec: DataSpec, times: Sequence[date], symbols: Sequence[str], where: str) -> None:
    """BadInput that names feature, symbols, count and first time of values [times, symbols, features] that are not sound, or the
    shape that they should have."""
    shape = (len(times), len(symbols), len(spec.features))
    if values.shape != shape or values.dtype != np.float64:
        raise BadInput(
            f"{where}: values are {values.dtype}{list(values.shape)}, {spec.name} {spec.hash} has float64{list(shape)}"
        )
    bad = ~sound_values(values)
    if not bad.any():
        return
    told = []
    for place in np.flatnonzero(bad.any(axis=(0, 1))).tolist():
        rows, columns = np.nonzero(bad[:, :, place])
        named = list(dict.fromkeys(symbols[column] for column in columns.tolist()))
        of = ", ".join(named[:NAMED_MAX]) + (f" and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else "")
        count = f"{len(rows)} value{'s' if len(rows) > 1 else ''}"
        told.append(f"{spec.names[place]}: infinite in {count} of {of}, first at {times[int(rows.min())]}")
    raise BadInput(f"{where}: " + "; ".join(told))
