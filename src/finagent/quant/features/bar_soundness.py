"""The one rule that says whether a bar can be true."""

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats


def sound_bars(open_: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> NDArray[np.bool_]:
    """True where 0 < low <= open, close <= high < infinity and 0 <= volume < infinity; NaN anywhere is unsound."""
    sound = low > 0.0
    sound &= high < np.inf
    sound &= low <= open_
    sound &= low <= close
    sound &= open_ <= high
    sound &= close <= high
    sound &= volume >= 0.0
    sound &= volume < np.inf
    return sound
