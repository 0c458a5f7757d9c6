"""The New York Stock Exchange's trading days, from a table of closures taken from the exchange_calendars library.

The library costs most of a second to import (it brings pandas), so the agent reads the table and leaves the library to the
command that rebuilds or verifies it:

    python -m finagent.adapters.calendar --rebuild | --verify
"""

import argparse
import sys
from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session
from finagent.domain.time import EXCHANGE_ZONE

TABLE = "xnys_closures.txt"
FIRST, LAST = date(1998, 1, 1), date(2035, 12, 31)
OPENS, CLOSES = time(9, 30), time(16, 0)
SATURDAY = 5


class NewYorkCalendar:
    """ExchangeCalendar over the embedded table: 1998 to 2035, half days and unscheduled closures included."""

    def sessions(self, first: date, last: date) -> tuple[Session, ...]:
        """All sessions from `first` to `last`, both included, in order."""
        for day in (first, last):
            if not FIRST <= day <= LAST:
                raise BadInput(f"the exchange calendar knows {FIRST} to {LAST}, not {day}")
        return self._sessions[bisect_left(self._dates, first) : bisect_right(self._dates, last)]

    def session_at_or_after(self, instant: datetime) -> Session:
        """The first session that closes after the instant."""
        if instant.tzinfo is None:
            raise BadInput(f"naive time {instant!r}: every instant carries its zone")
        day = instant.astimezone(EXCHANGE_ZONE).date()
        session = self._from(day)
        return session if session.closes_at > instant else self._from(day + timedelta(days=1))

    def next_session(self, after: date) -> Session:
        """The first session later than the date."""
        return self._from(after + timedelta(days=1))

    def _from(self, day: date) -> Session:
        place = bisect_left(self._dates, day)
        if day < FIRST or place == len(self._dates):
            raise BadInput(f"the exchange calendar knows {FIRST} to {LAST}, no session from {day} on")
        return self._sessions[place]

    @cached_property
    def _sessions(self) -> tuple[Session, ...]:
        return _all_sessions()

    @cached_property
    def _dates(self) -> tuple[date, ...]:
        return tuple(session.date for session in self._sessions)


@cache
def _all_sessions() -> tuple[Session, ...]:
    """Of the embedded table: the same for every calendar of a process."""
    special = dict(line.split() for line in read_table().splitlines() if not line.startswith("#"))
    days = (FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1))
    found = []
    for day in days:
        closes = special.get(day.isoformat(), "")
        if day.weekday() >= SATURDAY or closes == "closed":
            continue
        found.append(Session(day, _instant(day, OPENS), _instant(day, time.fromisoformat(closes) if closes else CLOSES)))
    return tuple(found)


def read_table() -> str:
    """The embedded table: a line a weekday that is closed or closes early."""
    return files("finagent.adapters").joinpath(TABLE).read_text()


def table_of_library() -> str:
    """The table as the installed exchange_calendars library has it; imports pandas."""
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS", start=FIRST.isoformat(), end=LAST.isoformat())
    closes = {label.date(): close.astimezone(EXCHANGE_ZONE) for label, close in calendar.schedule["close"].items()}
    opens = {instant.astimezone(EXCHANGE_ZONE).time() for instant in calendar.schedule["open"]}
    if opens != {OPENS}:
        raise BadInput(f"the library has sessions that open at {sorted(opens)}: the table knows only {OPENS}")
    lines = [f"# Weekdays without a full session, New York Stock Exchange, {FIRST} to {LAST}, exchange time."]
    for number in range((LAST - FIRST).days + 1):
        day = FIRST + timedelta(days=number)
        if day in closes and closes[day].time() != CLOSES:
            lines.append(f"{day} {closes[day]:%H:%M}")
        elif day not in closes and day.weekday() < SATURDAY:
            lines.append(f"{day} closed")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Rebuild the table in the source tree, or compare it with the library (exit 3 when it differs)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--rebuild", action="store_true")
    action.add_argument("--verify", action="store_true")
    options = parser.parse_args(arguments)
    fresh = table_of_library()
    if options.rebuild:
        Path(str(files("finagent.adapters").joinpath(TABLE))).write_text(fresh)
        print(f"{TABLE}: {len(fresh.splitlines()) - 1} closures and early closes")
        return 0
    same = fresh == read_table()
    print(f"{TABLE}: {'equals' if same else 'DIFFERS from'} the exchange_calendars library")
    return 0 if same else 3


def _instant(day: date, wall: time) -> datetime:
    return datetime.combine(day, wall, EXCHANGE_ZONE).astimezone(UTC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
