"""Schedule entries in exchange time."""

from datetime import UTC, date, datetime

import pytest

from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session
from finagent.services.scheduling.cron import CronEntry, fire_times


def session(opens: str, closes: str) -> Session:
    """A session from its edges in UTC."""
    opens_at, closes_at = (datetime.fromisoformat(edge).replace(tzinfo=UTC) for edge in (opens, closes))
    return Session(opens_at.date(), opens_at, closes_at)


WINTER = session("2024-11-04T14:30", "2024-11-04T21:00")
HALF_DAY = session("2024-11-29T14:30", "2024-11-29T18:00")


def fired(expression: str, day: Session) -> list[str]:
    return [f"{at:%H:%M}" for at in fire_times(CronEntry("scan", expression), day)]


@pytest.mark.parametrize(
    ("opens", "closes", "utc"),
    [
        pytest.param("2024-03-08T14:30", "2024-03-08T21:00", "14:35", id="before the US switch"),
        pytest.param("2024-03-11T13:30", "2024-03-11T20:00", "13:35", id="after it, Europe still on winter time"),
        pytest.param("2024-04-01T13:30", "2024-04-01T20:00", "13:35", id="after the European switch"),
        pytest.param("2024-10-28T13:30", "2024-10-28T20:00", "13:35", id="Europe back on winter time"),
        pytest.param("2024-11-04T14:30", "2024-11-04T21:00", "14:35", id="the US back too"),
    ],
)
def test_an_entry_fires_at_its_wall_time_in_new_york(opens: str, closes: str, utc: str) -> None:
    assert fired("35 9 * * *", session(opens, closes)) == [utc]


def test_fire_times_are_aware_utc() -> None:
    assert fire_times(CronEntry("scan", "35 9 * * *"), WINTER) == (datetime(2024, 11, 4, 14, 35, tzinfo=UTC),)


def test_an_entry_may_fire_many_times_and_at_both_edges() -> None:
    assert fired("*/30 9-10 * * *", WINTER) == ["14:30", "15:00", "15:30"]
    assert fired("0 16 * * *", WINTER) == ["21:00"]
    assert fired("29 9 * * *", WINTER) == []
    assert fired("1 16 * * *", WINTER) == []


def test_on_a_half_day_nothing_fires_after_the_close() -> None:
    assert fired("0 10,13,14,15 * * *", HALF_DAY) == ["15:00", "18:00"]
    assert fired("50 15 * * *", HALF_DAY) == []


def test_day_fields_pick_sessions() -> None:
    assert fired("35 9 * * MON", WINTER) == ["14:35"]
    assert fired("35 9 * * TUE", WINTER) == []
    assert fired("35 9 4 11 *", WINTER) == ["14:35"]
    assert fired("35 9 5 * *", WINTER) == []


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 9 * * *", "Bad minute"),
        ("35 9 * * FUNDAY", "Bad day-of-week"),
        ("35 9 * *", "five fields"),
        ("0 35 9 * * *", "five fields"),
        ("", "five fields"),
        ("35 9 30 2 *", "Bad day-of-month"),
        pytest.param("35 9 */29 2 MON#5", "never fires", id="the fifth Monday is never the first of February"),
    ],
)
def test_a_bad_expression_is_refused_naming_entry_and_expression(expression: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        CronEntry("opening scan", expression)

    assert "'opening scan'" in str(refused.value)
    assert repr(expression) in str(refused.value)
    assert said in str(refused.value)


def test_an_entry_without_a_name_is_refused() -> None:
    with pytest.raises(BadInput, match="no name"):
        CronEntry("", "35 9 * * *")


def test_the_day_of_a_session_is_the_exchanges() -> None:
    """The date in the expression is New York's, whatever the instant's date is in UTC."""
    assert WINTER.date == date(2024, 11, 4)
    assert fired("35 9 4 * *", WINTER) == ["14:35"]
