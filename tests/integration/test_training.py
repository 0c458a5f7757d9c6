"""`finagent models train`: from past sessions to a champion that scores; what was tried is in MLflow, once."""

import asyncio
import contextlib
import getpass
import io
import json
import shutil
import signal
import sqlite3
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.test_live_day import at_alpaca, lived, simulator

from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.package import MODEL, open_package
from finagent.adapters.models.row_files import open_rows
from finagent.adapters.models.tracking import KEY_TAG
from finagent.bootstrap import build_alpaca_simulator, build_application, build_daily_features, build_market, open_market
from finagent.bootstrap.models import build_training_command, training_success
from finagent.bootstrap.training import regime_weights
from finagent.cli.app import run
from finagent.domain.errors import Permanent
from finagent.domain.prediction import Prediction
from finagent.policies import gap_past_policy
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.specialists.networks import NETWORKS
from finagent.services.market_data.daily_features import anchor
from finagent.services.market_data.feature_past import sessions_between
from finagent.services.market_data.gap_past import gap_past
from finagent.services.scheduling.scheduled_training import TrainingsEnded
from finagent.settings import Settings, load_settings
from finagent.store_access import reading

WINDOW = ("market_data.first_session=2008-01-02", "market_data.last_session=2008-10-08")
SMALL = ("model.training.seeds=1", "model.training.width=8", "model.training.epochs=4", "model.training.first_test_days=120",
         "model.training.test_days=200", "model.training.processes.workers=1", "model.training.processes.nice=0")  # fmt: skip


def settings_of(folder: Path, *more: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", "http.enabled=false", *WINDOW, *SMALL, *more))


def said(folder: Path, *words: str, code: int = 0) -> Any:
    options = [word for each in (f"storage.directory={folder}", *WINDOW, *SMALL) for word in ("--set", each)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*words, *options, "--json"]) == code, err.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("agent")
    shutil.copytree(empty_mlflow, folder, dirs_exist_ok=True)
    return folder, said(folder, "models", "train", "gap", "1", "--to", "2008-09-30", "--register")


def test_what_was_trained_is_registered_and_scores(whole: tuple[Path, Any]) -> None:
    folder, told = whole
    assert {trial["name"] for trial in told["trials"]} >= {"climatology", "logistic", "boosting", "flat"}
    assert told["trained_until"] < "2008-09-30"
    assert told["alarms"] == []
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


def test_what_was_tried_is_in_mlflow_once_and_is_not_tried_again(whole: tuple[Path, Any], tmp_path: Path) -> None:
    folder, told = whole
    keys = {each["key"]: each for each in told["trainings"]}
    assert (told["success_rate"], told["untracked"], len(keys)) == (1.0, 0, 7)

    def tracked() -> dict[str, Any]:
        with MlflowStore(folder).asking() as client:
            experiment = client.get_experiment_by_name(told["experiment"])
            assert experiment is not None
            runs = client.search_runs([experiment.experiment_id])
            assert len(runs) == len(keys)
            for run in runs:
                for name in run.data.metrics:
                    steps = [each.step for each in client.get_metric_history(run.info.run_id, name)]
                    assert len(steps) == len(set(steps))
                    assert max(steps) == keys[run.data.tags[KEY_TAG]]["done"]
            return {run.data.tags[KEY_TAG]: run for run in runs}

    runs = tracked()
    (final,) = [run for run in runs.values() if run.data.params["part"] == "all"]
    (block,) = [run for run in runs.values() if run.data.params["kind"] == "climatology"]
    assert final.data.params["network"] == '"flat"'
    assert final.info.status == "FINISHED"
    assert final.data.tags["finagent.data_hash"] == told["data_hash"]
    assert final.data.tags["finagent.asked_by"] == getpass.getuser()
    assert block.data.metrics["test_log_loss"] > 0.0
    assert {"finagent.settings_hash", "finagent.data_spec_hash", "finagent.code_version"} <= set(final.data.tags)

    checkpoints = {path: path.stat().st_mtime_ns for path in folder.glob("training/*/*/checkpoint.safetensors")}
    (unfinished,) = [path for path in checkpoints if path.parent.name == "flat-all"]
    unfinished.unlink()
    again = said(folder, "models", "train", "gap", "1", "--to", "2008-09-30", "--out", str(tmp_path / "again"))
    assert again["digest"] == told["digest"]
    assert (tmp_path / "again" / MODEL).read_bytes() == (Path(told["folder"]) / MODEL).read_bytes()
    assert {path for path, at in checkpoints.items() if path.stat().st_mtime_ns != at} == {unfinished}
    tracked()
    assert said(folder, "models", "train", "gap", "1", "--to", "2008-09-30", "--register")["digest"] == told["digest"]


def test_what_a_training_found_out_is_in_its_package_and_on_its_page(whole: tuple[Path, Any], tmp_path: Path) -> None:
    """As the checkpoints have it: the page computes nothing."""
    folder, told = whole
    evidence = open_package(Path(told["folder"])).facts.evidence
    assert evidence is not None
    last = {each["key"].split("-", 3)[3]: each for each in told["trainings"]}
    assert (evidence.model, len(evidence.learning)) == ("flat", last["flat-all"]["done"])
    assert evidence.learning[-1].train_loss == last["flat-all"]["figures"]["train_loss"]
    (block,) = evidence.blocks
    for kind in ("climatology", "logistic", "boosting", *NETWORKS):
        assert block.log_loss[kind] == last[f"{kind}-block-1"]["figures"]["test_log_loss"]
        assert block.brier[kind] == last[f"{kind}-block-1"]["figures"]["test_brier"]
    assert block.rows == sum(each.rows for each in evidence.reliability) == told["metrics"]["tested_rows"]
    assert block.log_loss["flat"] == pytest.approx(told["metrics"]["log_loss"])
    (rows_folder,) = folder.glob("training/*/rows")
    file = open_rows(rows_folder)
    tested = np.asarray([day >= block.first for day in file.dates])[file.rows.days]
    with_gap = np.where(file.rows.values[tested, 0, file.features.index("gap")] > 0.0, Outcome.UP, Outcome.DOWN)
    went_with_it = int((file.rows.outcome[tested] == with_gap).sum())
    assert sum(each.happened * each.rows for each in evidence.reliability) == pytest.approx(went_with_it)
    assert {each.feature for each in evidence.importance} == set(open_package(Path(told["folder"])).facts.features)
    assert block.last <= evidence.held_out.last == date.fromisoformat(told["trained_until"])
    assert any(each.log_loss_increase for each in evidence.importance)

    page = said(folder, "models", "report", "gap@1", "--out", str(tmp_path / "page.html"))
    assert (page["version"], page["digest"]) == ("gap@1", told["digest"])
    assert page["evidence"]["learning"][0]["validation_loss"] == evidence.learning[0].validation_loss
    assert f"{block.log_loss['boosting']:.4f}" in (tmp_path / "page.html").read_text()


async def test_a_scheduled_training_is_the_command_with_the_agents_settings(whole: tuple[Path, Any]) -> None:
    """What is known to have ended is told; what refuses its settings says why; what still runs ends with the agent."""
    folder, told = whole
    settings = settings_of(folder)
    runner = replace(build_training_command(settings), overrides={"gap": ("model.training.width=none",), "other": ()})
    try:
        ended = await runner.ended("gap@1")
        assert ended == TrainingsEnded("gap@1", len(told["trainings"]), 0, True)
        assert training_success(settings) == 1.0
        assert await runner.ended("gap@2") is None
        await runner.keep_running("gap", "gap@2")
        await asyncio.wait_for(runner.running["gap@2"].wait(), 60)
        with pytest.raises(Permanent, match=r"gap@2: .*model\.training\.width"):
            await runner.keep_running("gap", "gap@2")
        await runner.keep_running("other", "other@1")
        process = runner.running["other@1"]
        await runner.keep_running("other", "other@1")
        assert runner.running["other@1"] is process
    finally:
        await runner.close()
    assert process.returncode == -signal.SIGKILL


async def test_on_wall_time_the_schedule_begins_a_training_that_ends_with_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "PKSIMULATOR")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "simulator")
    there = simulator(tmp_path / "alpaca")
    scheduled = 'model.training.schedule=[{name: gap, expression: "31 9 * * *"}]'
    async with build_alpaca_simulator(there, build_market(there)) as url:
        settings = at_alpaca(tmp_path / "agent", url, scheduled)
        monkeypatch.setenv("FINAGENT__HTTP__PORT", "no number")  # the process is given the settings in force, and no others
        async with build_application(settings) as application:
            assert application.trainer is not None
            assert "FINAGENT__HTTP__PORT" not in application.trainer.environment
            assert "APCA_API_KEY_ID" in application.trainer.environment
        await lived(settings, url, (1, 2))
    with contextlib.closing(sqlite3.connect(tmp_path / "agent" / "finagent.db")) as store:
        told = store.execute("SELECT dedup_key, status FROM job_queue WHERE type = 'train' ORDER BY id").fetchall()
    assert told[0] == ("train:gap@20081009-0931:0", "DONE")
    assert told[-1][1] in {"READY", "SCHEDULED"}
    given = json.loads((tmp_path / "agent" / "training" / "settings.json").read_text())
    assert (given["orchestrate"]["mode"], given["alpaca"]["url"]) == ("paper", settings.alpaca.url)


def test_a_training_that_fails_makes_no_package_and_names_itself(tmp_path: Path, empty_mlflow: Path) -> None:
    shutil.copytree(empty_mlflow, tmp_path / "agent")
    few = ("--to", "2008-07-10", "--set", "model.training.embargo_days=50", "--set", "model.training.processes.workers=1")
    told = said(tmp_path / "agent", "models", "train", "gap", "1", *few, "--register", code=3)
    failed = [each for each in told["trainings"] if each["outcome"] == "FAILED"]
    assert {each["key"].split("-")[3] for each in failed} == set(NETWORKS)
    assert all("days are too few" in each["reason"] for each in failed)
    assert 0.0 < told["success_rate"] < 1.0
    assert not (tmp_path / "agent" / "packages").exists()


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


def test_a_folder_that_is_there_and_a_window_without_gaps_are_refused(whole: tuple[Path, Any]) -> None:
    folder, _ = whole
    other = ("--to", "2008-09-30", "--set", "model.training.miss_fraction=0.3")
    assert "is there already" in said(folder, "models", "train", "gap", "1", *other, code=2)["error"]
    assert (
        "no gap to learn from"
        in said(
            folder, "models", "train", "gap", "2", "--to", "2008-01-03", "--set", "model.training.gap_fraction_min=0.5", code=2
        )["error"]
    )
