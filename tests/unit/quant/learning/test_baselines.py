"""Baselines learn what they can, tell distributions, and are judged in one table with a specialist."""

from dataclasses import replace

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.planted_edges import Edge, PlantedEdge, plant
from finagent.quant.evaluation.scores import auc, require_forecasts
from finagent.quant.specialists.baselines import learn_boosting, learn_climatology, learn_logistic

WORLD = plant(PlantedEdge(Edge.LINEAR, 0.8, features=5, sessions=200, symbols=5), seed=5)
ROWS = WORLD.learning_rows()
TRAIN, TEST = ROWS.take(np.arange(700)), ROWS.take(np.arange(700, 1000))


@pytest.mark.parametrize("learn", [learn_logistic, learn_boosting])
def test_a_baseline_finds_a_strong_linear_edge(learn: type) -> None:
    holes = TRAIN.inputs.copy()
    holes[::7, :, 1] = np.nan
    forecaster = learn(replace(TRAIN, inputs=holes))
    told, sides = forecaster.probabilities(TEST.inputs), forecaster.sides(TEST.inputs)

    require_forecasts(told, TEST.outcomes)
    assert auc(told[:, 2] - told[:, 0], TEST.targets_atr > 0.0) > 0.7
    assert (sides != 0).mean() > 0.1
    assert (np.sign(TEST.targets_atr) == sides)[sides != 0].mean() > 0.7


def test_logistic_regression_is_as_good_as_the_edge_allows() -> None:
    told = learn_logistic(TRAIN).probabilities(TEST.inputs)
    oracle = WORLD.probabilities[700:]
    assert np.abs(told - oracle).mean() < 0.06


def test_climatology_takes_no_side() -> None:
    base = learn_climatology(TRAIN)
    assert not base.sides(TEST.inputs).any()
    assert np.ptp(base.probabilities(TEST.inputs), axis=0).max() == 0.0
    assert base.probabilities(TEST.inputs)[0, 2] == pytest.approx((TRAIN.outcomes == 2).mean())


def test_a_class_that_never_happened_has_no_chance_and_one_class_alone_is_refused() -> None:
    moved = np.flatnonzero(TRAIN.outcomes != 1)
    told = learn_logistic(TRAIN.take(moved)).probabilities(TEST.inputs)
    assert not told[:, 1].any()
    np.testing.assert_allclose(told.sum(axis=1), 1.0)
    with pytest.raises(BadInput, match="have the same outcome"):
        learn_boosting(TRAIN.take(np.flatnonzero(TRAIN.outcomes == 2)))
