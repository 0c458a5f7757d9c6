"""The logistic baseline: the optimum that theory names, bit for bit wherever it was stopped, the same in ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
from tests.crash.training_kills import past
from tests.unit.adapters.models.packages import facts_of

from finagent.adapters.models.learning_files import open_rows, write_rows
from finagent.adapters.models.logistic_training import export_logistic, logistic_training
from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import sealed
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES, Outcome, day_weights
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.learning.learning_rows import LearningRows
from finagent.quant.specialists.logistic import LogisticPlan, LogisticTraining
from finagent.services.models.past_candidates import AT_OPEN

RECIPE = {"l2": 0.05, "epochs": 4, "learn_before": 40, "test_from": 45, "test_to": 60}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows", past(), AT_OPEN, "made up")
    return tmp_path / "rows"


def test_it_ends_where_the_slope_of_the_loss_is_zero() -> None:
    rows = past().rows
    training = LogisticTraining(LogisticPlan(l2=0.05, epochs=200, steps=50, tolerance=0.0), rows, None)
    losses = [training.run_epoch(epoch)["train_loss"] for epoch in range(40)]
    model = training.model
    found = model.probabilities(rows.inputs[:, -1, :].astype(np.float64))
    share = day_weights(rows.starts) / day_weights(rows.starts).sum()
    error = (found - np.eye(CLASSES)[rows.outcomes]) * share[:, np.newaxis]
    filled = np.where(np.isnan(rows.inputs[:, -1, :]), model.mean, rows.inputs[:, -1, :])
    slope = ((filled - model.mean) / model.deviation).T @ error + 0.05 * model.weights

    assert np.abs(slope).max() < 1e-7
    assert np.abs(error.sum(axis=0)).max() < 1e-7, "base rates are met"
    assert losses[-1] <= losses[0]


def test_stopped_after_any_epoch_it_goes_on_bit_for_bit(data: Path) -> None:
    whole = logistic_training(RECIPE, data)
    figures = [whole.run_epoch(epoch) for epoch in range(4)]
    for stop in range(1, 4):
        first, second = logistic_training(RECIPE, data), logistic_training(RECIPE, data)
        for epoch in range(stop):
            first.run_epoch(epoch)
        second.restore(first.state())
        assert [second.run_epoch(epoch) for epoch in range(stop, 4)] == figures[stop:]
        assert {name: array.tobytes() for name, array in second.state().items()} == {
            name: array.tobytes() for name, array in whole.state().items()
        }
    with pytest.raises(BadInput, match="another training"):
        whole.restore({"weights": np.zeros((2, 2))})
    with pytest.raises(BadInput, match="finished"):
        whole.run_epoch(4)


def test_no_row_of_a_test_is_learned_from(data: Path) -> None:
    rows = open_rows(data).rows
    told = logistic_training(RECIPE, data)
    changed = np.where(rows.starts >= 45, Outcome.FLAT, rows.outcomes).astype(np.int8)
    others = LearningRows(rows.inputs, changed, rows.targets_atr, rows.starts, rows.ends, rows.regimes)
    before = others.take(np.flatnonzero(rows.ends < 40))
    again = LogisticTraining(LogisticPlan(l2=0.05, epochs=4), before, others.take(np.flatnonzero(rows.starts >= 45)))
    one, two = told.run_epoch(0), again.run_epoch(0)
    assert one["train_loss"] == two["train_loss"]
    assert one["test_loss"] != two["test_loss"]


def test_onnx_runtime_says_what_it_says_with_unknown_values_too(data: Path) -> None:
    training = logistic_training(RECIPE, data)
    for epoch in range(4):
        training.run_epoch(epoch)
    graph, canary, imputation = export_logistic(RECIPE, data, training.state())
    facts = facts_of(AT_OPEN, canary, imputation=imputation)
    rows = open_rows(data).rows.inputs[:, -1, :].astype(np.float64)
    scores = OnnxPredictor(sealed(facts, graph), CANDIDATE).predict(rows)
    gap = rows[:, AT_OPEN.columns["gap"]]

    assert np.isnan(rows).any()
    np.testing.assert_allclose(scores, training.model.scores(rows, gap), atol=1e-5)
    assert np.ptp(scores) > 0.1


def test_a_damaged_column_is_named(data: Path) -> None:
    raw = bytearray((data / "outcomes.npy").read_bytes())
    raw[-1] ^= 1
    (data / "outcomes.npy").write_bytes(raw)
    with pytest.raises(BadInput, match="outcomes damaged"):
        open_rows(data)
