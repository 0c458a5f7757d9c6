"""`finagent models train`: candidates of past days become a package in MLflow that can serve, and again changes nothing."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.tracking import KEY_TAG
from finagent.bootstrap import build_predictor, open_registry
from finagent.cli.app import run
from finagent.domain.ports.model_registry import Alias
from finagent.settings import Settings, load_settings

SETTINGS = (
    "market_data.source=simulated",
    "market_data.simulated.symbols=30",
    "market_data.first_session=2008-08-01",
    "market_data.last_session=2008-09-24",
    "market_data.simulated.history_sessions=130",
    "scan.gap_fraction_min=0.01",
    "scan.dollar_volume_usd_min=0",
    "training.epochs=3",
    "training.blocks=2",
    "training.penalties=[0.01, 1.0]",
    "model.registry=mlflow",
    "model.serve=registry",
)


def said(folder: Path, *words: str, code: int = 0) -> Any:
    options = [word for each in (f"storage.directory={folder}", *SETTINGS) for word in ("--set", each)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*words, *options, "--json"]) == code, err.getvalue()
    return json.loads(out.getvalue())


def settings_of(folder: Path) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", *SETTINGS))


def test_a_trained_model_is_tracked_registered_and_can_serve(tmp_path: Path, empty_mlflow: Path) -> None:
    shutil.copytree(empty_mlflow, tmp_path, dirs_exist_ok=True)
    told = said(tmp_path, "models", "train")
    version, keys = told["version"], [one["key"] for one in told["trainings"]]
    assert (told["success_rate"], told["untracked"], len(keys)) == (1.0, 0, 6)
    assert told["metrics"]["trials"] == 2.0
    assert 0.0 < told["metrics"]["test_loss"] < 10.0

    with MlflowStore(tmp_path).asking() as client:
        experiment = client.get_experiment_by_name(f"finagent {told['name']}")
        assert experiment is not None
        runs = {one.data.tags[KEY_TAG]: one for one in client.search_runs([experiment.experiment_id])}
        assert sorted(runs) == sorted(keys)
        for one in told["trainings"]:
            steps = [each.step for each in client.get_metric_history(runs[one["key"]].info.run_id, "train_loss")]
            assert sorted(steps) == list(range(1, one["epochs"] + 1))
            assert runs[one["key"]].data.tags["finagent.data_hash"] == told["data_hash"]

    registry = open_registry(settings_of(tmp_path))
    assert registry.aliases() == {Alias.CHALLENGER: version}
    assert registry.facts(version).metrics == told["metrics"]
    said(tmp_path, "models", "promote", version, "--reason", "the first")
    predictor = build_predictor(settings_of(tmp_path))
    assert predictor.model_version == version
    rows = np.random.Generator(np.random.Philox(1)).normal(size=(3, len(predictor.spec.names)))
    assert np.isfinite(predictor.predict(rows)).all()

    shutil.rmtree(tmp_path / "training" / told["name"] / "1-all")
    again = said(tmp_path, "models", "train")
    assert again == told, "what is left is not run again, what is made anew is the same"
    assert open_registry(settings_of(tmp_path)).versions() == (version,)
