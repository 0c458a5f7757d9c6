"""Trainings whose processes are killed, and a parent that is: `python -m tests.crash.training_kills FOLDER 20 3 1` says what is
left, against the same trainings undisturbed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import structlog

from finagent.adapters.models.checkpoint_files import CHECKPOINT, open_checkpoint
from finagent.adapters.models.learning_files import open_rows, write_rows
from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.tracking import KEY_TAG, Tracking
from finagent.adapters.models.training_processes import TrainingProcess
from finagent.domain.errors import Transient
from finagent.domain.ports.experiment_log import Lineage, TrackedTraining
from finagent.quant.learning.learning_rows import REGIMES, LearningRows
from finagent.services.models.accelerator import AcceleratorLedger, AcceleratorMemory
from finagent.services.models.past_candidates import AT_OPEN, PastCandidates
from finagent.services.models.training import Training, TrainingOrchestrator, TrainingPolicy, TrainingResult
from finagent.settings import quiet_mlflow

FACTORY = "finagent.adapters.models.logistic_training:logistic_training"
EPOCHS, WORKERS, EXPERIMENT = 5, 2, "killed"
NO_ACCELERATOR = AcceleratorMemory(0, 0, 0)
GONE_SECONDS = 20.0


def past(sessions: int = 60, a_day: int = 4) -> PastCandidates:
    """Candidates of which the gap says a little."""
    generator = np.random.Generator(np.random.Philox(7))
    starts = np.repeat(np.arange(sessions), a_day).astype(np.int64)
    inputs = generator.normal(size=(len(starts), 1, len(AT_OPEN.names))).astype(np.float32)
    inputs[::7, 0, 3] = np.nan
    outcomes = (1 + np.sign(np.round(inputs[:, 0, 0] + generator.normal(size=len(starts))))).astype(np.int8)
    rows = LearningRows(
        inputs, outcomes, generator.normal(size=len(starts)), starts, starts.copy(), np.full((len(starts), REGIMES), 1 / REGIMES)
    )
    return PastCandidates(rows, tuple(date(2014, 1, 1) + timedelta(days=number) for number in range(sessions)))


def trainings(folder: Path, count: int, data_hash: str, epochs: int = EPOCHS) -> list[Training]:
    lineage = Lineage(data_hash, "settings", AT_OPEN.hash, "code", "the tests")
    found = []
    for number in range(count):
        recipe = {"l2": 0.001 * (number + 1), "epochs": epochs, "learn_before": 40, "test_from": 45, "test_to": 60}
        told = TrackedTraining(f"trial-{number}", EXPERIMENT, {"l2": str(recipe["l2"])}, lineage)
        found.append(Training(told, FACTORY, recipe, str(folder / "rows"), str(folder / f"trial-{number}"), "logistic"))
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


def parent(folder: Path, count: int, *, mlflow: bool) -> tuple[TrainingResult, ...]:
    """A whole training, as the command does it: it says each epoch on stdout."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout says how far it is
    if not (folder / "rows").exists():
        write_rows(folder / "rows", past(), AT_OPEN, "made up")
    asked = trainings(folder, count, open_rows(folder / "rows").hash)
    policy = TrainingPolicy(WORKERS, losses_max=5, shrinks_max=1)

    def progress(key: str, done: int, at_most: int) -> None:
        sys.stdout.write(f"{key} {done} {at_most}\n")
        sys.stdout.flush()

    with Tracking(folder / "spool", store_in(folder, mlflow=mlflow), 1.0) as log:
        ledger = AcceleratorLedger(NO_ACCELERATOR)
        return asyncio.run(TrainingOrchestrator(lambda: TrainingProcess(10), log, policy, ledger, progress).run(asked))


@dataclass(frozen=True)
class Left:
    """What there is after it: how often each metric of each epoch, the order of epochs, and each final state."""

    success_rate: float
    losses: int
    metrics: Counter[tuple[str, str, int]]
    told: list[tuple[str, int]]
    states: dict[str, dict[str, bytes]]
    orphans: int


def killed(folder: Path, count: int, *, children: int, parents: int, mlflow: bool) -> Left:
    """Run it, killing that many children and then that many parents, at progress that is spread over the whole."""
    told: list[tuple[str, int]] = []
    results: list[Any] = []
    losses, orphans = 0, 0
    kills = ["child"] * children + ["parent"] * parents
    every = max(count * EPOCHS // (len(kills) + 1), 1)
    command = [sys.executable, "-m", "tests.crash.training_kills", "--parent", str(folder), str(count), str(int(mlflow))]
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


def main(folder: Path, count: int, children: int, parents: int) -> int:
    """Exit 3 unless everything came to its end as if nothing had been killed."""
    undisturbed = killed(folder / "undisturbed", count, children=0, parents=0, mlflow=False)
    left = killed(folder / "killed", count, children=children, parents=parents, mlflow=True)
    said = {
        "trainings": count,
        "success_rate": left.success_rate,
        "children_killed": children,
        "parents_killed": parents,
        "processes_lost_to_the_last_parent": left.losses,
        "metrics": len(left.metrics),
        "metrics_expected": len(undisturbed.metrics),
        "metrics_twice": sum(times > 1 for times in left.metrics.values()),
        "states_equal": left.states == undisturbed.states,
        "orphans": left.orphans,
    }
    print(json.dumps(said))
    held = left.metrics == undisturbed.metrics and left.states == undisturbed.states and left.success_rate == 1.0
    return 0 if held and not left.orphans else 3


if __name__ == "__main__":
    if sys.argv[1] == "--parent":
        ended = parent(Path(sys.argv[2]), int(sys.argv[3]), mlflow=bool(int(sys.argv[4])))
        print(json.dumps({"outcomes": [one.outcome.value for one in ended], "losses": sum(one.losses for one in ended)}))
    else:
        sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
