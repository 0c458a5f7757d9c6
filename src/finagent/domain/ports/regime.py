"""Which kind of market it is, as far as one can tell on the day."""

from enum import IntEnum
from typing import Protocol

from finagent.domain.bars import Floats


class Regime(IntEnum):
    """The kind of market, which is also its column in a matrix of probabilities. BEAR is the market of high volatility, whatever
    its mean; of the other two BULL is the one that rises."""

    BULL = 0
    BEAR = 1
    SIDEWAYS = 2


class RegimeProbabilities(Protocol):
    """Pure: the same closes give the same answer, and nothing blocks."""

    def probabilities(self, closes: Floats) -> Floats:
        """Distributions [sessions, 3] over Regime as known after each close of an index [sessions], oldest first. Row t depends
        on closes up to t only. A close that is NaN leaves the row of the session before; before enough is known all are equally
        likely. BadInput for closes that are infinite or not above zero."""
        ...
