"""Time as a parameter."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from. Services can ask the time, they cannot wait for it: waiting is a job with `run_at`."""

    def now(self) -> datetime:
        """The present instant, aware UTC; never goes back. Does not block."""
        ...
