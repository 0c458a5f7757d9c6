"""The covariance of returns, shrunk towards one correlation for all."""

from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

_SAME = 1e-20  # squared distance of two equal matrices, relative


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`matrix` [symbols, symbols] per day; `intensity` 0 is the sample, 1 the target."""

    matrix: Floats
    intensity: float


def shrunk_covariance(returns: Floats) -> Shrunk:
    """Ledoit & Wolf, "Honey, I Shrunk the Sample Covariance Matrix" (J. Portfolio Manag. 30, 2004): the target has the sample's
    variances and its mean correlation, so variances are kept as they are, which risk parity and betas read.

    `returns` [days, symbols]. Moments of the population, as in the paper. BadInput for fewer than two days or symbols, what is
    not finite, or a symbol that never moves.
    """
    if returns.ndim != 2 or min(returns.shape) < 2 or not np.isfinite(returns).all():
        raise BadInput(f"returns of shape {returns.shape} must be finite, two days and symbols or more")
    if not np.ptp(returns, axis=0).all():
        raise BadInput("a symbol that never moves has no correlation: leave it out")
    days, symbols = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / days
    variance = np.diag(sample)
    deviation = np.sqrt(variance)
    spread = np.outer(deviation, deviation)
    mean_correlation = ((sample / spread).sum() - symbols) / (symbols * (symbols - 1))
    target = mean_correlation * spread
    np.fill_diagonal(target, variance)
    squares = centred**2
    noise = squares.T @ squares / days - sample**2  # pi of the paper: the variance of each element, times the days
    # rho of the paper: how the elements of sample and target err together.
    third = (centred**3).T @ centred / days - variance[:, None] * sample
    np.fill_diagonal(third, 0.0)
    shared = np.trace(noise) + mean_correlation * (third * np.outer(1 / deviation, deviation)).sum()
    distance = ((sample - target) ** 2).sum()
    apart = distance > _SAME * (sample**2).sum()  # of two symbols sample and target are the same but for rounding
    intensity = float(np.clip((noise.sum() - shared) / distance / days, 0.0, 1.0)) if apart else 0.0
    return Shrunk(intensity * target + (1.0 - intensity) * sample, intensity)
