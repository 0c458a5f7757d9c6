"""When a canary has to stop: it fails, has no score, or is slow more often than it may."""

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


class CanaryWatch:
    """What was seen of one version of a canary."""

    def __init__(self, version: str, policy: CanaryPolicy) -> None:
        self.version, self._policy = version, policy
        self._calls: deque[Call] = deque()
        self._rows = 0

    def objection(self, call: Call) -> str:
        """Why it has to stop, now that this call is known; empty while it may go on."""
        policy, calls = self._policy, self._calls
        calls.append(call)
        self._rows += call.rows
        while self._rows - calls[0].rows >= policy.predictions_min:
            self._rows -= calls.popleft().rows
        if self._rows < policy.predictions_min:
            return ""
        errors = sum(each.failed for each in calls) / self._rows
        unscored = sum(each.unscored for each in calls) / self._rows
        slow = float(np.quantile([each.seconds for each in calls], _SLOW_QUANTILE))
        found = (
            ("failed", errors, policy.error_rate_max),
            ("had no score", unscored, policy.nan_rate_max),
            ("took seconds at the 95th percentile", slow, policy.p95_seconds_max),
        )
        return "; ".join(f"{what}: {value:.4g} > {limit:g}" for what, value, limit in found if value > limit)
