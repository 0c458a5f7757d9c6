"""Sharpe ratios and their tests, by hand and by published figures."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.sharpe import annual_sharpe, compare_sharpe, probabilistic_sharpe, sharpe_probability

YEAR = math.sqrt(252)
CHANCE = np.random.default_rng(7)
ONE, OTHER = CHANCE.multivariate_normal([0.001, 0.0002], [[1e-4, 6e-5], [6e-5, 2e-4]], 400).T


def test_the_ratio_by_hand() -> None:
    assert annual_sharpe(np.asarray([0.01, 0.03])) == pytest.approx(math.sqrt(2.0) * YEAR)
    assert annual_sharpe(np.full(9, 0.1)) == 0.0


def test_the_difference_as_jobson_and_korkie_wrote_it() -> None:
    """In means and covariances, with the two terms that Memmel corrected, instead of ratios and the correlation."""
    (mean_1, mean_2), ((var_1, both), (_, var_2)) = (ONE.mean(), OTHER.mean()), np.cov(ONE, OTHER)
    sd_1, sd_2 = math.sqrt(var_1), math.sqrt(var_2)
    theta = 2 * var_1 * var_2 - 2 * sd_1 * sd_2 * both + mean_1**2 * var_2 / 2 + mean_2**2 * var_1 / 2
    theta = (theta - mean_1 * mean_2 / (sd_1 * sd_2) * both**2) / len(ONE)
    z = (sd_2 * mean_1 - sd_1 * mean_2) / math.sqrt(theta)
    found = compare_sharpe(ONE, OTHER)
    assert found.difference == pytest.approx(annual_sharpe(ONE) - annual_sharpe(OTHER))
    assert found.difference / found.standard_error == pytest.approx(z)
    assert found.p_value == pytest.approx(1.0 - NormalDist().cdf(z))
    assert found.lower(0.8) == pytest.approx(found.difference - 0.8416212 * found.standard_error)


def test_the_other_way_round_is_the_other_answer() -> None:
    there, back = compare_sharpe(ONE, OTHER), compare_sharpe(OTHER, ONE)
    assert back.difference == -there.difference
    assert back.p_value == pytest.approx(1.0 - there.p_value)


def test_where_nothing_moves_or_both_do_the_same_nothing_is_known() -> None:
    for first, second in ((ONE, ONE), (ONE, 3.0 * ONE), (ONE, np.zeros_like(ONE)), (np.zeros(9), np.zeros(9))):
        found = compare_sharpe(first, second)
        assert math.isnan(found.p_value)
        assert math.isnan(found.lower(0.8))
    assert math.isnan(probabilistic_sharpe(np.full(9, 0.1)))


def test_the_probability_by_published_figures() -> None:
    """Bailey & Lopez de Prado 2014: an annual 2.5 over 1,250 days, skew -3 and kurtosis 10, against a daily 0.1132: 0.9004."""
    assert sharpe_probability(2.5 / math.sqrt(250), 0.1132, 1250, -3.0, 10.0) == pytest.approx(0.9004, abs=2e-4)


def test_the_probability_is_one_half_at_the_ratio_itself() -> None:
    assert probabilistic_sharpe(ONE, annual_sharpe(ONE)) == pytest.approx(0.5)
    assert probabilistic_sharpe(ONE, annual_sharpe(ONE) - 2.0) > 0.98


def test_a_fat_left_tail_lowers_the_probability() -> None:
    crashes = np.where(np.arange(400) % 40 == 0, -0.05, 0.0)
    left, right = ONE - crashes.mean() + crashes, ONE + crashes.mean() - crashes
    assert left.mean() == pytest.approx(right.mean())
    assert probabilistic_sharpe(left * (right.std() / left.std())) < probabilistic_sharpe(right)


def test_a_variance_that_cannot_be_is_not_known() -> None:
    assert math.isnan(sharpe_probability(0.5, 0.0, 100, 4.0, 1.0))


@pytest.mark.parametrize("returns", [np.asarray([0.1]), np.asarray([0.1, math.nan]), np.ones((2, 2))])
def test_what_is_no_series_is_refused(returns: np.ndarray) -> None:
    with pytest.raises(BadInput, match="two sessions or more"):
        annual_sharpe(returns)


def test_series_of_different_sessions_are_refused() -> None:
    with pytest.raises(BadInput, match="the same sessions are needed"):
        compare_sharpe(ONE, OTHER[1:])


@pytest.mark.statistics
def test_equal_strategies_differ_significantly_as_often_as_they_may() -> None:
    """2,000 pairs of 250 days with an equal ratio and a correlation of 0.5: five in a hundred."""
    chance = np.random.default_rng(8)
    common, own = chance.normal(size=(2000, 1, 250)), chance.normal(size=(2000, 2, 250))
    pairs = 0.05 + (common + own) / math.sqrt(2.0)
    rejected = np.mean([compare_sharpe(one, other).p_value < 0.05 for one, other in pairs])
    assert rejected == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 2000) + 0.003)
