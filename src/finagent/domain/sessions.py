"""One exchange trading day."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from finagent.domain.errors import BadInput

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Session:
    """A trading day of the exchange; `opens_at` and `closes_at` are aware UTC instants."""

    date: date
    opens_at: datetime
    closes_at: datetime

    def __post_init__(self) -> None:
        if self.opens_at.tzinfo is None or self.closes_at.tzinfo is None:
            raise BadInput(f"session {self.date}: naive open or close")
        if self.closes_at <= self.opens_at:
            raise BadInput(f"session {self.date} closes before it opens")

    @property
    def minutes(self) -> int:
        """Length in minutes: 390 on a full day, 210 on a half day."""
        return int((self.closes_at - self.opens_at) / MINUTE)

    def minute_of(self, instant: datetime) -> int:
        """How many one-minute bars of the session are complete at the instant (0 before the first, at most `minutes`)."""
        return max(0, min(self.minutes, int((instant - self.opens_at) / MINUTE)))

    def instant_of(self, minute: int) -> datetime:
        """The instant at which bar number `minute - 1` is complete."""
        return self.opens_at + minute * MINUTE
