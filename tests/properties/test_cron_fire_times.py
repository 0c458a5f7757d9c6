"""Each entry fires in each session exactly at its wall times in New York, on any host."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finagent.adapters.calendar import NewYorkCalendar
from finagent.domain.sessions import Session
from finagent.services.scheduling.cron import CronEntry, fire_times

NEW_YORK = ZoneInfo("America/New_York")
SESSIONS = NewYorkCalendar().sessions(date(2018, 1, 1), date(2027, 12, 31))
# The days on which a fixed offset would go wrong: half days, and the first session after each change of the offset.
CRITICAL = [
    later for earlier, later in pairwise(SESSIONS) if later.minutes == 210 or earlier.opens_at.time() != later.opens_at.time()
]

hours = st.sets(st.integers(0, 23), min_size=1, max_size=5)
minutes = st.sets(st.integers(0, 59), min_size=1, max_size=5)
weekdays = st.sets(st.integers(1, 5), min_size=1, max_size=5)
any_session = st.one_of(st.sampled_from(SESSIONS), st.sampled_from(CRITICAL))


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland"])
def host_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield str(request.param)
    monkeypatch.undo()
    time.tzset()


def expected(session: Session, hours: set[int], minutes: set[int], weekdays: set[int]) -> list[datetime]:
    """By stepping through the session minute by minute and reading the clock on the exchange's wall."""
    found = []
    for minute in range(session.minutes + 1):
        wall = (session.opens_at + timedelta(minutes=minute)).astimezone(NEW_YORK)
        if wall.hour in hours and wall.minute in minutes and wall.isoweekday() in weekdays:
            found.append(wall.astimezone(UTC))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(session=any_session, hours=hours, minutes=minutes, weekdays=weekdays)
def test_an_entry_fires_exactly_at_its_wall_times_within_the_session(
    host_zone: str, session: Session, hours: set[int], minutes: set[int], weekdays: set[int]
) -> None:
    expression = " ".join(",".join(map(str, sorted(field))) for field in (minutes, hours))
    entry = CronEntry("scan", f"{expression} * * {','.join(map(str, sorted(weekdays)))}")

    times = fire_times(entry, session)

    assert list(times) == expected(session, hours, minutes, weekdays)
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(session.opens_at <= at <= session.closes_at for at in times)
    assert all(at.utcoffset() == timedelta(0) for at in times)


def test_over_ten_years_the_default_entries_fire_once_a_session(host_zone: str) -> None:
    entries = [CronEntry(f"scan {wall}", f"{wall[3:]} {int(wall[:2])} * * *") for wall in ("09:35", "09:45", "10:00")]

    for session in SESSIONS:
        seen = [at for entry in entries for at in fire_times(entry, session)]
        assert [f"{at.astimezone(NEW_YORK):%F %H:%M}" for at in seen] == [
            f"{session.date} {wall}" for wall in ("09:35", "09:45", "10:00")
        ]
