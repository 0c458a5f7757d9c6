"""Trainings whose processes are killed, and a parent that is: what is left, against the same trainings undisturbed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import structlog

from finagent.adapters.models.checkpoint_files import CHECKPOINT, open_checkpoint
from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.row_files import open_rows, write_rows
from finagent.adapters.models.tracking import KEY_TAG, Tracking
from finagent.adapters.models.training_processes import TrainingProcess
from finagent.domain.errors import Transient
from finagent.domain.ports.experiment_log import Lineage, TrackedTraining
from finagent.quant.specialists.experiment import State
from finagent.quant.specialists.planted_edges import Edge, plant
from finagent.quant.specialists.training_rows import TrainingRows
from finagent.services.market_data.gap_past import AT_THE_OPEN
from finagent.services.models.accelerator import AcceleratorLedger, AcceleratorMemory
from finagent.services.models.training import Training, TrainingOrchestrator, TrainingPolicy, TrainingResult
from finagent.settings import quiet_mlflow

DESCENT, SPECIALIST = "tests.crash.training_kills:descent", "finagent.adapters.models.learners:specialist"
EPOCHS, WORKERS, EXPERIMENT = 5, 2, "killed"
NO_ACCELERATOR = AcceleratorMemory(0, 0, 0)
GONE_SECONDS = 20.0


@dataclass
class Descent:
    """An experiment in numpy, with a momentum and draws of its own: what is lost or done twice shows in its bits."""

    rows: TrainingRows
    seed: int
    at: int = 0

    def __post_init__(self) -> None:
        self.values = np.nan_to_num(self.rows.values[:, 0])
        self.weights = np.zeros(self.values.shape[-1])
        self.moment = np.zeros_like(self.weights)

    @property
    def epochs(self) -> int:
        return EPOCHS

    @property
    def finished(self) -> bool:
        return self.at >= EPOCHS

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        assert epoch == self.at
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        chosen = generator.permutation(len(self.rows.days))[:100]
        error = self.values[chosen] @ self.weights - (self.rows.outcome[chosen] - 1.0)
        self.moment = 0.9 * self.moment + self.values[chosen].T @ error / len(chosen)
        self.weights = self.weights - 0.1 * self.moment
        self.at += 1
        return {"train_loss": float((error**2).mean()), "validation_loss": float(np.abs(self.weights).sum())}

    def state(self) -> State:
        return {"weights": self.weights, "moment": self.moment, "at": np.asarray(self.at)}

    def restore(self, state: State) -> None:
        self.weights, self.moment, self.at = state["weights"], state["moment"], int(state["at"])


def descent(recipe: Mapping[str, Any], data: Path) -> Descent:
    return Descent(open_rows(data, verify=False).rows, recipe["seeds"][0])


def write_planted(folder: Path, days: int = 120, a_day: int = 5) -> None:
    planted = plant(Edge.LINEAR, 0.6, 7, days=days, rows_a_day=a_day, features=len(AT_THE_OPEN.names))
    values = planted.features.astype(np.float32)[:, np.newaxis, :]
    values[::7, 0, 3] = np.nan
    target = planted.outcome.astype(np.float64) - 1.0
    rows = TrainingRows(values, planted.outcome, target, planted.days, np.ones(len(values)))
    dates = tuple(date(2014, 1, 1) + timedelta(days=number) for number in range(days))
    write_rows(folder, rows, target * 0.01, AT_THE_OPEN, "planted", dates)


def trainings(folder: Path, count: int, data_hash: str, factory: str) -> list[Training]:
    """Specialists are tried on the last days; each has another seed."""
    lineage = Lineage(data_hash, "settings", AT_THE_OPEN.hash, "code", "the tests")
    numbers = {"width": 16, "dropout": 0.3, "learning_rate": 2e-3, "weight_decay": 0.05, "label_smoothing": 0.05}
    numbers |= {"pinball_weight": 0.3, "batch_rows": 64, "epochs": EPOCHS, "patience": EPOCHS, "embargo_days": 2}
    found = []
    for number in range(count):
        recipe = {**numbers, "network": "flat", "seeds": [number], "miss_fraction": 0.2, "blocks": [90, 60, 2], "block": 0}
        told = TrackedTraining(f"trial-{number}", EXPERIMENT, {"seed": str(number)}, lineage)
        found.append(Training(told, factory, recipe, str(folder / "rows"), str(folder / f"trial-{number}"), "flat"))
    return found


class StoreAway(MlflowStore):
    """What is told stays in the spool, and MLflow is not imported."""

    @contextmanager
    def asking(self) -> Iterator[Any]:
        raise Transient("away")
        yield


def store_in(folder: Path, *, mlflow: bool) -> MlflowStore:
    quiet_mlflow()
    return MlflowStore(folder / "store") if mlflow else StoreAway(folder / "store")


def parent(folder: Path, count: int, factory: str, *, mlflow: bool) -> tuple[TrainingResult, ...]:
    """A whole training, as the command does it: it says each epoch on stdout."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout says how far it is
    if not (folder / "rows").exists():
        write_planted(folder / "rows")
    asked = trainings(folder, count, open_rows(folder / "rows").hash, factory)
    policy = TrainingPolicy(WORKERS, losses_max=5, shrinks_max=1)

    def progress(key: str, done: int, at_most: int) -> None:
        sys.stdout.write(f"{key} {done} {at_most}\n")
        sys.stdout.flush()

    with Tracking(folder / "spool", store_in(folder, mlflow=mlflow), 1.0) as log:
        ledger = AcceleratorLedger(NO_ACCELERATOR)
        return asyncio.run(TrainingOrchestrator(lambda: TrainingProcess(10), log, policy, ledger, progress).run(asked))


def parent_command(folder: Path, count: int, factory: str, *, mlflow: bool) -> list[str]:
    """Of the priority that a scheduled training has."""
    words = ["-m", "tests.crash.training_kills", str(folder), str(count), factory, str(int(mlflow))]
    return ["nice", "-n", "10", sys.executable, *words]


@dataclass(frozen=True)
class Left:
    """What there is after it: how often each metric of each epoch, the order of epochs, and each final state."""

    success_rate: float
    losses: int
    metrics: Counter[tuple[str, str, int]]
    told: list[tuple[str, int]]
    states: dict[str, dict[str, bytes]]
    orphans: int


def killed(folder: Path, count: int, factory: str, *, children: int, parents: int, mlflow: bool) -> Left:
    """Run it, killing that many children and then that many parents, at progress that is spread over the whole."""
    told: list[tuple[str, int]] = []
    results: list[Any] = []
    losses, orphans = 0, 0
    kills = ["child"] * children + ["parent"] * parents
    every = max(count * EPOCHS // (len(kills) + 1), 1)
    command = parent_command(folder, count, factory, mlflow=mlflow)
    while not results:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    answer = json.loads(line)
                    results, losses = answer["outcomes"], losses + answer["losses"]
                    continue
                key, done, _ = line.split()
                told.append((key, int(done)))
                if kills and len(told) >= every * (children + parents - len(kills) + 1):
                    pids = children_of(process.pid)
                    if kills.pop(0) == "child":
                        os.kill(pids[0], signal.SIGKILL)
                    else:
                        process.kill()
                        orphans += sum(not gone(pid) for pid in pids)
    assert not kills, "each was carried out"
    outcomes = Counter(results)
    states = {
        place.name: {name: array.tobytes() for name, array in open_checkpoint(place / CHECKPOINT).state.items()}
        for place in sorted(folder.glob("trial-*"))
    }
    rate = outcomes["FINISHED"] / count
    return Left(rate, losses, Counter(metrics_in(folder, mlflow=mlflow)), told, states, orphans)


def metrics_in(folder: Path, *, mlflow: bool) -> Iterator[tuple[str, str, int]]:
    """Each metric of each epoch of each training, as often as it is there."""
    if not mlflow:
        for file in (folder / "spool").glob("*.jsonl"):
            for line in map(json.loads, file.read_text().splitlines()):
                yield from ((line["key"], name, line["epoch"]) for name in line.get("metrics", ()))
        return
    with store_in(folder, mlflow=True).asking() as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        for run in client.search_runs([experiment.experiment_id]):
            for name in run.data.metrics:
                yield from (
                    (run.data.tags[KEY_TAG], name, each.step) for each in client.get_metric_history(run.info.run_id, name)
                )


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Ended, whoever will reap it."""
    for _ in range(int(GONE_SECONDS / 0.05)):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        Event().wait(0.05)
    return False


if __name__ == "__main__":
    ended = parent(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], mlflow=bool(int(sys.argv[4])))
    print(json.dumps({"outcomes": [one.outcome.value for one in ended], "losses": sum(one.losses for one in ended)}))
