"""Exponential means whose first value is the plain mean of as many observations as their period (TA-Lib's convention)."""

import math
from collections.abc import Mapping

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


class Smoother:
    """Rows [means, symbols], each with its weight and the count of observations whose plain mean it begins with."""

    def __init__(self, alphas: tuple[float, ...], seeds: tuple[int, ...], symbols: int) -> None:
        self._alphas = np.asarray(alphas)[:, np.newaxis]
        self._seeds = np.asarray(seeds)[:, np.newaxis]
        self._longest = max(seeds)
        self.mean: Floats = np.zeros((len(alphas), symbols))
        self._change: Floats = np.zeros_like(self.mean)

    def update(self, observed: Floats, count: NDArray[np.int64], fewest: int) -> Floats:
        """Take in one observation [means, symbols] or [symbols], the `count`-th of its symbol (0 and less: none yet, nothing
        changes); `fewest` is the least count. Returns `mean`."""
        np.subtract(observed, self.mean, out=self._change)
        if fewest > self._longest:
            self._change *= self._alphas
            self.mean += self._change
            return self.mean
        with np.errstate(divide="ignore", invalid="ignore"):
            self._change *= np.where(count <= self._seeds, 1.0 / count, self._alphas)
        self._change[:, count <= 0] = 0.0
        self.mean += self._change
        first = count == 1
        if first.any():
            self.mean[:, first] = np.broadcast_to(observed, self.mean.shape)[:, first]
        return self.mean

    def state(self) -> dict[str, Floats]:
        """The means."""
        return {"mean": self.mean}

    def restore(self, state: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]) -> None:
        """Go on from saved means."""
        self.mean[:] = state["mean"]
