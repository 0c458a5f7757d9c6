"""What a family of features is: one pass over the last bars that computes them together."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.quant.features.bar_windows import BarWindows

State = Mapping[str, NDArray[np.float64] | NDArray[np.int64]]


class Family(Protocol):
    """Features that stand together in the catalogue, in its order."""

    def update(self, bars: BarWindows, values: Floats) -> None:
        """Write their values [features, symbols]. Where a symbol has fewer bars than the warm-up it may be anything, and where
        nothing moved what 0/0 gives."""
        ...

    def state(self) -> dict[str, State]:
        """What the next bars build on, beside the windows; empty for a family that looks at windows alone."""
        ...

    def restore(self, state: Mapping[str, State]) -> None: ...


class WindowFamily:
    """A family that looks at windows alone."""

    def state(self) -> dict[str, State]:
        return {}

    def restore(self, state: Mapping[str, State]) -> None:
        """Nothing was saved."""
