"""Daily panels: bad bars refused by name, splits told from gaps, facts before the open."""

from datetime import date
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.daily_panel import DailyPanel, HistoryPolicy, nearest_split, split_values
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session

Floats = NDArray[np.float64]
SESSIONS = NewYorkCalendar().sessions(date(2008, 9, 1), date(2008, 10, 31))
POLICY = HistoryPolicy(mean_sessions=3, hole_sessions_max=2)


def even_shares(session: Session, minutes: tuple[int, ...]) -> Floats:
    """Every minute trades the same share; two symbols."""
    return np.tile(np.array(minutes, dtype=np.float64)[:, None] / session.minutes, (1, 2))


def columns(days: int = 8) -> dict[str, Floats]:
    """Symbol A closes at 100, 101, ...; B at 50 throughout; volumes 1000, 1100, ... and 500."""
    close = np.column_stack([100.0 + np.arange(days), np.full(days, 50.0)])
    volume = np.column_stack([1000.0 + 100 * np.arange(days), np.full(days, 500.0)])
    return {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": volume}


def panel(bars: dict[str, Floats], split: Floats | None = None) -> DailyPanel:
    days = len(bars["close"])
    return DailyPanel.checked(("A", "B"), SESSIONS[:days], bars, np.ones((days, 2)) if split is None else split)


def test_facts_are_of_the_sessions_before() -> None:
    facts = panel(columns()).prior_facts(SESSIONS[5], (39, 390), POLICY, even_shares)

    np.testing.assert_allclose(facts.previous_close, [104.0, 50.0])
    dollars = [(102.0 * 1200 + 103.0 * 1300 + 104.0 * 1400) / 3, 25_000.0]
    np.testing.assert_allclose(facts.dollar_volume_mean, dollars)
    np.testing.assert_allclose(facts.cumulative_volume_mean, [[130.0, 50.0], [1300.0, 500.0]])
    assert facts.minutes == (39, 390)
    assert facts.excluded == {}


def test_nothing_of_the_day_itself_or_later_changes_the_facts() -> None:
    before = panel(columns()).prior_facts(SESSIONS[5], (39,), POLICY, even_shares)
    changed = columns()
    for column in changed.values():
        column[5:] *= 3.0

    after = panel(changed).prior_facts(SESSIONS[5], (39,), POLICY, even_shares)

    for name in ("previous_close", "dollar_volume_mean", "cumulative_volume_mean"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_too_short_a_history_has_no_means_and_the_first_day_no_close() -> None:
    facts = panel(columns())

    second = facts.prior_facts(SESSIONS[2], (39,), POLICY, even_shares)
    first = facts.prior_facts(SESSIONS[0], (39,), POLICY, even_shares)

    assert np.isnan(second.dollar_volume_mean).all()
    assert np.isnan(second.cumulative_volume_mean).all()
    np.testing.assert_allclose(second.previous_close, [101.0, 50.0])
    assert np.isnan(first.previous_close).all()
    assert first.excluded == {}


def test_a_split_today_puts_close_and_volumes_into_todays_shares() -> None:
    split = np.ones((8, 2))
    split[5, 0] = 2.0

    facts = panel(columns(), split).prior_facts(SESSIONS[5], (390,), POLICY, even_shares)

    np.testing.assert_allclose(facts.previous_close, [52.0, 50.0])
    np.testing.assert_allclose(facts.cumulative_volume_mean, [[2600.0, 500.0]])
    np.testing.assert_allclose(facts.dollar_volume_mean[0], np.mean([102.0 * 1200, 103.0 * 1300, 104.0 * 1400]))


def test_a_split_within_the_history_corrects_the_older_volumes_only() -> None:
    split = np.ones((8, 2))
    split[4, 0] = 3.0

    facts = panel(columns(), split).prior_facts(SESSIONS[5], (390,), POLICY, even_shares)

    np.testing.assert_allclose(facts.previous_close, [104.0, 50.0])
    np.testing.assert_allclose(facts.cumulative_volume_mean[0, 0], np.mean([3 * 1200.0, 3 * 1300.0, 1400.0]))


def test_a_short_hole_is_bridged_with_its_split_and_older_bars_complete_the_mean() -> None:
    bars, split = columns(), np.ones((8, 2))
    for column in bars.values():
        column[4, 0] = np.nan
    split[4, 0] = 2.0

    facts = panel(bars, split).prior_facts(SESSIONS[5], (390,), POLICY, even_shares)

    np.testing.assert_allclose(facts.previous_close[0], 103.0 / 2)
    np.testing.assert_allclose(facts.dollar_volume_mean[0], np.mean([101.0 * 1100, 102.0 * 1200, 103.0 * 1300]))
    assert facts.excluded == {}


def test_a_long_hole_excludes_the_symbol() -> None:
    bars = columns()
    for column in bars.values():
        column[2:5, 0] = np.nan

    facts = panel(bars).prior_facts(SESSIONS[5], (390,), POLICY, even_shares)

    assert facts.excluded == {"A": "no bar for too many sessions"}
    assert np.isnan(facts.previous_close[0])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("open", np.nan, "price is not finite"),
        ("close", np.inf, "price is not finite"),
        ("low", -1.0, "price is not positive"),
        ("high", 103.0, "high is below open, close or low"),
        ("low", 103.8, "low is above open or close"),
        ("volume", -5.0, "volume is not a number of shares"),
        ("volume", np.nan, "volume is not a number of shares"),
    ],
)
def test_a_bad_bar_is_refused_by_name_and_counts_from_when_it_is_known(column: str, value: float, reason: str) -> None:
    """At the open of its day nobody knows yet what it will be."""
    bars = columns()
    bars[column][4, 0] = value
    checked = panel(bars)

    assert checked.excluded[4] == {"A": reason}
    assert np.isnan(checked.close[4, 0])
    assert np.isfinite(checked.close[4, 1])
    assert checked.prior_facts(SESSIONS[4], (), POLICY, even_shares).excluded == {}
    assert checked.prior_facts(SESSIONS[5], (), POLICY, even_shares).excluded == {"A": f"previous bar refused: {reason}"}
    assert checked.prior_facts(SESSIONS[6], (), POLICY, even_shares).excluded == {}


def test_a_null_bar_is_missing_and_a_bar_without_volume_is_good() -> None:
    bars = columns()
    for column in bars.values():
        column[3, 0] = np.nan
    bars["volume"][4, 1] = 0.0

    assert all(not day for day in panel(bars).excluded)


def test_the_callers_arrays_are_left_alone() -> None:
    bars = columns()
    bars["high"][4, 0] = 1.0

    panel(bars)

    assert bars["close"][4, 0] == 104.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sessions": SESSIONS[:3][::-1]}, "not in order"),
        ({"symbols": ("A", "A")}, "a symbol comes twice"),
        ({"split": np.zeros((3, 2))}, "split value is not positive"),
        ({"open": np.ones((2, 2))}, "open has shape"),
        ({"excluded": ()}, "0 days of exclusions"),
    ],
)
def test_an_inconsistent_panel_is_refused(change: dict[str, Any], said: str) -> None:
    ones = np.ones((3, 2))
    whole: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close", "volume", "split"), ones)
    whole |= {"symbols": ("A", "B"), "sessions": SESSIONS[:3], "excluded": ({}, {}, {}), "suspect": ({}, {}, {})}

    with pytest.raises(BadInput, match=said):
        DailyPanel(**(whole | change))


def test_a_panel_of_fewer_symbols_keeps_their_columns_and_reasons() -> None:
    bars = columns()
    bars["high"][4, 1] = 1.0
    whole = panel(bars)

    part = whole.of_symbols(("B",))

    np.testing.assert_array_equal(part.close[:, 0], whole.close[:, 1])
    assert part.excluded[4] == whole.excluded[4]
    with pytest.raises(BadInput, match="unknown symbol ZZZ"):
        whole.of_symbols(("A", "ZZZ"))


def test_a_session_without_bars_is_refused() -> None:
    with pytest.raises(BadInput, match="no daily bars for the session 2008-10-31"):
        panel(columns()).day_of(SESSIONS[-1])


@pytest.mark.parametrize(
    ("ratio", "value"), [(1.98, 2.0), (0.51, 0.5), (1.52, 1.5), (7.03, 7.0), (0.1, 0.1), (0.34, 1 / 3), (2.9, 3.0)]
)
def test_a_split_is_told_as_the_nearest_customary_value(ratio: float, value: float) -> None:
    assert nearest_split(ratio) == pytest.approx(value)


def test_splits_are_jumps_of_the_adjustment_factor_not_of_the_price() -> None:
    close = np.array([[100.0, 100.0], [98.0, 53.0], [49.5, 54.0], [np.nan, 55.0], [148.0, 56.0]])
    factor = np.array([[0.5, 0.97], [0.5, 0.97], [1.0, 0.98], [np.nan, 0.98], [1 / 3, 1.0]])

    found = split_values(close, close * factor)

    np.testing.assert_allclose(found[:, 0], [1.0, 1.0, 2.0, 1.0, 1 / 3])
    np.testing.assert_array_equal(found[:, 1], 1.0)


def test_a_history_policy_without_sessions_is_refused() -> None:
    with pytest.raises(BadInput, match="mean_sessions 0"):
        HistoryPolicy(mean_sessions=0, hole_sessions_max=1)
