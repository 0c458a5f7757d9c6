"""The evidence promotes hardly any equal pair, a far better challenger soon, and a slightly better one after years."""

import math

import numpy as np
import pytest
from tests.properties.promotion_control import (
    DAYS,
    FALSE_PROMOTIONS_MAX,
    Pair,
    better_pairs,
    equal_pairs,
    of_better,
    of_equal,
    promoted_on,
    simulate,
    upper_bound,
)

from finagent.quant.evaluation.comparison import evidence, promotion_day
from finagent.quant.evaluation.sharpe import compare_sharpe

pytestmark = pytest.mark.statistics


def test_the_bound_of_a_rate_by_the_rule_of_three() -> None:
    assert upper_bound(0, 400) == pytest.approx(1.0 - 0.05 ** (1 / 400), rel=1e-6)
    assert upper_bound(12, 400) < 0.05 < upper_bound(14, 400)


@pytest.fixture(scope="module")
def equal() -> dict[str, float]:
    return of_equal(equal_pairs(400))


def test_of_equal_pairs_looked_at_daily_hardly_any_is_promoted(equal: dict[str, float]) -> None:
    """By the evidence alone; the other lines of the gate can only make it fewer."""
    assert equal["promoted_upper_95"] <= FALSE_PROMOTIONS_MAX


def test_a_higher_sharpe_ratio_promotes_every_second_equal_pair(equal: dict[str, float]) -> None:
    assert 0.43 < equal["would_promote_higher_sharpe"] < 0.57
    assert equal["would_promote_sharpe_above_1.1"] > 0.3


def test_a_test_for_one_look_is_right_at_the_end_and_wrong_when_looked_at_daily(equal: dict[str, float]) -> None:
    assert 0.02 < equal["would_promote_t_test_at_the_end"] < 0.085
    assert equal["would_promote_t_test_daily"] > 0.2


def test_gains_that_are_frequent_and_losses_that_are_large_promote_nobody() -> None:
    """A challenger that is too sure gains a little on most days and loses much on a few, nothing on balance."""
    chance = np.random.default_rng(401)
    promoted = 0
    for _ in range(400):
        loses = chance.random(DAYS) < 0.02
        mean = np.where(loses, -1.0, 0.02 / 0.98)
        promoted += promotion_day(evidence(mean, np.ones(DAYS))) is not None
    assert upper_bound(promoted, 400) <= FALSE_PROMOTIONS_MAX


def test_a_worse_challenger_is_never_promoted_and_a_far_better_one_soon() -> None:
    chance = np.random.default_rng(402)
    worse = [promoted_on(simulate(chance, 0.10, 0.02, candidates=15)) for _ in range(100)]
    better = [promoted_on(simulate(chance, 0.02, 0.15, candidates=15)) for _ in range(100)]
    assert min(worse) == math.inf
    assert np.median(better) < DAYS


def test_a_sharpe_ratio_that_is_higher_by_one_takes_years_to_be_found() -> None:
    """How many pairs take how long: `make proof ONLY=promotion`."""
    pairs: list[Pair] = better_pairs(20, 4 * DAYS)
    gained = np.asarray([compare_sharpe(pair.challenger, pair.champion).difference for pair in pairs])
    assert gained.mean() == pytest.approx(1.0, abs=3 * float(gained.std()) / math.sqrt(len(pairs)))
    told = of_better(pairs)
    assert told["promoted_within_250"] <= 0.1
    assert 0.1 <= told["promoted_within_1000"] <= 0.6
    assert told["days_until_half_are_promoted"] > DAYS
