"""What the last calls of a model say of it, and when a canary has to stop."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from finagent.services.models.serving import Call

_SLOW_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class CanaryPolicy:
    """Nothing is said before `predictions_min`, and then of about so many last ones: the fraction that fails and the fraction
    without a score may not be above their limits, nor the 95th percentile of the wall seconds of a call."""

    predictions_min: int
    error_rate_max: float
    nan_rate_max: float
    p95_seconds_max: float


@dataclass(frozen=True, slots=True)
class CallFigures:
    """Fractions of the rows that failed and that had no score; wall seconds of a call at the 95th percentile, the lower one where
    it lies between two: of few calls with many rows each, one that the machine held up says nothing of the model."""

    failed_fraction: float
    unscored_fraction: float
    p95_seconds: float


class CallWindow:
    """The calls that hold about the last `rows` rows of one version."""

    def __init__(self, version: str, rows: int) -> None:
        self.version, self._rows_min = version, rows
        self._calls: deque[Call] = deque()
        self._rows = 0

    def add(self, call: Call) -> None:
        """Of that version."""
        self._calls.append(call)
        self._rows += call.rows
        while self._rows - self._calls[0].rows >= self._rows_min:
            self._rows -= self._calls.popleft().rows

    def figures(self) -> CallFigures | None:
        """None before there are so many rows."""
        if self._rows < self._rows_min:
            return None
        seconds = [each.seconds for each in self._calls]
        return CallFigures(
            sum(each.failed for each in self._calls) / self._rows,
            sum(each.unscored for each in self._calls) / self._rows,
            float(np.quantile(seconds, _SLOW_QUANTILE, method="lower")),
        )


def objection(figures: CallFigures | None, policy: CanaryPolicy) -> str:
    """Why a canary has to stop; empty while it may go on."""
    if figures is None:
        return ""
    found = (
        ("failed", figures.failed_fraction, policy.error_rate_max),
        ("had no score", figures.unscored_fraction, policy.nan_rate_max),
        ("took seconds at the 95th percentile", figures.p95_seconds, policy.p95_seconds_max),
    )
    return "; ".join(f"{what}: {value:.4g} > {limit:g}" for what, value, limit in found if value > limit)
