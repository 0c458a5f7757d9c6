"""Limits of the order protocol; all times are market time."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ExecutionPolicy:
    """`send_timeout_seconds` until an unanswered send is looked up, `lookup_window_seconds` until an order not found is parked.

    `sends_max`: how often the same intent may be sent under its one id; `protect_seconds` until a partly filled entry is
    protected; `step_seconds` between two looks at something that the broker has to finish.
    """

    send_timeout_seconds: int
    lookup_window_seconds: int
    sends_max: int
    protect_seconds: int
    step_seconds: int

    @property
    def step(self) -> timedelta:
        return timedelta(seconds=self.step_seconds)
