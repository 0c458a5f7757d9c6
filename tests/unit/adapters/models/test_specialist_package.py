"""What was trained is what serves: the graph says what torch says, alone and in a batch, and the package proves it."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import open_package, write_package
from finagent.adapters.models.specialist_graph import specialist_graph
from finagent.adapters.models.specialist_package import GAP, Provenance, specialist_package, specialist_scores
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.planted_edges import PlantedEdge, plant
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.learning.learning_rows import Singles
from finagent.quant.specialists.specialist import Specialist
from finagent.quant.specialists.training import SpecialistTraining
from finagent.quant.specialists.training_plan import Architecture, TrainingPlan

SPEC = CANDIDATE.select("of the tests", (GAP, "gap_magnitude", "log_relative_volume", "position_in_range"))
PROVENANCE = Provenance("planted", "1", "Generalist", date(2020, 1, 2), "the tests", {"brier": 0.6})


def made(architecture: Architecture, steps: int, strength: float = 0.8, epochs: int = 3) -> tuple[Specialist, Singles]:
    """A specialist of three members, and rows some of whose values are unknown."""
    rows = plant(PlantedEdge(strength=strength, features=4, sessions=150, symbols=6, steps=steps), seed=3).learning_rows()
    inputs = rows.inputs.copy()
    inputs[::3, :, 1] = np.nan
    plan = TrainingPlan(architecture=architecture, members=3, hidden=8, epochs=epochs, learning_rate=0.02, batch_rows=128)
    training = SpecialistTraining(plan, replace(rows, inputs=inputs))
    for epoch in range(epochs):
        training.run_epoch(epoch)
    return training.specialist(), inputs


def scores_of(model: bytes, inputs: Singles) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (told,) = session.run(None, {"features": inputs.reshape(len(inputs), -1)})
    return np.asarray(told)[:, 0]


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_graph_says_what_torch_says(architecture: Architecture, steps: int) -> None:
    specialist, inputs = made(architecture, steps)
    inputs[5, 0] = np.nan  # a step of which nothing is known
    inputs[6, -1, 2] = 1e6
    specialist = replace(specialist, has_skill=True)
    for direction in (None, 0):
        expected = specialist_scores(specialist, inputs, direction)
        model = specialist_graph(specialist, direction)
        found = scores_of(model, inputs)
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-5)
        alone = np.concatenate([scores_of(model, inputs[row : row + 1]) for row in range(9)])
        np.testing.assert_allclose(alone, found[:9], rtol=0.0, atol=1e-6)
    assert np.ptp(expected) > 0.2
    assert specialist_graph(specialist, 0) == model, "the same specialist is the same bytes"


def test_a_package_serves_what_was_trained(tmp_path: Path) -> None:
    specialist, inputs = made(Architecture.MLP, 1)
    package = specialist_package(specialist, SPEC, inputs, PROVENANCE)
    write_package(tmp_path / "made", package)
    predictor = OnnxPredictor(open_package(tmp_path / "made"), CANDIDATE)

    assert specialist.has_skill
    assert predictor.spec.names == SPEC.names
    np.testing.assert_allclose(
        predictor.predict(inputs[:, 0].astype(np.float64)), specialist_scores(specialist, inputs, 0), atol=1e-5
    )
    assert "in the direction of the gap first" in package.manifest.description
    assert package.manifest.metrics == {"brier": 0.6, "temperature": specialist.temperature}


def test_the_score_is_for_the_side_of_the_gap() -> None:
    """The planted edge rises with the first feature, which is the gap: both large gaps go on, so both have high scores."""
    specialist, inputs = made(Architecture.MLP, 1, epochs=12)
    rows = np.zeros((2, 4))
    rows[:, 0] = [2.5, -2.5]
    predictor = OnnxPredictor(specialist_package(specialist, SPEC, inputs, PROVENANCE), CANDIDATE)
    assert (predictor.predict(rows) > 0.7).all()
    rows[:, 0] = np.nan
    assert np.isnan(predictor.predict(rows)).all(), "without a gap there is no side"


def test_one_without_skill_tells_the_base_rates_and_says_so() -> None:
    specialist, inputs = made(Architecture.GRU, 1, strength=0.0)
    assert not specialist.has_skill
    package = specialist_package(specialist, SPEC, inputs, PROVENANCE)
    scores = OnnxPredictor(package, CANDIDATE).predict(inputs[:, 0].astype(np.float64))
    up = specialist.base_rates[2] / (specialist.base_rates[0] + specialist.base_rates[2])
    np.testing.assert_allclose(scores, np.where(inputs[:, 0, 0] < 0.0, 1.0 - up, up), atol=1e-6)
    assert "did not beat the base rates" in package.manifest.description


def test_what_cannot_serve_is_refused() -> None:
    specialist, inputs = made(Architecture.MLP, 1, epochs=1)
    other: DataSpec = CANDIDATE.select("other", (GAP, "gap_magnitude"))
    with pytest.raises(BadInput, match="one row of 2 features; the specialist takes 1 steps of 4"):
        specialist_package(specialist, other, inputs, PROVENANCE)
    with pytest.raises(BadInput, match="0 canary rows"):
        specialist_package(specialist, SPEC, np.full_like(inputs, np.nan), PROVENANCE)
    with pytest.raises(BadInput, match="direction is column 4"):
        specialist_graph(specialist, 4)
