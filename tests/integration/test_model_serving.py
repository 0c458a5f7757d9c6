"""`model.serve: registry`: the champion scores, its name is in the story, and what cannot serve stops the start."""

import asyncio
import contextlib
import io
import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.adapters.models import packages

from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import MODEL, SHIPPED, open_package, write_package
from finagent.adapters.models.registry_files import VERSIONS
from finagent.adapters.models.warm_copy import SERVED
from finagent.bootstrap import build_application, build_predictor, open_registry
from finagent.bootstrap.models import _forecasts, build_serving
from finagent.cli.app import run
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SubjectType
from finagent.domain.errors import BadInput
from finagent.domain.experiment import Subject, takes_part
from finagent.domain.gap import FeatureVector, GapCandidate
from finagent.domain.ports.model_registry import Alias
from finagent.domain.prediction import Prediction
from finagent.quant.features.catalogue import CANDIDATE
from finagent.services.forensics.explain import explain
from finagent.services.reporting.canonical import outcome_hash
from finagent.settings import Settings, load_settings
from finagent.store_access import reading

ONE, TWO = "gap-logistic@1", "gap-logistic@2"
REGISTRY, DAYS = ("model.serve=registry",), ("market_data.first_session=2008-10-07", "market_data.last_session=2008-10-08")
OTHER = (3.0, 1.5, 1.0)


def settings_of(folder: Path, *more: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", "http.enabled=false", *DAYS, *REGISTRY, *more))


def said(folder: Path, *words: str, code: int = 0) -> Any:
    options = [word for each in (f"storage.directory={folder}", *DAYS, *REGISTRY) for word in ("--set", each)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*words, *options, "--json"]) == code, err.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    """Two packages."""
    write_package(tmp_path / "one", packages.logistic_package())
    write_package(tmp_path / "two", packages.logistic_package(weights=OTHER, version="2", description="the second"))
    return {ONE: tmp_path / "one", TWO: tmp_path / "two"}


@pytest.fixture
def folder(tmp_path: Path, made: dict[str, Path]) -> Path:
    """Of an agent with both versions registered, the first one champion."""
    for package in made.values():
        said(tmp_path / "agent", "models", "register", str(package))
    said(tmp_path / "agent", "models", "promote", ONE, "--reason", "the first")
    return tmp_path / "agent"


async def replayed(settings: Settings) -> str:
    async with build_application(settings) as application:
        assert await application.run()
        return outcome_hash(application.reads)


def test_the_champion_scores_and_explain_names_it(folder: Path) -> None:
    settings = settings_of(folder)
    first = asyncio.run(replayed(settings))
    with reading(settings) as store:
        predictions = store.reads.find(Prediction)
        assert len(predictions) == store.reads.count(GapCandidate) >= 4
        for prediction in predictions:
            vector = store.reads.get(FeatureVector, prediction.decision_id)
            assert vector is not None
            row = CANDIDATE.columns
            values = np.asarray([[vector.values[row[name]] for name in packages.SPEC.names]])
            assert prediction.model_version == ONE
            assert prediction.score == pytest.approx(packages.logistic_score(values, packages.WEIGHTS)[0], abs=2e-6)
        told = explain(store.reads, store.jobs, predictions[0].decision_id)
    digest = open_registry(settings).facts(ONE).digest
    (scored,) = (step for step in told.steps if step.kind == "prediction")
    assert f"by {ONE} (sha256 {digest[:16]})" in scored.text
    assert scored.facts["model_sha256"] == digest
    assert said(folder, "explain", predictions[0].decision_id)["steps"]

    again = folder.parent / "again"
    shutil.copytree(folder / "models", again / "models")
    assert asyncio.run(replayed(settings_of(again))) == first


def test_a_canary_scores_its_share_of_a_replay(folder: Path) -> None:
    """By the hash alone, so that the same replay is scored by the same models again."""
    registry = open_registry(settings_of(folder))
    registry.point(Alias.CANARY, TWO)
    settings = settings_of(folder, "model.canary_share=0.5")
    asyncio.run(replayed(settings))
    with reading(settings) as store:
        for prediction in store.reads.find(Prediction):
            candidate = store.reads.get(GapCandidate, prediction.decision_id)
            assert candidate is not None
            chosen = takes_part(TWO, Subject(candidate.symbol, candidate.session_date), 0.5)
            assert prediction.model_version == (TWO if chosen else ONE)
        assert {prediction.model_version for prediction in store.reads.find(Prediction)} == {ONE, TWO}
    (folder / "models" / VERSIONS / TWO / MODEL).write_bytes(b"")
    with pytest.raises(BadInput, match=r"model.canary_share is 0.5, and .*; or --set model.canary_share=0"):
        build_serving(settings)


def test_another_champion_scores_from_the_next_start_and_rollback_brings_the_first_back(folder: Path) -> None:
    def scores(name: str) -> dict[str, float]:
        settings = settings_of(folder.parent / name, f"model.directory={folder / 'models'}")
        asyncio.run(replayed(settings))
        with reading(settings) as store:
            found = store.reads.find(Prediction)
        return {f"{one.decision_id} {one.model_version}": one.score for one in found}

    first = scores("first")
    assert said(folder, "models", "promote", TWO, "--against-evidence", "--reason", "the second")["before"] == ONE
    second = scores("second")
    assert said(folder, "models", "rollback", "--reason", "worse")["champion"] == ONE
    assert scores("third") == first
    assert {name.split()[1] for name in first} == {ONE}
    assert {name.split()[1] for name in second} == {TWO}
    assert set(first.values()).isdisjoint(second.values())


def test_what_a_person_does_to_the_champion_is_part_of_the_story(folder: Path) -> None:
    settings = settings_of(folder)
    assert said(folder, "models", "promote", ONE, "--reason", "no store yet")["recorded_by"] is None
    asyncio.run(replayed(settings))
    assert said(folder, "models", "promote", TWO, "--against-evidence", "--reason", "the second")["recorded_by"] == "command"
    assert said(folder, "models", "rollback", "--reason", "worse")["recorded_by"] == "command"
    said(folder, "models", "rollback", "--reason", "worse", code=2)
    with reading(settings) as store:
        events = store.reads.find(DecisionEvent, subject_type=SubjectType.MODEL, subject_id="champion")
    bodies = [(event.kind, event.body["version"], event.body["before"], event.body["reason"]) for event in events]
    assert bodies == [("model_promoted", TWO, ONE, "the second"), ("model_rolled_back", ONE, TWO, "worse")]
    assert all(len(event.body["digest"]) == 64 and event.body["by"] for event in events)
    shown = said(folder, "models", "history")["events"]
    assert [(row["event"], row["version"], row["before"], row["reason"]) for row in shown] == bodies
    assert said(folder, "db", "check")["faults"] == []


def test_a_challenger_without_evidence_is_not_promoted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample's minutes are made up between real days: whatever they show is no evidence for a model."""
    settings = settings_of(folder)
    assert "nothing has run in this folder" in said(folder, "models", "promote", TWO, "--reason", "eager", code=4)["error"]
    asyncio.run(replayed(settings))
    said(folder, "models", "deploy", TWO, "--as", "challenger")
    found = said(folder, "models", "review", TWO, code=3)
    assert (found["champion"], found["challenger"], found["promote"]) == (ONE, TWO, False)
    with reading(settings) as store:
        assert found["left_out"] == {"its minutes are simulated: nobody traded so": store.reads.count(GapCandidate)}
    failed = {line["line"] for line in found["findings"] if not line["passed"]}
    assert {"PREDICTIONS", "DAYS", "LOSS_EVIDENCE", "OVERFITTING"} <= failed
    assert not {"SIZE", "LATENCY"} & failed
    assert said(folder, "models", "promote", TWO, "--reason", "eager", code=3)["promote"] is False
    roles = {model["version"]: model["roles"] for model in said(folder, "models", "list")["models"]}
    assert roles == {ONE: ["champion"], TWO: ["challenger"]}

    said(folder, "models", "promote", TWO, "--against-evidence", "--reason", "I know better")
    with reading(settings) as store:
        (event,) = store.reads.find(DecisionEvent, subject_type=SubjectType.MODEL, subject_id="champion")
    assert "PREDICTIONS: 0, not at least 250" in event.body["evidence"]


def test_a_running_agent_records_it(folder: Path) -> None:
    """Nobody else may write while it holds the folder."""
    from finagent.services.models.history import ChampionChange

    async def recorded() -> list[str]:
        async with build_application(settings_of(folder)) as application:
            refused = await asyncio.to_thread(
                said, folder, "models", "promote", TWO, "--against-evidence", "--reason", "mute", code=4
            )
            assert "but that is not recorded" in refused["error"]
            change = ChampionChange("promote", TWO, "0" * 64, ONE, "heard", "ann")
            assert await application.record_champion(change) == ONE, "a replay serves to its end what it began with"
            return [event.body["reason"] for event in application.reads.find(DecisionEvent, subject_type=SubjectType.MODEL)]

    assert asyncio.run(recorded()) == ["heard"]


def test_an_agent_that_serves_records_it_itself(folder: Path) -> None:
    """The real commands, over its socket."""
    given = ["--set", "http.port=0", "--set", "orchestrate.after_end=serve", "--set", f"storage.directory={folder}"]
    command = [sys.executable, "-m", "finagent.cli", "orchestrate", *given]
    command += [word for each in (*DAYS, *REGISTRY) for word in ("--set", each)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("serving until SIGTERM" in line for line in process.stderr)
            told = said(folder, "models", "promote", TWO, "--against-evidence", "--reason", "the second")
            assert (told["recorded_by"], told["before"], told["serves"]) == ("agent", ONE, ONE)
            assert said(folder, "models", "rollback", "--reason", "worse")["recorded_by"] == "agent"
        finally:
            process.terminate()
            process.communicate(timeout=60)
    with reading(settings_of(folder)) as store:
        events = store.reads.find(DecisionEvent, subject_type=SubjectType.MODEL)
    assert [event.kind for event in events] == ["model_promoted", "model_rolled_back"]


def test_the_doctor_names_what_would_score_and_leaves_nothing(folder: Path) -> None:
    def model(code: int) -> dict[str, str]:
        found: list[dict[str, str]] = said(folder, "doctor", code=code)["findings"]
        return next(each for each in found if each["name"] == "model")

    assert model(0)["text"] == f"{ONE}, champion of {folder / 'models'}"
    assert not (folder / "warm-model").exists()
    (folder / "models" / VERSIONS / ONE / MODEL).write_bytes(b"")
    assert "cannot serve" in model(3)["text"]


def test_models_are_told(folder: Path) -> None:
    told = said(folder, "models", "list")
    assert [(row["version"], row["roles"]) for row in told["models"]] == [(ONE, ["champion"]), (TWO, [])]
    shown = said(folder, "models", "show", TWO)
    assert (shown["description"], shown["trained_until"], shown["metrics"]) == ("the second", "2008-09-30", {"brier": 0.25})
    assert shown["features"] == list(packages.SPEC.names)
    (folder / "models" / VERSIONS / TWO / MODEL).write_bytes(b"")
    assert "damaged" in said(folder, "models", "list", code=3)["models"][1]["fault"]
    said(folder, "models", "show", TWO, code=2)
    said(folder, "models", "show", "nothing@1", code=2)
    said(folder.parent / "elsewhere", "models", "list", code=4)


def test_the_page_of_a_model_is_that_of_who_scores_unless_another_is_named(folder: Path) -> None:
    page = said(folder, "models", "report")
    assert (page["version"], page["roles"], page["evidence"]) == (ONE, ["champion"], None)
    text = Path(page["report"]).read_text()
    assert Path(page["report"]) == folder / "reports" / f"model-{ONE}.html"
    assert "brings no learning curve" in text
    assert said(folder, "models", "report", TWO)["roles"] == []
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run(["models", "report", "--set", f"storage.directory={folder}", "--set", "model.serve=shipped"]) == 0
    of_shipped = folder / "reports" / f"model-{open_package(SHIPPED).version}.html"
    assert out.getvalue().strip() == str(of_shipped)
    assert "brings no learning curve" not in of_shipped.read_text()
    assert "is not registered" in said(folder, "models", "report", "gap-logistic@9", code=2)["error"]
    assert "is no version" in said(folder, "models", "report", "../../etc", code=2)["error"]
    (folder / "models" / "aliases.json").write_text("{}")
    assert "no model is champion" in said(folder, "models", "report", code=2)["error"]


def test_people_read_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", f"storage.directory={folder}"]
    assert run(["models", "list", *options]) == 0
    assert run(["models", "show", ONE, *options]) == 0
    assert run(["models", "promote", TWO, "--against-evidence", "--reason", "the second", *options]) == 0
    told = capsys.readouterr().out
    assert "champion" in told.splitlines()[1]
    assert "model.serve is formula: none of these scores" in told
    assert "roles           champion" in told
    assert f"champion is {TWO} (before: {ONE}): there is no store yet to record it in, so say it again once there is; " in told
    assert "model.serve is formula" in told
    (folder / "models" / VERSIONS / TWO / MODEL).unlink()
    assert run(["models", "list", *options]) == 3
    assert "DAMAGED" in capsys.readouterr().out


def started(folder: Path, *more: str) -> str:
    return build_predictor(settings_of(folder, *more)).model_version


def test_a_start_without_a_champion_is_refused_with_the_cure(tmp_path: Path, made: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match=r"nothing has served here yet .* --set model.serve=formula"):
        started(tmp_path / "agent")
    said(tmp_path / "agent", "models", "register", str(made[ONE]))
    with pytest.raises(BadInput, match=r"it has no champion: `finagent models promote"):
        started(tmp_path / "agent")
    said(tmp_path / "agent", "orchestrate", "--set", "http.enabled=false", code=2)
    assert not (tmp_path / "agent" / "finagent.db").exists()


def test_a_champion_that_cannot_serve_stops_the_start_and_is_not_replaced_in_silence(folder: Path) -> None:
    assert started(folder) == ONE
    (folder / "models" / VERSIONS / ONE / MODEL).write_bytes(b"")
    with pytest.raises(BadInput, match=r"the champion gap-logistic@1 cannot serve: .*damaged.*`finagent models rollback"):
        started(folder)


def test_a_registry_that_vanished_leaves_what_served_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert started(folder) == ONE
    (folder / "models").rename(folder / "gone")
    assert started(folder) == ONE
    assert "model_registry_away" in capsys.readouterr().err
    (folder / "gone").rename(folder / "models")
    said(folder, "models", "promote", TWO, "--against-evidence", "--reason", "the second")
    assert started(folder) == TWO
    shutil.rmtree(folder / "models")
    (folder / "models").mkdir()
    assert started(folder) == TWO
    (copy,) = (path for path in (folder / "warm-model").iterdir() if path.name != SERVED)
    (copy / MODEL).write_bytes(b"")
    with pytest.raises(BadInput, match=r"the copy of what served last cannot serve: .*damaged"):
        started(folder)


def test_a_copy_that_cannot_be_kept_does_not_stop_the_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "warm-model").write_text("a file")
    assert started(folder) == ONE
    assert "warm_model_not_kept" in capsys.readouterr().err


def test_who_scores_is_part_of_a_replay_and_where_models_lie_is_not(tmp_path: Path) -> None:
    served, elsewhere = settings_of(tmp_path), settings_of(tmp_path, "model.directory=other")
    formula = settings_of(tmp_path, "model.serve=formula")
    assert served.settings_hash == elsewhere.settings_hash != formula.settings_hash
    canary = settings_of(tmp_path, "model.canary_share=0.2")
    assert canary.settings_hash != served.settings_hash == settings_of(tmp_path, "model.serving.batch_max=8").settings_hash
    assert settings_of(tmp_path, "model.serving.device=cuda").settings_hash != served.settings_hash
    assert served.decisive()["model"].keys() == {"score_decimals", "score_min", "serve"}
    assert formula.decisive()["model"].keys() == {"score_decimals", "score_min"}, "replays of earlier builds stay what they are"


def test_wall_time_ends_no_call_of_a_replay(folder: Path) -> None:
    """The canary is bounded, what decides is not."""
    predictor = build_predictor(settings_of(folder))
    assert isinstance(predictor, OnnxPredictor)
    assert predictor._watch is None


def test_what_a_champion_said_is_weighed_also_where_it_would_never_end(tmp_path: Path) -> None:
    """The agent weighs it beside what it does."""
    settings = settings_of(tmp_path, "model.serving.call_seconds_max=0.05")
    sound, odd = np.zeros((2, len(CANDIDATE.features))), np.full((2, len(CANDIDATE.features)), 200.0)
    told = _forecasts(settings, packages.endless_package(100.0), sound)
    assert told is not None
    np.testing.assert_allclose(told.scores, packages.logistic_score(np.zeros((2, 3)), packages.WEIGHTS), atol=1e-5)
    assert _forecasts(settings, packages.endless_package(100.0), odd) is None


def test_the_formula_asks_for_no_registry(tmp_path: Path) -> None:
    assert started(tmp_path / "agent", "model.serve=formula") == "gap-and-go-formula-1"
    assert not (tmp_path / "agent").exists()


def test_fresh_leaves_the_models_where_they_are(folder: Path) -> None:
    asyncio.run(replayed(settings_of(folder)))
    said(folder, "orchestrate", "--fresh", "--set", "http.enabled=false")
    assert [row["version"] for row in said(folder, "models", "list")["models"]] == [ONE, TWO]


def test_the_shipped_model_was_fitted_before_what_is_replayed_and_scores_without_torch(tmp_path: Path) -> None:
    """And says what it is."""
    facts = open_package(SHIPPED).facts
    assert facts.trained_until < date(2008, 10, 1)
    assert "the probability that the price goes the way of the gap" in facts.description
    asks = ["--set", f"storage.directory={tmp_path}", "--set", "model.serve=shipped", "--set", "http.enabled=false"]
    days = [word for each in DAYS for word in ("--set", each)]
    code = (
        "import sys; from finagent.cli.app import run; code = run(sys.argv[1:]); "
        "print(code, sorted({'torch', 'mlflow', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "orchestrate", "--json", *asks, *days],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert ended.stderr.rstrip().endswith("0 []")
    with reading(load_settings(overrides=(f"storage.directory={tmp_path}", *DAYS, "model.serve=shipped"))) as store:
        predictions, outcomes = store.reads.find(Prediction), store.reads.find(DecisionOutcome)
    assert {prediction.model_version for prediction in predictions} == {facts.version}
    assert facts.evidence is not None
    assert facts.evidence.skill == 0.0
    assert "0% of that is what it has learned" in facts.description
    assert len({prediction.score for prediction in predictions}) == 2, "how often the price went the way of a gap up, and down"
    assert outcomes
    assert all("the model abstains" in outcome.reason for outcome in outcomes)
