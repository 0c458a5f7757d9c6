"""What is planted is there, and nothing else; the detector and the alarms find a planted leak."""

from datetime import date, timedelta

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.planted_edges import LEAK, Edge, PlantedEdge, plant
from finagent.quant.evaluation.scores import accuracy, brier_scores, climatology, log_losses
from finagent.quant.features.backtest_alarms import figures, probe
from finagent.quant.features.lookahead import decision_rows, find_leaks


@pytest.mark.parametrize(("edge", "strength"), [(Edge.LINEAR, 0.3), (Edge.INTERACTION, 0.6)])
def test_the_oracle_is_calibrated_and_beats_every_distortion_of_itself(edge: Edge, strength: float) -> None:
    world = plant(PlantedEdge(edge, strength, sessions=1500), seed=3)
    outcomes, oracle = world.learning_rows().outcomes, world.probabilities
    assert np.var(world.returns_atr) == pytest.approx(1.0 + strength**2, abs=0.07), "noise of 1, and the strength that was asked"
    for outcome in (Outcome.DOWN, Outcome.FLAT, Outcome.UP):
        error = np.sqrt((oracle[:, outcome] * (1 - oracle[:, outcome])).mean() / len(outcomes))
        assert abs((outcomes == outcome).mean() - oracle[:, outcome].mean()) < 4 * error
    base = np.tile(climatology(outcomes, 3), (len(outcomes), 1))
    for other in (base, 0.5 * oracle + 0.5 * base, oracle[:, ::-1]):
        assert log_losses(oracle, outcomes).mean() < log_losses(other, outcomes).mean()
        assert brier_scores(oracle, outcomes).mean() < brier_scores(other, outcomes).mean()


def test_nothing_planted_is_nothing_to_know() -> None:
    world = plant(PlantedEdge(strength=0.0, sessions=1500), seed=4)
    assert np.ptp(world.probabilities, axis=0).max() == 0.0
    rows = world.learning_rows()
    right = accuracy(world.probabilities, rows.outcomes)
    assert right.fraction == pytest.approx(world.probabilities.max(), abs=3 * right.standard_error)
    signs = np.sign(rows.inputs[:, 0]).T @ np.sign(rows.targets_atr) / len(rows)
    assert np.abs(signs).max() < 4 / np.sqrt(len(rows))


def test_of_an_interaction_neither_feature_says_anything_alone() -> None:
    world = plant(PlantedEdge(Edge.INTERACTION, 0.6, sessions=1500), seed=3)
    first, second = world.columns["signal_0"].reshape(-1), world.columns["signal_1"].reshape(-1)
    returns = world.returns_atr.reshape(-1)
    assert abs(np.corrcoef(first, returns)[0, 1]) < 4 / np.sqrt(len(returns))
    assert abs(np.corrcoef(second, returns)[0, 1]) < 4 / np.sqrt(len(returns))
    assert np.corrcoef(first * second, returns)[0, 1] > 0.4


def test_the_same_seed_makes_the_same_world_and_another_one_another() -> None:
    planted = PlantedEdge(strength=0.3, sessions=20)
    assert np.array_equal(plant(planted, 1).returns_atr, plant(planted, 1).returns_atr)
    assert not np.array_equal(plant(planted, 1).returns_atr, plant(planted, 2).returns_atr)


def test_steps_are_the_sessions_before_and_unknown_before_the_first() -> None:
    world = plant(PlantedEdge(strength=0.3, sessions=5, symbols=2, steps=3), seed=1)
    inputs = world.learning_rows().inputs.reshape(5, 2, 3, -1)
    assert np.isnan(inputs[0, :, :2]).all()
    assert np.isnan(inputs[1, :, :1]).all()
    signal = world.columns["signal_0"].astype(np.float32)
    for step in range(3):
        assert np.array_equal(inputs[4, :, step, 0], signal[2 + step])


@pytest.mark.parametrize("leak", [False, True])
def test_with_a_planted_leak_the_detector_and_the_alarm_both_fire(leak: bool) -> None:
    world = plant(PlantedEdge(strength=0.0, sessions=500, leak=leak), seed=5)
    rows = decision_rows(world.columns, first=10, count=6)
    leaks = find_leaks(world.features, world.columns, world.feature_names, rows, world.known)
    days = [date(2020, 1, 1) + timedelta(days=place) for place in range(500)]
    alarms = figures(probe(world.features(world.columns), world.returns_atr, days)).alarms()

    assert [found.feature for found in leaks] == ([LEAK] if leak else [])
    assert bool(alarms) is leak, alarms


def test_a_world_that_cannot_be_is_refused() -> None:
    for wrong in ({"strength": -0.1}, {"strength": float("nan")}, {"features": 3}, {"sessions": 0}, {"steps": 0}):
        with pytest.raises(BadInput, match="planted edge"):
            PlantedEdge(**wrong)
