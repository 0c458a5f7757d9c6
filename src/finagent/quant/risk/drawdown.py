"""How far equity stands below what it was."""

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput


def drawdowns(equity: Floats) -> Floats:
    """Fraction below the highest equity so far, at each point: zero at a new high. BadInput for an equity that is not above
    zero and finite."""
    if equity.ndim != 1 or not len(equity) or not (np.isfinite(equity) & (equity > 0)).all():
        raise BadInput(f"drawdown: equity of shape {equity.shape} must be finite and above zero")
    below: Floats = 1.0 - equity / np.maximum.accumulate(equity)
    return below
