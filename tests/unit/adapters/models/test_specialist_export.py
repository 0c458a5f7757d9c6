"""What was trained in torch is what serves without it, and what an interrupted training leaves is nobody else's."""

import struct
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from finagent.adapters.models.checkpoint_files import CHECKPOINT, Checkpoint, read_checkpoint, write_checkpoint
from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import ModelFacts, ModelPackage, open_package, sealed, write_package
from finagent.adapters.models.specialist_export import exported
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.networks import NETWORKS, specialist
from finagent.quant.specialists.training import TrainedSpecialist
from finagent.quant.specialists.training_rows import Scaling

SPEC = CANDIDATE.select("of the tests", ("gap", "gap_magnitude", "natr_14", "volatility_20"))


def model(network: str) -> TrainedSpecialist:
    """Weights that nobody has trained say as much about an export."""
    features = len(SPEC.names)
    scaling = Scaling(np.linspace(-1, 1, features).astype(np.float32), np.linspace(0.5, 2, features).astype(np.float32))
    networks = tuple(specialist(network, features, 1, 16, 0.3, seed).eval() for seed in (1, 2))
    return TrainedSpecialist(networks, scaling, 1.3, ConformalSets(0.33), 0.7, np.asarray([0.3, 0.2, 0.5]))


def packed(trained: TrainedSpecialist) -> ModelPackage:
    graph, canary, imputation = exported(trained, SPEC.names)
    facts = ModelFacts(
        name="tested",
        version="1",
        description="of the tests",
        data_spec_hash=SPEC.hash,
        features=SPEC.names,
        imputation=imputation,
        trained_until=date(2008, 9, 30),
        metrics={"brier": 0.25},
        created_by="ann",
        canary=canary,
    )
    return sealed(facts, graph)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_package_scores_as_torch_does(tmp_path: Path, network: str) -> None:
    trained = model(network)
    write_package(tmp_path / "package", packed(trained))
    predictor = OnnxPredictor(open_package(tmp_path / "package"), CANDIDATE)
    rows = np.random.default_rng(1).normal(size=(500, len(SPEC.names))) * 3.0
    told = trained.probabilities(rows.astype(np.float32)[:, np.newaxis, :])
    up = rows[:, 0] > 0.0

    expected = np.where(up, told[:, Outcome.UP], told[:, Outcome.DOWN])
    assert np.abs(predictor.predict(rows).scores - expected).max() < 1e-5
    assert np.unique(up).size == 2
    assert trained.conformal is not None
    sets = trained.conformal.sets(told)
    own, other = (np.where(up, sets[:, one], sets[:, two]) for one, two in ((2, 0), (0, 2)))
    abstains = predictor.predict(rows).abstains
    assert (abstains == ~(own & ~other)).mean() > 0.99, "but for what single precision rounds"
    assert 0.1 < abstains.mean() < 0.9
    sure = OnnxPredictor(packed(replace(trained, conformal=None)), CANDIDATE).predict(rows)
    assert not sure.abstains.any()
    assert np.array_equal(sure.scores, predictor.predict(rows).scores)
    unknown = rows.copy()
    unknown[:, 3] = np.nan
    at_mean = rows.copy()
    at_mean[:, 3] = trained.scaling.mean[3]
    assert np.array_equal(predictor.predict(unknown).scores, predictor.predict(at_mean).scores)


def test_a_model_that_does_not_know_the_gap_has_no_score() -> None:
    with pytest.raises(BadInput, match="there must be gap"):
        exported(model("flat"), SPEC.names[1:])


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "new", "one") is None
    state = {"weights": torch.randn(3, 4).numpy(), "epochs_run": np.asarray(7), "best_loss": np.asarray(1.25)}
    for epoch in (7, 8):
        figures = ({"loss": 0.5},) * epoch
        write_checkpoint(tmp_path / "new", Checkpoint("one", False, figures, state | {"epochs_run": np.asarray(epoch)}))
    found = read_checkpoint(tmp_path / "new", "one")

    assert found is not None
    assert (int(found.state["epochs_run"]), len(found.figures), found.finished) == (8, 8, False)
    assert np.array_equal(found.state["weights"], state["weights"])
    assert read_checkpoint(tmp_path / "new", "of another recipe") is None


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Checkpoint("one", False, (), {"weights": np.zeros(2)}))
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    bit = bytearray(whole)
    bit[-1] ^= 1
    # cut off, a length beyond the file, one bit of the state, and a pickle, which in its place is no more than bytes
    for damaged in (whole[:-3], struct.pack("<Q", 1 << 60) + whole[8:], bytes(bit), b"\x80\x04cposix\nsystem\n."):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="is damaged"):
            read_checkpoint(tmp_path, "one")


def test_the_score_is_a_probability_for_any_row(tmp_path: Path) -> None:
    write_package(tmp_path / "package", packed(replace(model("flat"), temperature=0.05)))
    predictor = OnnxPredictor(open_package(tmp_path / "package"), CANDIDATE)
    scores = predictor.predict(np.random.default_rng(1).normal(size=(200, 4)) * 1e6).scores

    assert ((scores >= 0.0) & (scores <= 1.0)).all()
