"""Reliability by hand, and the temperature that mends it."""

import math

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.calibration import (
    TEMPERATURE_MAX,
    TEMPERATURE_MIN,
    calibration_error,
    fit_temperature,
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
