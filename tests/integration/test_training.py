"""`finagent models train`: from past sessions to a champion that scores, and a training that was ended goes on."""

import asyncio
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finagent.adapters.models.checkpoint import Checkpoint
from finagent.bootstrap import build_application, build_daily_features, open_market
from finagent.bootstrap.training import regime_weights, run_to_end
from finagent.cli.app import run
from finagent.domain.prediction import Prediction
from finagent.policies import gap_past_policy
from finagent.quant.specialists.planted_edges import Edge, plant
from finagent.quant.specialists.training import Recipe, SpecialistTraining, TrainingRows
from finagent.services.market_data.daily_features import anchor
from finagent.services.market_data.feature_past import sessions_between
from finagent.services.market_data.gap_past import gap_past
from finagent.settings import Settings, load_settings
from finagent.store_access import reading

WINDOW = ("market_data.first_session=2008-01-02", "market_data.last_session=2008-10-08")
SMALL = ("model.training.seeds=1", "model.training.width=8", "model.training.epochs=4", "model.training.first_test_days=120",
         "model.training.test_days=200")  # fmt: skip


def settings_of(folder: Path, *more: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", "http.enabled=false", *WINDOW, *SMALL, *more))


def said(folder: Path, *words: str, code: int = 0) -> Any:
    options = [word for each in (f"storage.directory={folder}", *WINDOW, *SMALL) for word in ("--set", each)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*words, *options, "--json"]) == code, err.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("agent")
    return folder, said(folder, "models", "train", "gap", "1", "--to", "2008-09-30", "--register")


def test_what_was_trained_is_registered_and_scores(whole: tuple[Path, Any]) -> None:
    folder, told = whole
    assert {trial["name"] for trial in told["trials"]} >= {"climatology", "logistic", "boosting", "flat"}
    assert told["trained_until"] < "2008-09-30"
    assert {"trials", "overfitting_probability", "trial_sharpe_deviation"} <= set(told["metrics"])
    said(folder, "models", "promote", "gap@1", "--reason", "the first")
    settings = settings_of(folder, "model.serve=registry", "market_data.first_session=2008-10-07")

    async def replay() -> None:
        async with build_application(settings) as application:
            assert await application.run()

    asyncio.run(replay())
    with reading(settings) as store:
        predictions = store.reads.find(Prediction)
    assert {prediction.model_version for prediction in predictions} == {"gap@1"}
    assert len({prediction.score for prediction in predictions}) > 1


def test_a_specialist_weighs_what_was_its_market(whole: tuple[Path, Any], tmp_path: Path) -> None:
    """The bear's rows are those of October 2008; the generalist's are all alike."""

    async def weights(specialist: str) -> tuple[Any, Any]:
        settings = settings_of(tmp_path, f"model.training.specialist={specialist}")
        async with open_market(settings) as market:
            sessions = sessions_between(market, None, None)
            days = build_daily_features(settings, market)
            past = await gap_past(market, sessions, days, gap_past_policy(settings))
            history = await market.daily_history(sessions[-1], anchor(sessions[0]))
        months = np.asarray([past.sessions[day].date.month for day in past.days])
        return regime_weights(past, history, None, settings), months

    everybody, _ = asyncio.run(weights("generalist"))
    bear, months = asyncio.run(weights("bear"))
    bull, _ = asyncio.run(weights("bull"))
    assert (everybody == 1.0).all()
    assert bear.min() >= 0.1
    assert bear[months == 10].mean() > 2.0 * bear[months == 8].mean()
    assert bull[months == 10].mean() < bull[months == 8].mean()


def test_a_training_that_was_ended_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    planted = plant(Edge.LINEAR, 0.6, 1, days=60, rows_a_day=5)
    values = planted.features.astype(np.float32)[:, np.newaxis, :]
    rows = TrainingRows(values, planted.outcome, np.zeros(300), planted.days, np.ones(300))
    recipe = Recipe("flat", seeds=(1, 2), width=8, epochs=5, embargo_days=1)

    def ended(epoch: int, _: dict[str, float]) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "a", {})
    with pytest.raises(KeyboardInterrupt):
        run_to_end(SpecialistTraining(rows, recipe), checkpoint, ended)
    again, undisturbed = SpecialistTraining(rows, recipe), SpecialistTraining(rows, recipe)
    seen: list[int] = []

    assert run_to_end(again, checkpoint, lambda epoch, _: seen.append(epoch)) == 3
    assert seen == [3, 4]
    assert run_to_end(undisturbed, Checkpoint(tmp_path / "b", {}), lambda *_: None) == 0
    assert np.array_equal(again.trained().logits(values), undisturbed.trained().logits(values))


def test_a_folder_that_is_there_and_a_window_without_gaps_are_refused(whole: tuple[Path, Any]) -> None:
    folder, _ = whole
    assert "is there already" in said(folder, "models", "train", "gap", "1", code=2)["error"]
    assert (
        "no gap to learn from"
        in said(
            folder, "models", "train", "gap", "2", "--to", "2008-01-03", "--set", "model.training.gap_fraction_min=0.5", code=2
        )["error"]
    )
