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
        self.mean: Floats = np.zeros((len(weights), symbols))
        self._change: Floats = np.zeros_like(self.mean)

    def update(self, observed: Floats, count: NDArray[np.int64] | int, fewest: int) -> Floats:
        """Take in one observation [weights, symbols] at the `count`-th bar of each symbol, or of all; before its first nothing
        changes. `fewest` is the least count. Returns `mean`."""
        np.subtract(observed, self.mean, out=self._change)
        if fewest > self._longest:
            self._change *= self._alphas
            self.mean += self._change
            return self.mean
        number = count - self._late
        with np.errstate(divide="ignore", invalid="ignore"):
            self._change *= np.where(number <= self._seeds, 1.0 / number, self._alphas)
        np.copyto(self._change, 0.0, where=number <= 0)
        self.mean += self._change
        np.copyto(self.mean, observed, where=number == 1)
        return self.mean
