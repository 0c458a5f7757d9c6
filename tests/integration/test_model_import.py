"""`finagent models import`: weights from elsewhere serve as if they had been trained here, with what a person says of them."""

import asyncio
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.adapters.models import state_dicts

from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import open_package
from finagent.bootstrap import build_application
from finagent.cli.app import run
from finagent.domain.prediction import Prediction
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.networks import specialist
from finagent.quant.specialists.training import TrainedSpecialist
from finagent.quant.specialists.training_rows import Scaling
from finagent.settings import load_settings
from finagent.store_access import reading

FEATURES = ("gap", "gap_magnitude", "natr_14", "volatility_20")
MEAN, DEVIATION, TEMPERATURE = (0.0, 0.02, 3.0, 0.4), (0.03, 0.02, 1.5, 0.2), 1.4
ABOUT: dict[str, Any] = {
    "description": "of the desk that was here before",
    "trained_until": "2008-06-30",
    "features": FEATURES,
    "mean": MEAN,
    "deviation": DEVIATION,
    "temperature": TEMPERATURE,
}
DAYS = ("market_data.first_session=2008-10-07", "market_data.last_session=2008-10-08")


def said(folder: Path, *words: str, code: int = 0) -> Any:
    options = [word for each in (f"storage.directory={folder}", *DAYS) for word in ("--set", each)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*words, *options, "--json"]) == code, err.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two seeds, and what a person says of them."""
    for seed in (1, 2):
        (tmp_path / f"seed-{seed}.pth").write_bytes(state_dicts.saved(state_dicts.weights("convolutional", seed=seed)))
    return [*(str(tmp_path / f"seed-{seed}.pth") for seed in (1, 2)), "--about", told(tmp_path)]


def told(folder: Path, **changes: Any) -> str:
    (folder / "about.json").write_text(
        json.dumps({name: value for name, value in (ABOUT | changes).items() if value is not None})
    )
    return str(folder / "about.json")


def test_imported_weights_score_as_torch_does_and_serve_as_champion(tmp_path: Path, files: list[str]) -> None:
    agent = tmp_path / "agent"
    made = said(agent, "models", "import", "old-desk", "7", *files, "--register")
    known = said(agent, "models", "show", "old-desk@7")
    assert (made["version"], known["digest"], known["metrics"]) == ("old-desk@7", made["digest"], {})
    assert known["description"].startswith("of the desk that was here before (imported from state dicts: convolutional ")
    assert known["trained_until"] == "2008-06-30"

    networks = tuple(specialist("convolutional", len(FEATURES), 1, 16, 0.3, seed).eval() for seed in (1, 2))
    scaling = Scaling(np.asarray(MEAN, np.float32), np.asarray(DEVIATION, np.float32))
    trained = TrainedSpecialist(networks, scaling, TEMPERATURE, None)
    rows = np.random.default_rng(1).normal(MEAN, DEVIATION, size=(200, len(FEATURES)))
    told = trained.probabilities(rows.astype(np.float32)[:, np.newaxis, :])
    expected = np.where(rows[:, 0] > 0.0, told[:, Outcome.UP], told[:, Outcome.DOWN])
    found = OnnxPredictor(open_package(Path(made["folder"])), CANDIDATE).predict(rows).scores
    assert np.abs(found - expected).max() < 1e-5

    said(agent, "models", "promote", "old-desk@7", "--reason", "the first")
    overrides = (f"storage.directory={agent}", "http.enabled=false", "model.serve=registry", *DAYS)

    async def replay() -> None:
        async with build_application(load_settings(overrides=overrides)) as application:
            assert await application.run()

    asyncio.run(replay())
    with reading(load_settings(overrides=overrides)) as store:
        assert {each.model_version for each in store.reads.find(Prediction)} == {"old-desk@7"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no features": ({"features": None}, "features: Field required"),
    "a feature that is none": ({"features": ("gap", "moon", "natr_14", "volatility_20")}, "has no feature moon"),
    "a feature twice": ({"features": ("gap", "gap", "natr_14", "volatility_20")}, "gap declared twice"),
    "without the gap": ({"features": ("gap_magnitude", "natr_14", "volatility_20", "rsi_14")}, "there must be gap"),
    "too few means": ({"mean": MEAN[1:]}, "mean has 3 values, and there are 4 features"),
    "a deviation of zero": ({"deviation": (0.0, 1.0, 1.0, 1.0)}, "deviation.0: Input should be greater"),
    "an infinite mean": ({"mean": (float("inf"), 0.0, 0.0, 0.0)}, "about.json: "),
    "a mean beyond single precision": ({"mean": (1e300, 0.0, 0.0, 0.0)}, "mean.0: Input should be less"),
    "a temperature of zero": ({"temperature": 0.0}, "temperature: Input should be greater"),
    "no day": ({"trained_until": "soon"}, "trained_until: "),
    "a figure that nobody has measured": ({"metrics": {"sharpe": 9.0}}, "metrics: Extra inputs"),
    "another count": ({name: ABOUT[name][:3] for name in ("features", "mean", "deviation")}, "it is not the convolutional"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_person_says_must_fit(tmp_path: Path, files: list[str], name: str) -> None:
    changes, words = WRONG[name]
    told(tmp_path, **changes)
    assert words in said(tmp_path / "agent", "models", "import", "old-desk", "7", *files, code=2)["error"]
    assert not (tmp_path / "agent" / "packages").exists()


def test_a_name_that_is_none_or_taken_and_a_file_that_is_none_are_refused(tmp_path: Path, files: list[str]) -> None:
    agent = tmp_path / "agent"
    assert "is no version" in said(agent, "models", "import", "Old/Desk", "7", *files, code=2)["error"]
    said(agent, "models", "import", "old-desk", "7", *files)
    assert "is there already" in said(agent, "models", "import", "old-desk", "7", *files, code=2)["error"]
    assert "there is no such file" in said(agent, "models", "import", "old-desk", "8", "none.pth", *files, code=2)["error"]
    other = [*files[:2], "--about", str(tmp_path / "none.json")]
    assert "none.json: there is no such file" in said(agent, "models", "import", "old-desk", "8", *other, code=2)["error"]
    many = [files[0]] * 21
    assert "21 state dicts" in said(agent, "models", "import", "old-desk", "8", *many, *files[2:], code=2)["error"]


def test_weights_whose_scores_are_not_finite_are_refused(tmp_path: Path, files: list[str]) -> None:
    state = state_dicts.weights("convolutional")
    Path(files[1]).write_bytes(state_dicts.saved(state | {"classes.weight": state["classes.weight"].sign() * 3e38}))
    refused = said(tmp_path / "agent", "models", "import", "old-desk", "7", *files, code=2)["error"]
    assert "its scores are not finite" in refused


def test_a_payload_in_the_place_of_weights_is_refused_and_who_scored_goes_on(tmp_path: Path, files: list[str]) -> None:
    agent, sentinel = tmp_path / "agent", tmp_path / "exploded"
    said(agent, "models", "import", "old-desk", "7", *files, "--register")
    said(agent, "models", "promote", "old-desk@7", "--reason", "the first")
    for name, content in state_dicts.bombs(sentinel).items():
        Path(files[1]).write_bytes(content)
        refused = said(agent, "models", "import", "old-desk", "8", *files, "--register", code=2)["error"]
        assert "seed-2.pth is refused: it is no state dict" in refused, name
        assert not sentinel.exists(), name
    rows = said(agent, "models", "list")["models"]
    assert [(row["version"], row["roles"], row["fault"]) for row in rows] == [("old-desk@7", ["champion"], "")]


def test_without_torch_it_says_what_to_install(tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("finagent.") and ("imports" in name or "specialist" in name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    refused = said(tmp_path / "agent", "models", "import", "old-desk", "7", *files, code=4)["error"]
    assert 'importing needs torch: pip install "finagent[models]"' in refused
