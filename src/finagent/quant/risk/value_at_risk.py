"""Value at risk and expected shortfall of scenarios, and the scenarios of filtered historical simulation.

A loss is positive. Scenarios are profits and losses in any one unit [scenarios]: USD give USD, fractions give fractions.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

CONFIDENCE = 0.95
DECAY = 0.94  # a day: RiskMetrics Technical Document, 4th edition, 1996
_ROUNDING = 1e-9  # 1 - 0.9 is a little less than a tenth


@dataclass(frozen=True, slots=True)
class Tail:
    """`value_at_risk`: the loss that the better scenarios stay below; `expected_shortfall`: the mean loss from there on."""

    value_at_risk: float
    expected_shortfall: float


def tail(outcomes: Floats, confidence: float = CONFIDENCE) -> Tail:
    """The tail of scenarios as they are: historical simulation of past days, filtered simulation of filtered ones.

    Both read order statistics, without interpolation, so that a limit on them counts scenarios. BadInput for no scenario, one
    that is not finite, or a confidence outside (0, 1).
    """
    rank = tail_rank(len(_sound(outcomes)), confidence)
    worst = np.partition(outcomes, rank)[: rank + 1]
    return Tail(float(-worst[rank]), float(-worst.mean()))


def tail_rank(scenarios: int, confidence: float) -> int:
    """How many of so many scenarios may lose more than the value at risk."""
    if not 0.0 < confidence < 1.0:
        raise BadInput(f"a confidence of {confidence} is not between 0 and 1")
    return math.floor((scenarios - 1) * (1.0 - confidence) + _ROUNDING)


def cornish_fisher(outcomes: Floats, confidence: float = CONFIDENCE) -> float:
    """Value at risk of a normal distribution corrected for skew and kurtosis (Zangari, RiskMetrics Monitor 2, 1996; Favre &
    Galeano, J. Altern. Invest. 5, 2002), with the moments of the population. Good for moderate tails only. Errors as of tail."""
    tail_rank(len(_sound(outcomes)), confidence)
    mean, deviation = float(outcomes.mean()), float(outcomes.std())
    if not np.ptp(outcomes):
        return -mean
    standard = (outcomes - mean) / deviation
    skew, excess = float((standard**3).mean()), float((standard**4).mean()) - 3.0
    z = NormalDist().inv_cdf(1.0 - confidence)
    corrected = z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
    return -(mean + corrected * deviation)


def filtered(returns: Floats, decay: float = DECAY) -> Floats:
    """Past returns as they would be at the volatility of tomorrow: each over its own day's forecast, times tomorrow's (Hull &
    White, J. Risk 1, 1998; Barone-Adesi, Giannopoulos & Vosper, J. Futures Markets 19, 1999).

    `returns` [days, ...] oldest first; the answer has the same shape. Days keep together, so symbols stay as dependent as they
    were. Volatility is an exponential mean of squares that starts from the mean square of the window. A day on which a series
    had no volatility is a scenario of zero. BadInput for fewer than two days, what is not finite, or a decay outside (0, 1).
    """
    if not 0.0 < decay < 1.0:
        raise BadInput(f"a decay of {decay} is not between 0 and 1")
    if len(returns) < 2 or not np.isfinite(returns).all():
        raise BadInput(f"returns of shape {returns.shape} must be finite, two days or more")
    squares = returns**2
    variance = np.empty((len(returns) + 1, *returns.shape[1:]))
    variance[0] = squares.mean(axis=0)
    for day in range(len(returns)):
        variance[day + 1] = decay * variance[day] + (1.0 - decay) * squares[day]
    deviation = np.sqrt(variance)
    residuals = np.divide(returns, deviation[:-1], out=np.zeros_like(variance[:-1]), where=deviation[:-1] > 0)
    scaled: Floats = residuals * deviation[-1]
    return scaled


def _sound(outcomes: Floats) -> Floats:
    if outcomes.ndim != 1 or not len(outcomes) or not np.isfinite(outcomes).all():
        raise BadInput(f"scenarios of shape {outcomes.shape} must be finite, one or more")
    return outcomes
