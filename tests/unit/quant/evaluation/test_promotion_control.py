"""How often the evidence promotes whom it should not, and how long it takes for whom it should: simulated pairs of models.

Candidates of a day share a factor. Each model sees one part of what moves a candidate, and forecasts the classes with the
probabilities that this part implies; the returns of a model are those of the five candidates of which it is surest.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from finagent.domain.bars import Floats
from finagent.quant.evaluation.comparison import (
    DayDifferences,
    compare_losses,
    day_differences,
    evidence,
    promotion_day,
)
from finagent.quant.evaluation.sharpe import annual_sharpe, compare_sharpe

pytestmark = pytest.mark.statistics

DAYS = 250
FIRST_LOOK = 20  # days, as the gate asks
TRADED = 5
FLAT_FRACTION, FACTOR_VARIANCE, DEVIATION = 0.3, 0.2, 0.02
EDGE_OF_ONE = 0.011  # the share seen that makes an annual Sharpe ratio of 1.0 with the five surest of 200
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of a normal variable at zero: the slope of its distribution there


@dataclass(frozen=True)
class Pair:
    differences: DayDifferences
    champion: Floats  # daily returns
    challenger: Floats


def forecast(edge: float, seen: Floats) -> Floats:
    """DOWN, FLAT and UP [rows, 3]."""
    up = (1.0 - FLAT_FRACTION) * np.clip(0.5 + DENSITY * edge * seen.ravel(), 0.02, 0.98)
    return np.stack([1.0 - FLAT_FRACTION - up, np.full_like(up, FLAT_FRACTION), up], axis=1)


def traded(seen: Floats, moves: Floats) -> Floats:
    """The mean return of each day over the candidates of which a model is surest, on the side that it believes in."""
    surest = np.argpartition(-np.abs(seen), TRADED, axis=1)[:, :TRADED]
    sides = np.sign(np.take_along_axis(seen, surest, 1))
    returns: Floats = DEVIATION * (sides * np.take_along_axis(moves, surest, 1)).mean(axis=1)
    return returns


def simulate(chance: np.random.Generator, champion: float, challenger: float, candidates: int, days: int = DAYS) -> Pair:
    """`champion` and `challenger`: the share of a candidate's deviation that the model sees coming."""
    one, other, rest = chance.standard_normal((3, days, candidates))
    factor = chance.standard_normal((days, 1))
    moves = champion * one + challenger * other
    moves = moves + math.sqrt(FACTOR_VARIANCE) * factor + math.sqrt(1.0 - FACTOR_VARIANCE) * rest
    flat = chance.random((days, candidates)) < FLAT_FRACTION
    outcomes = np.where(flat, 1, np.where(moves > 0.0, 2, 0)).ravel()
    day = np.repeat(np.arange(days), candidates)
    differences = day_differences(forecast(champion, one), forecast(challenger, other), outcomes, day)
    return Pair(differences, traded(one, moves), traded(other, moves))


def promoted_on(pair: Pair) -> float:
    """The day on which the evidence, looked at daily, promotes; infinity for never."""
    day = promotion_day(evidence(pair.differences.mean, pair.differences.bound)[FIRST_LOOK - 1 :])
    return math.inf if day is None else FIRST_LOOK + day


def significant_daily(pair: Pair) -> bool:
    """What the t test would promote if it were looked at daily."""
    mean = pair.differences.mean
    count = np.arange(1, len(mean) + 1)
    sums, squares = mean.cumsum(), np.square(mean).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums / np.sqrt((squares - sums**2 / count) / (count - 1) * count)
    return bool((value[FIRST_LOOK - 1 :] > 1.7).any())


def upper_bound(hits: int, draws: int) -> float:
    """Of a rate, with 95 % confidence (Clopper & Pearson, Biometrika 26, 1934)."""
    low, high = hits / draws, 1.0
    for _ in range(50):
        rate = (low + high) / 2.0
        fewer = sum(math.comb(draws, k) * rate**k * (1.0 - rate) ** (draws - k) for k in range(hits + 1))
        low, high = (rate, high) if fewer > 0.05 else (low, rate)
    return low


def test_the_bound_of_a_rate_by_the_rule_of_three() -> None:
    assert upper_bound(0, 400) == pytest.approx(1.0 - 0.05 ** (1 / 400), rel=1e-6)
    assert upper_bound(12, 400) < 0.05 < upper_bound(14, 400)


@pytest.fixture(scope="module")
def equal_pairs() -> list[Pair]:
    chance = np.random.default_rng(400)
    return [simulate(chance, 0.05, 0.05, candidates=15) for _ in range(400)]


def test_of_equal_pairs_looked_at_daily_hardly_any_is_promoted(equal_pairs: list[Pair]) -> None:
    """By the evidence alone; the other lines of the gate can only make it fewer."""
    promoted = sum(promoted_on(pair) < math.inf for pair in equal_pairs)
    assert upper_bound(promoted, len(equal_pairs)) <= 0.05


def test_a_higher_sharpe_ratio_promotes_every_second_equal_pair(equal_pairs: list[Pair]) -> None:
    ratios = np.asarray([(annual_sharpe(pair.challenger), annual_sharpe(pair.champion)) for pair in equal_pairs])
    assert 0.43 < np.mean(ratios[:, 0] > ratios[:, 1]) < 0.57
    assert np.mean(ratios[:, 0] > 1.1 * ratios[:, 1]) > 0.3


def test_a_test_for_one_look_is_right_at_the_end_and_wrong_when_looked_at_daily(equal_pairs: list[Pair]) -> None:
    at_the_end = np.mean([compare_losses(pair.differences.mean).p_value < 0.05 for pair in equal_pairs])
    assert 0.02 < at_the_end < 0.085
    assert np.mean([significant_daily(pair) for pair in equal_pairs]) > 0.2


def test_gains_that_are_frequent_and_losses_that_are_large_promote_nobody() -> None:
    """A challenger that is too sure gains a little on most days and loses much on a few, nothing on balance."""
    chance = np.random.default_rng(401)
    promoted = 0
    for _ in range(400):
        loses = chance.random(DAYS) < 0.02
        mean = np.where(loses, -1.0, 0.02 / 0.98)
        promoted += promotion_day(evidence(mean, np.ones(DAYS))) is not None
    assert upper_bound(promoted, 400) <= 0.05


def test_a_worse_challenger_is_never_promoted_and_a_far_better_one_soon() -> None:
    chance = np.random.default_rng(402)
    worse = [promoted_on(simulate(chance, 0.10, 0.02, candidates=15)) for _ in range(100)]
    better = [promoted_on(simulate(chance, 0.02, 0.15, candidates=15)) for _ in range(100)]
    assert min(worse) == math.inf
    assert np.median(better) < DAYS


def test_a_sharpe_ratio_that_is_higher_by_one_takes_years_to_be_found() -> None:
    """From 1.0 to 2.0, with 200 candidates forecast a day. Of 100 such pairs 1 % were promoted within 250 days, 30 % within 1,000
    and half within 1,360; the Sharpe ratios themselves differed significantly in 18 % of years."""
    chance = np.random.default_rng(403)
    pairs = [simulate(chance, EDGE_OF_ONE, 2.0 * EDGE_OF_ONE, candidates=200, days=1000) for _ in range(20)]
    gained = np.asarray([compare_sharpe(pair.challenger, pair.champion).difference for pair in pairs])
    assert gained.mean() == pytest.approx(1.0, abs=3 * float(gained.std()) / math.sqrt(len(pairs)))
    days = np.asarray([promoted_on(pair) for pair in pairs])
    assert np.mean(days <= DAYS) <= 0.1
    assert 0.1 <= np.mean(days <= 1000) <= 0.6
