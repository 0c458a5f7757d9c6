"""The promises about planted edges, with few rows; `make proof ONLY=planted-edges` holds them with many."""

from dataclasses import replace

import pytest
from tests.properties.planted_edges import AUC_SHUFFLED, RUNGS, Scale, climb, look_for_leak, shuffled_auc

from finagent.quant.specialists.training_plan import Architecture, TrainingPlan

PLAN = TrainingPlan(members=2, hidden=32, dropout=0.2, epochs=30, patience=4, learning_rate=3e-3)
SMALL = Scale(400, 400, (1,), (), PLAN)


def test_a_linear_edge_is_kept() -> None:
    rung = climb(*RUNGS[0], SMALL, 1, Architecture.MLP)
    assert rung.has_skill
    assert rung.share >= 0.85
    assert rung.coverage >= 0.2
    assert rung.accuracy_covered > 0.55


def test_an_interaction_is_found_as_well_as_by_boosting() -> None:
    rung = climb(*RUNGS[1], SMALL, 1, Architecture.MLP)
    assert rung.share >= rung.boosting_share
    assert rung.log_loss < rung.boosting_log_loss
    assert rung.coverage >= 0.2


def test_nothing_is_not_taken_for_something() -> None:
    rung = climb(*RUNGS[2], SMALL, 1, Architecture.MLP)
    assert rung.coverage <= 0.05
    assert abs(rung.accuracy - rung.base_rate) <= 2 * rung.accuracy_error
    low, high = AUC_SHUFFLED
    assert low <= shuffled_auc(SMALL, 1) <= high


@pytest.mark.parametrize("leak", [True, False])
def test_detector_and_alarms_fire_for_a_leak_alone(leak: bool) -> None:
    found = look_for_leak(replace(SMALL, learned=300, plan=replace(PLAN, members=1)), 1, leak=leak)
    assert bool(found.detector) is leak
    assert bool(found.alarms) is leak, found.alarms
