"""What was trained in torch is what serves without it, and what an interrupted training leaves is nobody else's."""

import struct
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from finagent.adapters.models.checkpoint import Checkpoint
from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import open_package, write_package
from finagent.adapters.models.specialist_export import SpecialistFacts, export_specialist
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.networks import NETWORKS, specialist
from finagent.quant.specialists.training import Scaling, TrainedSpecialist

SPEC = CANDIDATE.select("of the tests", ("gap", "gap_magnitude", "natr_14", "volatility_20"))
FACTS = SpecialistFacts("tested", "1", "of the tests", date(2008, 9, 30), {"brier": 0.25}, "ann")


def model(network: str) -> TrainedSpecialist:
    """Weights that nobody has trained say as much about an export."""
    features = len(SPEC.names)
    scaling = Scaling(np.linspace(-1, 1, features).astype(np.float32), np.linspace(0.5, 2, features).astype(np.float32))
    networks = tuple(specialist(network, features, 1, 16, 0.3, seed).eval() for seed in (1, 2))
    return TrainedSpecialist(networks, scaling, 1.3, ConformalSets(0.2, 0.2))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_package_scores_as_torch_does(tmp_path: Path, network: str) -> None:
    trained = model(network)
    write_package(tmp_path / "package", export_specialist(trained, SPEC, FACTS))
    predictor = OnnxPredictor(open_package(tmp_path / "package"), CANDIDATE)
    rows = np.random.default_rng(1).normal(size=(500, len(SPEC.names))) * 3.0
    told = trained.probabilities(rows.astype(np.float32)[:, np.newaxis, :])
    up = rows[:, 0] > 0.0

    expected = np.where(up, told[:, Outcome.UP], told[:, Outcome.DOWN])
    assert np.abs(predictor.predict(rows) - expected).max() < 1e-5
    assert np.unique(up).size == 2
    unknown = rows.copy()
    unknown[:, 3] = np.nan
    at_mean = rows.copy()
    at_mean[:, 3] = trained.scaling.mean[3]
    assert np.array_equal(predictor.predict(unknown), predictor.predict(at_mean))


def test_a_model_that_does_not_know_the_gap_has_no_score() -> None:
    with pytest.raises(BadInput, match="must have gap"):
        export_specialist(model("flat"), SPEC.select("other", SPEC.names[1:]), FACTS)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "new" / "state.safetensors", {"recipe": "flat"})
    assert checkpoint.read() is None
    state = {"weights": torch.randn(3, 4).numpy(), "epochs_run": np.asarray(7), "best_loss": np.asarray(1.25)}
    checkpoint.write(state)
    checkpoint.write(state | {"epochs_run": np.asarray(8)})
    found = checkpoint.read()

    assert found is not None
    assert found["epochs_run"] == 8
    assert np.array_equal(found["weights"], state["weights"])
    checkpoint.remove()
    assert checkpoint.read() is None


def test_a_checkpoint_of_something_else_or_damaged_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    Checkpoint(path, {"recipe": "flat", "rows": "a"}).write({"weights": np.zeros(2)})
    with pytest.raises(BadInput, match="of another training \\(recipe, rows differ\\)"):
        Checkpoint(path, {"recipe": "recurrent", "rows": "b"}).read()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(BadInput, match="is damaged"):
        Checkpoint(path, {"recipe": "flat", "rows": "a"}).read()
    path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    with pytest.raises(BadInput, match="is damaged"):
        Checkpoint(path, {"recipe": "flat", "rows": "a"}).read()
    path.write_bytes(b"\x80\x04cposix\nsystem\n.")  # a pickle in its place is no more than bytes
    with pytest.raises(BadInput, match="is damaged"):
        Checkpoint(path, {"recipe": "flat", "rows": "a"}).read()


def test_the_score_is_a_probability_for_any_row(tmp_path: Path) -> None:
    write_package(tmp_path / "package", export_specialist(replace(model("flat"), temperature=0.05), SPEC, FACTS))
    predictor = OnnxPredictor(open_package(tmp_path / "package"), CANDIDATE)
    scores = predictor.predict(np.random.default_rng(1).normal(size=(200, 4)) * 1e6)

    assert ((scores >= 0.0) & (scores <= 1.0)).all()
