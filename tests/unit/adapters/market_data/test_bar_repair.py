"""Holes and bad bars in a session, and the two forms of the rule that tells a bad bar."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.adapters.market_data.bar_repair import GapPolicy, dropped_symbols, refused, repaired
from finagent.adapters.market_data.schemas import DAILY_BARS, MINUTE_BARS, breaches_of
from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session
from finagent.quant.features.bar_soundness import sound_bars

OPENS = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
LETTERS = {"o": BarQuality.OK, "f": BarQuality.FILLED, "m": BarQuality.MISSING, "b": BarQuality.BAD, "h": BarQuality.HALTED}
POLICY = GapPolicy(hole_minutes_max=2)


def session_of(*columns: str) -> SessionBars:
    """A symbol a string, a letter a minute; close of minute i is 100 + i, NaN where it is missing or halted, bad where b."""
    minutes = len(columns[0])
    quality = np.array([[LETTERS[letter] for letter in column] for column in columns], dtype=np.uint8).T
    close = np.repeat(100.0 + np.arange(minutes)[:, None], len(columns), axis=1)
    close[quality > BarQuality.FILLED] = np.nan
    session = Session(OPENS.date(), OPENS, OPENS + timedelta(minutes=minutes))
    symbols = tuple(f"S{i}" for i in range(len(columns)))
    volume = np.where(np.isnan(close), np.nan, 10.0)
    return SessionBars(session, symbols, close.copy(), close.copy(), close.copy(), close, volume, quality)


def letters(bars: SessionBars, column: int = 0) -> str:
    names = {int(quality): letter for letter, quality in LETTERS.items()}
    return "".join(names[int(code)] for code in bars.quality[:, column])


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("oooooo", "oooooo"),
        ("omooom", "ofooof"),
        ("ommooo", "offooo"),
        ("ommmoo", "offmmm"),
        ("mooooo", "mooooo"),
        ("mmmooo", "mmmmmm"),
        ("obmmoo", "obfmmm"),
        ("obooob", "obooob"),
        ("ohhhho", "ohhhho"),
        ("ommhmmo", "offhffo"),
        ("obbboo", "obbbmm"),
    ],
)
def test_short_holes_are_filled_and_long_ones_drop_the_symbol(given_: str, expected: str) -> None:
    assert letters(repaired(session_of(given_), POLICY)) == expected


def test_a_filled_minute_carries_the_last_close_with_no_volume_and_others_hold_no_number() -> None:
    bars = repaired(session_of("ommmoo"), POLICY)

    for name in ("open", "high", "low", "close"):
        assert getattr(bars, name)[:3, 0].tolist() == [100, 100, 100]
        assert np.isnan(getattr(bars, name)[3:, 0]).all()
    assert bars.volume[:3, 0].tolist() == [10, 0, 0]
    assert np.isnan(bars.volume[3:]).all()


def test_one_symbol_with_a_hole_does_not_touch_its_neighbours() -> None:
    bars = repaired(session_of("oooooo", "ommmoo", "oboooo"), POLICY)

    assert [letters(bars, column) for column in range(3)] == ["oooooo", "offmmm", "oboooo"]
    assert dropped_symbols(session_of("oooooo", "ommmoo", "oboooo"), POLICY) == {
        "S1": "no bar for more than 2 minutes from 2024-01-02T14:31:00+00:00"
    }


@settings(max_examples=200, deadline=None)
@given(st.text("oofmmbh", min_size=2, max_size=20), st.integers(1, 19), st.integers(0, 3))
def test_repair_never_looks_ahead(column: str, cut: int, hole_minutes_max: int) -> None:
    policy = GapPolicy(hole_minutes_max)
    cut = min(cut, len(column))

    whole, part = repaired(session_of(column), policy), repaired(session_of(column[:cut]), policy)

    assert letters(whole)[:cut] == letters(part)
    np.testing.assert_array_equal(whole.close[:cut], part.close)


prices = st.sampled_from([9.0, 10.0, 10.5, 11.0, 0.0, -1.0, float("nan"), float("inf"), -float("inf")])
volumes = st.sampled_from([0.0, 5.0, -1.0, float("nan"), float("inf")])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(prices, prices, prices, prices, volumes), min_size=1, max_size=16))
def test_the_guard_of_the_hot_path_refuses_exactly_what_the_file_schemas_refuse(
    rows: list[tuple[float, float, float, float, float]],
) -> None:
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume"], dtype=np.float64)
    frame["symbol"] = [f"S{i}" for i in range(len(rows))]
    guard = sound_bars(*(frame[name].to_numpy() for name in ("open", "high", "low", "close", "volume")))

    for schema, timestamp in ((DAILY_BARS, "2024-01-02T05:00:00Z"), (MINUTE_BARS, "2024-01-02T14:30:00Z")):
        frame["timestamp"] = pd.Series([pd.Timestamp(timestamp)] * len(rows)).dt.as_unit("ns")
        broken = {row for breach in breaches_of(frame, schema) for row in breach.rows}
        assert broken == set(np.flatnonzero(~guard).tolist())


def test_the_guard_marks_bad_bars_and_keeps_the_rest() -> None:
    bars = session_of("ooo")
    bars.high[1] = 1.0

    marked = refused(bars)

    assert letters(marked) == "obo"
    assert np.isnan(marked.close[1]).all()
    assert marked.close[[0, 2], 0].tolist() == [100, 102]


def test_sound_bars_pass_untouched() -> None:
    bars = session_of("ofo")

    assert repaired(bars, POLICY) is bars


def test_a_negative_hole_is_refused() -> None:
    with pytest.raises(BadInput):
        GapPolicy(-1)
