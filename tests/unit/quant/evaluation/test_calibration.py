"""Reliability by hand, and the temperature that mends it."""

import math

import numpy as np
import pytest

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.calibration import (
    TEMPERATURE_MAX,
    TEMPERATURE_MIN,
    calibration_error,
    fit_skill,
    fit_temperature,
    pooled,
    reliability,
    softmax,
)
from finagent.quant.evaluation.scores import log_losses


def test_reliability_points_and_their_error() -> None:
    found = reliability(np.asarray([0.1, 0.3, 0.9, 0.8, 1.0]), np.asarray([False, True, True, True, False]), bins=2)
    assert found.forecast.tolist() == pytest.approx([0.2, 0.9])
    assert found.happened.tolist() == pytest.approx([0.5, 2 / 3])
    assert found.rows.tolist() == [2, 3]
    assert found.error == pytest.approx((2 * 0.3 + 3 * (0.9 - 2 / 3)) / 5)


def test_a_constant_looks_no_better_calibrated_than_who_tells_rows_apart() -> None:
    """Both are honest; of 250 rows each the plain errors differ by a factor of two."""
    chance = np.random.default_rng(3)

    def errors(forecasts: Floats) -> tuple[float, float]:
        found = [reliability(forecasts, chance.random(len(forecasts)) < forecasts) for _ in range(500)]
        return float(np.mean([each.error for each in found])), float(np.mean([each.excess_error for each in found]))

    constant, varied = errors(np.full(250, 0.4)), errors(chance.beta(4.0, 6.0, 250))
    assert varied[0] > 2.0 * constant[0]
    assert varied[1] == pytest.approx(constant[1], abs=0.002)
    assert max(varied[1], constant[1]) < 0.01


def test_who_is_far_off_is_far_off_beyond_chance_too() -> None:
    found = reliability(np.full(1000, 0.8), np.arange(1000) < 500)
    assert (found.error, found.excess_error) == pytest.approx((0.3, 0.29), abs=1e-3)


def test_bins_without_rows_are_no_points() -> None:
    assert reliability(np.asarray([0.05, 0.95]), np.asarray([False, True])).rows.tolist() == [1, 1]


def test_the_error_of_the_likeliest_class() -> None:
    forecasts = np.asarray([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7], [0.7, 0.1, 0.2]])
    assert calibration_error(forecasts, np.asarray([0, 1, 2, 0])) == pytest.approx(0.3)
    assert calibration_error(forecasts, np.asarray([0, 1, 0, 1])) == pytest.approx(0.2)


def test_a_calibrated_forecaster_has_next_to_no_error() -> None:
    chance = np.random.default_rng(4)
    forecasts = chance.dirichlet([1.0, 1.0, 1.0], 100_000)
    outcomes = (chance.random((len(forecasts), 1)) > forecasts.cumsum(axis=1)).sum(axis=1)
    assert calibration_error(forecasts, outcomes) < 0.01
    sharper = np.square(forecasts) / np.square(forecasts).sum(axis=1, keepdims=True)
    assert calibration_error(sharper, outcomes) > 0.1


def test_temperature_by_hand() -> None:
    """Two classes, always 2 apart, right in three of four: the logistic of 2 / T must be 3/4."""
    logits = np.tile([2.0, 0.0], (4, 1))
    assert fit_temperature(logits, np.asarray([0, 0, 0, 1])) == pytest.approx(2.0 / math.log(3.0))


def test_the_temperature_has_less_loss_than_its_neighbours_and_undoes_a_scale() -> None:
    chance = np.random.default_rng(5)
    honest = chance.normal(size=(20_000, 3))
    outcomes = (chance.random((len(honest), 1)) > softmax(honest).cumsum(axis=1)).sum(axis=1)
    found = fit_temperature(3.0 * honest, outcomes)
    assert found == pytest.approx(3.0, rel=0.05)
    losses = [log_losses(softmax(3.0 * honest, found * factor), outcomes).mean() for factor in (0.99, 1.0, 1.01)]
    assert losses[1] == min(losses)


def test_the_temperature_ends_at_its_limits() -> None:
    logits = np.tile([2.0, 0.0], (4, 1))
    assert fit_temperature(logits, np.zeros(4, dtype=np.int64)) == pytest.approx(TEMPERATURE_MIN)
    assert fit_temperature(logits, np.ones(4, dtype=np.int64)) == pytest.approx(TEMPERATURE_MAX)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_skill_is_the_share_of_the_forecasts_in_what_happens(share: float) -> None:
    chance = np.random.default_rng(6)
    base, told = np.asarray([0.5, 0.2, 0.3]), chance.dirichlet([1.0, 1.0, 1.0], 40_000)
    truth = pooled(told, share, base)
    outcomes = (chance.random((len(truth), 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(max=2)
    even, days = np.ones(len(truth)), np.arange(len(truth)) // 10
    assert fit_skill(told, base, outcomes, even, days) == pytest.approx(share, abs=0.03)


def test_skill_counts_rows_by_their_weight_and_ends_at_nothing_and_all() -> None:
    told, base = np.tile([0.9, 0.1], (40, 1)), np.asarray([0.5, 0.5])
    outcomes, days = np.tile([0, 1], 20), np.arange(40)

    def skill(first: float) -> float:
        return fit_skill(told, base, outcomes, np.tile([first, 1.0], 20), days)

    assert skill(100.0) == 1.0
    assert skill(1.0) == 0.0
    assert 0.0 < skill(3.0) < 1.0


@pytest.mark.statistics
def test_who_knows_nothing_has_no_skill_by_chance() -> None:
    """One in twenty is believed; without a test of it half were. A little skill is enough to rule out the rarer side."""
    chance, base, days = np.random.default_rng(8), np.asarray([0.3, 0.4, 0.3]), np.repeat(np.arange(50), 5)
    believed = 0
    for _ in range(400):
        told = softmax(np.log(base) + 0.3 * chance.normal(size=(250, 3)))
        believed += fit_skill(told, base, chance.choice(3, 250, p=base), np.ones(250), days) > 0.0
    assert believed / 400 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.statistics
def test_rows_of_one_day_are_no_more_proof_than_one() -> None:
    """All of a day end alike, and what is told of them is alike, too."""
    chance, base, days = np.random.default_rng(9), np.asarray([0.3, 0.4, 0.3]), np.repeat(np.arange(50), 20)
    believed = 0
    for _ in range(400):
        told = np.repeat(softmax(np.log(base) + 0.3 * chance.normal(size=(50, 3))), 20, axis=0)
        believed += fit_skill(told, base, np.repeat(chance.choice(3, 50, p=base), 20), np.ones(1000), days) > 0.0
    assert believed / 400 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 400)


def test_large_logits_do_not_overflow() -> None:
    assert softmax(np.asarray([[1e6, 0.0], [-1e6, 0.0]])).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="temperature 0"):
        softmax(np.ones((1, 2)), 0.0)
    with pytest.raises(BadInput, match="all logits finite"):
        fit_temperature(np.asarray([[math.nan, 0.0]]), np.asarray([0]))
    with pytest.raises(BadInput, match="a probability is not from 0 to 1"):
        reliability(np.asarray([1.1]), np.asarray([True]))
    with pytest.raises(BadInput, match="in 0 bins"):
        reliability(np.asarray([0.1]), np.asarray([True]), bins=0)
