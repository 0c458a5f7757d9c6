"""Labels say which barrier was met first, and never that it was the good one when nobody knows."""

import numpy as np
import pytest

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Barriers, Labels, Outcome, Path, day_weights, label_days, label_minutes

UP, FLAT, DOWN, UNKNOWN = Outcome.UP, Outcome.FLAT, Outcome.DOWN, Outcome.UNKNOWN
NAN = float("nan")


def array(*values: float) -> Floats:
    return np.asarray(values, dtype=np.float64)


def daily(high: float, low: float, close: float, **change: float) -> tuple[int, float]:
    """One day that opened at 100 with an ATR of 2 %: the barriers are at 101 and 99."""
    barriers = Barriers(cost_fraction=change.pop("cost_fraction", 0.0))
    side = change.pop("side", 1.0)
    open_, atr = change.pop("open", 100.0), change.pop("atr", 0.02)
    path = Path(array(high), array(low), array(close))
    found = label_days(array(open_), path, array(atr), np.asarray([7]), barriers, side)
    assert found.label_start.tolist() == found.label_end.tolist() == [7]
    return int(found.outcome[0]), round(float(found.target_atr[0]), 9)


def test_a_day_that_meets_one_barrier_ends_there() -> None:
    assert daily(101.5, 99.5, 100.2) == (UP, 0.5)
    assert daily(100.5, 98.0, 100.2) == (DOWN, -0.5)
    assert daily(101.0, 99.5, 100.2)[0] == UP, "at the barrier is met"


def test_a_day_that_meets_none_ends_at_the_close() -> None:
    assert daily(100.9, 99.1, 100.6) == (FLAT, 0.3)


def test_a_day_that_meets_both_is_flat_wherever_it_closed() -> None:
    assert daily(103.0, 98.0, 102.5) == (FLAT, 1.25)
    assert daily(103.0, 98.0, 98.5) == (FLAT, -0.75)


def test_the_net_return_is_clipped_and_lessened_by_costs_on_either_side() -> None:
    assert daily(120.0, 98.0, 119.0) == (FLAT, 3.0)
    assert daily(120.0, 80.0, 81.0) == (FLAT, -3.0)
    assert daily(101.5, 99.5, 100.2, cost_fraction=0.002) == (UP, 0.4)
    assert daily(101.5, 99.5, 100.2, cost_fraction=0.002, side=-1.0) == (UP, -0.6)


@pytest.mark.parametrize("unsound", [{"open": NAN}, {"open": 0.0}, {"atr": NAN}, {"atr": 0.0}, {"atr": float("inf")}])
def test_what_has_no_sound_entry_or_atr_is_unknown(unsound: dict[str, float]) -> None:
    outcome, target = daily(101.5, 99.5, 100.2, **unsound)
    assert outcome == UNKNOWN
    assert np.isnan(target)
    assert daily(NAN, NAN, NAN)[0] == UNKNOWN


def minutes(*bars: tuple[float, float, float]) -> Labels:
    high, low, close = np.asarray(bars).T[:, np.newaxis, :]
    return label_minutes(array(100.0), Path(high, low, close), array(0.02), np.asarray([390]), Barriers())


def test_the_first_barrier_that_a_minute_meets_decides() -> None:
    found = minutes((100.5, 99.5, 100.0), (101.2, 99.5, 101.0), (101.0, 97.0, 98.0))
    assert (found.outcome[0], found.target_atr[0], found.label_end[0]) == (UP, pytest.approx(0.5), 391)
    found = minutes((100.5, 98.5, 100.0), (101.2, 99.5, 101.0))
    assert (found.outcome[0], found.label_end[0]) == (DOWN, 390)


def test_a_minute_that_meets_both_is_flat_and_the_end() -> None:
    found = minutes((100.5, 99.5, 100.0), (101.2, 98.5, 100.4), (105.0, 100.0, 105.0))
    assert (found.outcome[0], found.target_atr[0], found.label_end[0]) == (FLAT, pytest.approx(0.2), 391)


def test_missing_minutes_are_passed_over_and_the_last_sound_one_is_the_time_out() -> None:
    found = minutes((NAN, NAN, NAN), (100.5, 99.5, 100.2), (NAN, NAN, NAN))
    assert (found.outcome[0], found.target_atr[0], found.label_end[0]) == (FLAT, pytest.approx(0.1), 391)
    assert found.known.tolist() == [True]


def test_a_day_weighs_one() -> None:
    assert day_weights(np.asarray([3, 1, 3, 3, 1, 9])).tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 3, 1 / 3, 1 / 2, 1.0])


def test_shapes_and_limits_are_refused_by_name() -> None:
    one, two = array(1.0), array(1.0, 2.0)
    with pytest.raises(BadInput, match="atr_fraction has shape"):
        label_days(one, Path(one, one, one), two, np.asarray([0]), Barriers())
    with pytest.raises(BadInput, match=r"low has shape \(2, 1\)"):
        label_minutes(one, Path(one[:, None], two[:, None], one[:, None]), one, np.asarray([0]), Barriers())
    with pytest.raises(BadInput, match="at least one bar"):
        label_minutes(one, Path(*np.empty((3, 1, 0))), one, np.asarray([0]), Barriers())
    with pytest.raises(BadInput, match="not one a row"):
        label_days(one, Path(*np.ones((3, 1, 1))), one, np.asarray([0]), Barriers())
    with pytest.raises(BadInput, match="down_atr is 0"):
        Barriers(down_atr=0.0)
    with pytest.raises(BadInput, match="cost_fraction is 1"):
        Barriers(cost_fraction=1.0)
