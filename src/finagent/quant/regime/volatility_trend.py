"""A plain causal filter of the market's regime: how volatile it is for its own past, and how steadily it rises.

It stands where the fitted regime detector will: it has no state that persists and no transition probabilities.
"""

from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.regime import Regime

VARIANCE_MIN = 1e-12  # of a daily return: prices that stand still have some


@dataclass(frozen=True, slots=True)
class VolatilityTrend:
    """RegimeProbabilities. `memory_sessions` is the mean age of a return in the exponential means (RiskMetrics 1996 takes 16),
    `past_sessions` the same of what counts as usual; the first `warmup_sessions` say nothing.

    BEAR by the logistic function of how many deviations the logarithm of volatility lies above its own past, less
    `bear_deviations`; the rest is BULL by the logistic function of the mean return over its standard error, less one.
    """

    memory_sessions: float = 21.0
    past_sessions: float = 252.0
    warmup_sessions: int = 21
    bear_deviations: float = 1.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.memory_sessions < self.past_sessions < np.inf or self.warmup_sessions < 2:
            raise BadInput(f"regime filter: {self}: 1 <= memory_sessions < past_sessions and warmup_sessions from 2 are needed")
        if not np.isfinite(self.bear_deviations):
            raise BadInput("regime filter: bear_deviations is not finite")

    def probabilities(self, closes: Floats) -> Floats:
        if closes.ndim != 1 or np.isinf(closes).any() or (closes <= 0.0).any():
            raise BadInput(f"regime filter: closes {closes.shape} must be one series above zero, NaN where unknown")
        told = np.full((len(closes), len(Regime)), 1.0 / len(Regime))
        near, far = 1.0 / self.memory_sessions, 1.0 / self.past_sessions
        last = np.nan
        mean = variance = usual = spread = 0.0
        count = 0
        for place, close in enumerate(closes.tolist()):
            told[place] = told[place - 1] if place else told[place]
            if np.isnan(close):
                continue
            change, last = np.log(close / last), close
            if np.isnan(change):
                continue
            count += 1
            # Until a mean is as old as its memory, every return counts alike.
            weight, slow = max(near, 1.0 / count), max(far, 1.0 / count)
            mean += weight * (change - mean)
            variance += weight * (change**2 - variance)
            level = np.log(max(variance, VARIANCE_MIN)) / 2.0
            above = level - usual
            usual += slow * above
            spread = (1.0 - slow) * (spread + slow * above**2)
            if count >= self.warmup_sessions:
                told[place] = self._distribution(mean, variance, (level - usual) / np.sqrt(max(spread, VARIANCE_MIN)))
        return told

    def _distribution(self, mean: float, variance: float, deviations: float) -> Floats:
        bear = _logistic(2.0 * (deviations - self.bear_deviations))
        error = np.sqrt(max(variance, VARIANCE_MIN) / (2.0 * self.memory_sessions - 1.0))  # of an exponential mean
        bull = (1.0 - bear) * _logistic(2.0 * (mean / error - 1.0))
        told = np.empty(len(Regime))
        told[Regime.BULL], told[Regime.BEAR], told[Regime.SIDEWAYS] = bull, bear, 1.0 - bull - bear
        return told


def _logistic(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(value, -50.0, 50.0))))
