"""The exchange's trading days."""

from datetime import date, datetime
from typing import Protocol

from finagent.domain.sessions import Session


class ExchangeCalendar(Protocol):
    """Sessions with half days and holidays, in UTC. Does not block; raises BadInput outside the years it knows."""

    def sessions(self, first: date, last: date) -> tuple[Session, ...]:
        """All sessions from `first` to `last`, both included, in order."""
        ...

    def session_at_or_after(self, instant: datetime) -> Session:
        """The first session that closes after the instant."""
        ...

    def next_session(self, after: date) -> Session:
        """The first session later than the date."""
        ...
