"""Clocks: the market time of a replay, set by its driver."""

from datetime import datetime

from finagent.domain.errors import InvariantViolated


class VirtualClock:
    """Time stands still until it is set; it never goes back."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The instant last set."""
        return self._now

    def set(self, now: datetime) -> None:
        """Move to `now`; raises InvariantViolated for a step back."""
        if now < self._now:
            raise InvariantViolated(f"market time would go back from {self._now} to {now}")
        self._now = now
