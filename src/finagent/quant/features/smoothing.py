"""Exponential means whose first value is the plain mean of as many observations as their period (TA-Lib's convention)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats

MEMORY_MAX = 1e-3  # the weight that what was before a symbol's first bar may still have in a usable value


def ema(period: int) -> float:
    """Weight of the newest observation: 2 / (period + 1)."""
    return 2.0 / (period + 1)


def wilder(period: int) -> float:
    """Weight of the newest observation: 1 / period (Wilder, New Concepts in Technical Trading Systems, 1978)."""
    return 1.0 / period


def warmup(alpha: float) -> int:
    """Observations until the weight of the start is at most MEMORY_MAX."""
    return math.ceil(math.log(MEMORY_MAX) / math.log(1.0 - alpha))


@dataclass(frozen=True, slots=True)
class Weight:
    """Of one mean: `alpha` of the newest observation, `seed` observations whose plain mean it begins with, `late` bars of a
    symbol before its first observation."""

    alpha: float
    seed: int
    late: int


class Smoother:
    """Means [weights, symbols]."""

    def __init__(self, weights: Sequence[Weight], symbols: int) -> None:
        self._alphas = np.asarray([[weight.alpha] for weight in weights])
        self._seeds = np.asarray([[weight.seed] for weight in weights])
        self._late = np.asarray([[weight.late] for weight in weights])
        self._longest = max(weight.late + weight.seed for weight in weights)
        self.observed, self.mean, self._change = np.zeros((3, len(weights), symbols))

    def update(self, count: NDArray[np.int64] | int, fewest: int) -> Floats:
        """Take in what is `observed` [weights, symbols] at the `count`-th bar of each symbol, or of all; before its first nothing
        changes. `fewest` is the least count. Returns `mean`."""
        change, mean = self._change, self.mean
        np.subtract(self.observed, mean, out=change)
        if fewest > self._longest:
            np.multiply(change, self._alphas, out=change)
            np.add(mean, change, out=mean)
            return mean
        number = count - self._late
        with np.errstate(divide="ignore", invalid="ignore"):
            change *= np.where(number <= self._seeds, 1.0 / number, self._alphas)
        np.copyto(change, 0.0, where=number <= 0)
        mean += change
        np.copyto(mean, self.observed, where=number == 1)
        return mean
