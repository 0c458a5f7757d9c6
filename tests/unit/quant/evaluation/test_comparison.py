"""Loss differences by day, the test at the end and the evidence at any time, by hand."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.comparison import compare_losses, day_differences, evidence, promotion_day, student_tail

CHAMPION = np.asarray([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2]])
CHALLENGER = np.asarray([[0.25, 0.75], [0.25, 0.75], [0.4, 0.6]])


def test_differences_by_day() -> None:
    found = day_differences(CHAMPION, CHALLENGER, np.asarray([1, 0, 1]), np.asarray([4, 4, 9]))
    assert found.days.tolist() == [4, 9]
    assert found.mean.tolist() == pytest.approx([(math.log(1.5) + math.log(0.5)) / 2, math.log(3)])
    assert found.bound.tolist() == pytest.approx([math.log(2), math.log(3)])
    assert found.predictions == 3


def test_the_bound_knows_nothing_of_what_happened() -> None:
    bounds = [
        day_differences(CHAMPION, CHALLENGER, np.asarray(outcomes), np.asarray([4, 4, 9])).bound.tolist()
        for outcomes in ([0, 0, 0], [1, 1, 1], [1, 0, 0])
    ]
    assert bounds[0] == bounds[1] == bounds[2]


def test_losses_by_hand() -> None:
    """1, 2, 3, 4 with one lag: 5 + 2/2 * 1.25 = 6.25 over 4 and 3; t = 2 sqrt 3 with 3 degrees of freedom."""
    found = compare_losses(np.asarray([1.0, 2.0, 3.0, 4.0]), lags=1)
    assert found.difference == 2.5
    assert found.standard_error == pytest.approx(math.sqrt(6.25 / 12))
    assert found.p_value == pytest.approx(0.5 - (2 / 5 + math.atan(2)) / math.pi)
    assert found.days == 4


def test_without_lags_it_is_the_t_test() -> None:
    days = np.random.default_rng(13).normal(0.1, 1.0, 50)
    found = compare_losses(days, lags=0)
    assert found.standard_error == pytest.approx(days.std(ddof=1) / math.sqrt(50))


def test_days_that_resemble_each_other_are_less_sure() -> None:
    days = np.repeat(np.random.default_rng(14).normal(0.1, 1.0, 60), 3)
    assert compare_losses(days).standard_error > 1.3 * compare_losses(days, lags=0).standard_error


def test_no_variance_is_no_doubt() -> None:
    assert compare_losses(np.full(5, 0.25), lags=0).p_value == 0.0
    assert compare_losses(np.zeros(5), lags=0).p_value == 1.0


def test_student_by_closed_forms_and_tables() -> None:
    for value in (-50.0, -2.0, 0.0, 0.3, 7.0):
        assert student_tail(value, 1) == pytest.approx(0.5 - math.atan(value) / math.pi, abs=1e-12)
        assert student_tail(value, 2) == pytest.approx(0.5 - value / (2 * math.sqrt(2 + value**2)), abs=1e-12)
    assert student_tail(1.812461, 10) == pytest.approx(0.05, abs=1e-7)
    assert student_tail(2.3646243, 7) == pytest.approx(0.025, abs=1e-7)
    assert student_tail(1.5, 10**6) == pytest.approx(1.0 - NormalDist().cdf(1.5), abs=1e-6)
    assert student_tail(80.0, 5000) == pytest.approx(0.0, abs=1e-12)
    assert student_tail(-80.0, 5000) == pytest.approx(1.0, abs=1e-12)


def test_evidence_by_hand() -> None:
    """Stakes of 0.25, 0.5 and 0.95. The second day's bound is above the mean bound so far, the third's is below."""
    mean, bound = np.asarray([0.1, -0.4, 0.1]), np.asarray([0.2, 0.4, 0.1])
    gains = (0.1 / 0.2, -0.4 / 0.4, 0.1 / (0.7 / 3))
    by_stake = [[math.prod(1 + stake * gain for gain in gains[: day + 1]) for day in range(3)] for stake in (0.25, 0.5, 0.95)]
    assert evidence(mean, bound).tolist() == pytest.approx(np.mean(by_stake, axis=0).tolist())


def test_equal_forecasts_are_no_evidence() -> None:
    assert evidence(np.zeros(5), np.zeros(5)).tolist() == [1.0] * 5


def test_evidence_never_overflows() -> None:
    found = evidence(np.ones(5000), np.ones(5000))
    assert math.isfinite(found[-1])
    assert found[-1] > 1e300


def test_the_day_of_promotion() -> None:
    assert promotion_day(np.asarray([1.0, 20.0, 20.1, 3.0])) == 2
    assert promotion_day(np.asarray([1.0, 20.0])) is None


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="the same rows are needed"):
        day_differences(CHAMPION, CHALLENGER[:2], np.asarray([1, 0, 1]), np.asarray([4, 4, 9]))
    with pytest.raises(BadInput, match="of 3 days or more"):
        compare_losses(np.zeros(2))
    with pytest.raises(BadInput, match="must be finite"):
        compare_losses(np.asarray([1.0, math.nan, 2.0]))
    with pytest.raises(BadInput, match="5 lags over 5 days"):
        compare_losses(np.zeros(5), lags=5)
    with pytest.raises(BadInput, match="the difference of day 1 is beyond its bound"):
        evidence(np.asarray([0.1, -0.3]), np.asarray([0.2, 0.2]))
    with pytest.raises(BadInput, match="must be finite, one of each a day"):
        evidence(np.asarray([0.1, math.nan]), np.asarray([0.2, 0.2]))
