"""The contract of ExperimentLog over MLflow: each thing there once, whatever is killed, told again or away in between."""

import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.tracking import KEY_TAG, Tracking
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.experiment_log import Lineage, TrackedTraining, TrainingOutcome

LINEAGE = Lineage("data-1", "settings-1", "spec-1", "code-1", "somebody")
EXPERIMENT = "gap models"


def training(key: str) -> TrackedTraining:
    return TrackedTraining(key, EXPERIMENT, {"model": "logistic", "seed": "7"}, LINEAGE)


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Path) -> MlflowStore:
    shutil.copytree(empty_mlflow, tmp_path / "store")
    return MlflowStore(tmp_path / "store")


def runs_in(store: MlflowStore) -> dict[str, Any]:
    with store.asking() as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        keys = [run.data.tags[KEY_TAG] for run in runs]
        assert len(keys) == len(set(keys)), "each training once"
        return {run.data.tags[KEY_TAG]: run for run in runs}


def history(store: MlflowStore, run: Any, name: str) -> list[tuple[int, float]]:
    with store.asking() as client:
        return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def tell(log: Tracking, key: str, epochs: Iterator[int] | range, *, ended: bool) -> None:
    log.begin(training(key))
    for epoch in epochs:
        log.epoch(key, epoch, {"loss": 1.0 / epoch, "brier": 0.25})
    if ended:
        log.end(key, TrainingOutcome.FINISHED)


def test_what_was_told_is_there_with_its_lineage(store: MlflowStore, tmp_path: Path) -> None:
    with Tracking(tmp_path / "spool", store, 0.05) as log:
        tell(log, "one", range(1, 4), ended=True)
        tell(log, "two", range(1, 3), ended=False)
    runs = runs_in(store)
    assert history(store, runs["one"], "loss") == [(1, 1.0), (2, 0.5), (3, 1.0 / 3.0)]
    assert (runs["one"].info.status, runs["two"].info.status) == ("FINISHED", "RUNNING")
    assert runs["one"].data.params == {"model": "logistic", "seed": "7"}
    told = {name.removeprefix("finagent."): value for name, value in runs["one"].data.tags.items()}
    assert {name: told[name] for name in ("data_hash", "settings_hash", "data_spec_hash", "code_version", "asked_by")} == {
        "data_hash": "data-1",
        "settings_hash": "settings-1",
        "data_spec_hash": "spec-1",
        "code_version": "code-1",
        "asked_by": "somebody",
    }
    assert [file.name for file in (tmp_path / "spool").glob("*.jsonl")] == ["two.jsonl"], "what may go on is kept"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_stops_nothing(store: MlflowStore, tmp_path: Path, odd: float) -> None:
    """A training whose loss has run away says so, and what others say is there."""
    with Tracking(tmp_path / "spool", store, 0.05) as log:
        log.begin(training("one"))
        log.epoch("one", 1, {"loss": odd, "brier": 0.25})
        log.end("one", TrainingOutcome.FINISHED)
        tell(log, "two", range(1, 3), ended=True)
    assert log.unsent() == 0
    runs = runs_in(store)
    assert [step for step, _ in history(store, runs["one"], "loss")] == [1]
    assert history(store, runs["one"], "brier") == [(1, 0.25)]
    assert history(store, runs["two"], "loss") == [(1, 1.0), (2, 0.5)]


class Away(MlflowStore):
    """A store that answers once it is allowed to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.back, self.asked = threading.Event(), threading.Event()

    def asking(self) -> Any:
        self.asked.set()
        if not self.back.is_set():
            raise Transient("away")
        return super().asking()


def test_while_the_store_is_away_it_waits_on_disk_and_comes_after(store: MlflowStore, tmp_path: Path) -> None:
    away = Away(store.folder)
    with Tracking(tmp_path / "spool", away, 0.01) as log:
        tell(log, "one", range(1, 4), ended=False)
        assert away.asked.wait(10)
    assert log.unsent() == 1
    assert runs_in(store) == {}

    with Tracking(tmp_path / "spool", store, 0.01) as log:
        tell(log, "one", range(2, 6), ended=True)
    assert log.unsent() == 0
    run = runs_in(store)["one"]
    assert [step for step, _ in history(store, run, "loss")] == [1, 2, 3, 4, 5]
    assert not list((tmp_path / "spool").glob("*.jsonl"))


def test_killed_after_sending_nothing_is_sent_twice(store: MlflowStore, tmp_path: Path) -> None:
    """The file says nothing of what was sent: another process finds out from the store. Half a line is none."""
    spool = tmp_path / "spool"
    with Tracking(spool, store, 0.01) as log:
        tell(log, "one", range(1, 4), ended=False)
    with (spool / "one.jsonl").open("ab") as file:
        file.write(b'{"key": "one", "epo')
    with Tracking(spool, store, 0.01) as log:
        tell(log, "one", range(1, 5), ended=False)
    shutil.rmtree(spool)  # and where even the file is gone
    with Tracking(spool, store, 0.01) as log:
        tell(log, "one", range(1, 6), ended=True)
    run = runs_in(store)["one"]
    for name in ("loss", "brier"):
        assert [step for step, _ in history(store, run, name)] == [1, 2, 3, 4, 5]


def test_what_the_store_refuses_keeps_nothing_else_from_it(store: MlflowStore, tmp_path: Path) -> None:
    with Tracking(tmp_path / "spool", store, 0.01) as log:
        log.begin(TrackedTraining("bad", EXPERIMENT, {"a=b?": "1"}, LINEAGE))
        log.end("bad", TrainingOutcome.FAILED)
        tell(log, "one", range(1, 3), ended=True)
    assert runs_in(store)["one"].info.status == "FINISHED"
    assert log.unsent() == 1
    assert (tmp_path / "spool" / "bad.jsonl").is_file()


def test_one_process_has_the_spool_and_a_key_is_a_name(store: MlflowStore, tmp_path: Path) -> None:
    with Tracking(tmp_path / "spool", store, 0.05) as log:
        with pytest.raises(Transient, match="another process"):
            Tracking(tmp_path / "spool", store, 0.05).__enter__()
        with pytest.raises(BadInput, match="no key"):
            log.begin(training("../one"))
