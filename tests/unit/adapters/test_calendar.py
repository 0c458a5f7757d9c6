"""The exchange's sessions: closures, half days, daylight saving on both sides of the Atlantic, on any host."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from finagent.adapters import calendar as calendar_module
from finagent.adapters.calendar import FIRST, LAST, NewYorkCalendar, read_table, table_of_library
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session

# exchange_calendars 4.13 reads a column in a way that pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning an ndarray that drops timezone")

HOST_ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "America/St_Johns")
BERLIN = ZoneInfo("Europe/Berlin")

# date, open and close in UTC, open in Berlin: the weeks around every switch to or from daylight saving.
SWITCHES = """
2024-03-08 14:30 21:00 15:30
2024-03-11 13:30 20:00 14:30
2024-04-01 13:30 20:00 15:30
2024-10-25 13:30 20:00 15:30
2024-10-28 13:30 20:00 14:30
2024-11-01 13:30 20:00 14:30
2024-11-04 14:30 21:00 15:30
2025-03-07 14:30 21:00 15:30
2025-03-10 13:30 20:00 14:30
2025-03-31 13:30 20:00 15:30
2025-10-27 13:30 20:00 14:30
2025-10-31 13:30 20:00 14:30
2025-11-03 14:30 21:00 15:30
2026-03-06 14:30 21:00 15:30
2026-03-09 13:30 20:00 14:30
2026-03-30 13:30 20:00 15:30
2026-10-26 13:30 20:00 14:30
2026-10-30 13:30 20:00 14:30
2026-11-02 14:30 21:00 15:30
2027-03-12 14:30 21:00 15:30
2027-03-15 13:30 20:00 14:30
2027-03-29 13:30 20:00 15:30
2027-11-05 13:30 20:00 14:30
2027-11-08 14:30 21:00 15:30
"""
CLOSED = {
    2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    2025: "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
    2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
    2027: "01-01 01-18 02-15 03-26 05-31 06-18 07-05 09-06 11-25 12-24",
}
SESSIONS_A_YEAR = {2024: 252, 2025: 250, 2026: 251, 2027: 251}
HALF_DAYS = """
2024-07-03 17:00
2024-11-29 18:00
2024-12-24 18:00
2025-07-03 17:00
2025-11-28 18:00
2025-12-24 18:00
2026-11-27 18:00
2026-12-24 18:00
2027-11-26 18:00
"""
FULL_DAYS = """
2026-07-02 20:00
2025-12-26 21:00
2027-12-23 21:00
2027-12-31 21:00
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


@pytest.fixture
def calendar() -> NewYorkCalendar:
    return NewYorkCalendar()


@pytest.fixture(params=HOST_ZONES)
def host_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The process believes that it stands in that zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield str(request.param)
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def library_sessions() -> list[tuple[date, datetime, datetime]]:
    """Ten years as exchange_calendars has them."""
    exchange_calendars = pytest.importorskip("exchange_calendars")
    schedule = exchange_calendars.get_calendar("XNYS", start="2017-01-01", end="2027-11-15").schedule
    return [(label.date(), row["open"].to_pydatetime(), row["close"].to_pydatetime()) for label, row in schedule.iterrows()]


def only(calendar: NewYorkCalendar, day: str) -> Session:
    (session,) = calendar.sessions(date.fromisoformat(day), date.fromisoformat(day))
    return session


def test_ten_years_of_sessions_are_the_librarys_on_any_host(
    host_zone: str, library_sessions: list[tuple[date, datetime, datetime]], calendar: NewYorkCalendar
) -> None:
    ours = calendar.sessions(date(2017, 1, 1), date(2027, 11, 15))

    assert len(ours) > 2_700, host_zone
    assert [(session.date, session.opens_at, session.closes_at) for session in ours] == library_sessions


def test_the_embedded_table_is_the_librarys_from_1998_on() -> None:
    """When a release of the library brings an unscheduled closure, this asks for `--rebuild`."""
    assert read_table() == table_of_library()


def test_daylight_saving_moves_the_session_in_utc_and_in_berlin(host_zone: str, calendar: NewYorkCalendar) -> None:
    found = []
    for day, *_ in rows(SWITCHES):
        session = only(calendar, day)
        utc = [f"{edge.astimezone(UTC):%F %H:%M}" for edge in (session.opens_at, session.closes_at)]
        found.append([*utc[0].split(), utc[1].removeprefix(f"{day} "), f"{session.opens_at.astimezone(BERLIN):%H:%M}"])

    assert found == rows(SWITCHES), host_zone
    assert len(found) == 24


@pytest.mark.parametrize("year", sorted(CLOSED))
def test_closed_weekdays_and_sessions_of_each_year(calendar: NewYorkCalendar, year: int) -> None:
    days = {session.date for session in calendar.sessions(date(year, 1, 1), date(year, 12, 31))}
    weekdays = [date(year, 1, 1) + timedelta(days=number) for number in range(366)]

    closed = [f"{day:%m-%d}" for day in weekdays if day.year == year and day.weekday() < 5 and day not in days]
    assert closed == CLOSED[year].split()
    assert len(days) == SESSIONS_A_YEAR[year]


def test_half_days_close_at_13_in_new_york_and_there_are_no_others(calendar: NewYorkCalendar) -> None:
    short = [session for session in calendar.sessions(date(2024, 1, 1), date(2027, 12, 31)) if session.minutes != 390]

    assert [f"{session.closes_at:%F %H:%M}" for session in short] == [" ".join(row) for row in rows(HALF_DAYS)]
    assert {session.minutes for session in short} == {210}


@pytest.mark.parametrize(("day", "closes"), rows(FULL_DAYS))
def test_full_days_that_are_easily_mistaken_for_half_days(calendar: NewYorkCalendar, day: str, closes: str) -> None:
    session = only(calendar, day)

    assert session.minutes == 390
    assert f"{session.closes_at:%H:%M}" == closes


def test_the_session_at_or_after_an_instant_is_the_first_that_closes_later(calendar: NewYorkCalendar) -> None:
    def at(text: str) -> str:
        return str(calendar.session_at_or_after(datetime.fromisoformat(text).replace(tzinfo=UTC)).date)

    assert at("2024-11-29T15:00") == "2024-11-29"
    assert at("2024-11-29T17:59") == "2024-11-29"
    assert at("2024-11-29T18:00") == "2024-12-02"
    assert at("2024-11-30T12:00") == "2024-12-02"
    assert at("2024-12-02T02:00") == "2024-12-02"
    assert at("2024-12-03T02:00") == "2024-12-03"


def test_the_next_session_skips_weekends_and_holidays(calendar: NewYorkCalendar) -> None:
    assert calendar.next_session(date(2024, 11, 27)).date == date(2024, 11, 29)
    assert calendar.next_session(date(2024, 11, 29)).date == date(2024, 12, 2)
    assert calendar.next_session(date(2025, 1, 8)).date == date(2025, 1, 10)


def test_a_span_without_sessions_is_empty(calendar: NewYorkCalendar) -> None:
    assert calendar.sessions(date(2024, 11, 30), date(2024, 12, 1)) == ()
    assert calendar.sessions(date(2024, 12, 2), date(2024, 12, 1)) == ()


def test_years_it_does_not_know_are_refused(calendar: NewYorkCalendar) -> None:
    for first, last in ((FIRST - timedelta(days=1), LAST), (FIRST, LAST + timedelta(days=1))):
        with pytest.raises(BadInput, match="1998-01-01 to 2035-12-31"):
            calendar.sessions(first, last)
    with pytest.raises(BadInput, match="no session from 2036-01-01"):
        calendar.next_session(LAST)
    with pytest.raises(BadInput, match="naive time"):
        calendar.session_at_or_after(datetime(2024, 11, 29, 12))  # noqa: DTZ001 - the naive time is the point


def test_the_command_rebuilds_and_verifies_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calendar_module.main(["--verify"]) == 0
    assert "equals" in capsys.readouterr().out

    monkeypatch.setattr(calendar_module, "files", lambda _: tmp_path)
    assert calendar_module.main(["--rebuild"]) == 0
    rebuilt = tmp_path / calendar_module.TABLE
    rebuilt.write_text(rebuilt.read_text().replace("2025-01-09 closed\n", ""))
    assert calendar_module.main(["--verify"]) == 3
    assert "DIFFERS" in capsys.readouterr().out
