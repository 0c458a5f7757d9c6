"""ExperimentLog over MLflow: one thread writes, first to a file on disk, then to the store, where each thing is once."""

import json
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from finagent.adapters.durable_files import append_file, sync_folder
from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.roles import one_writer
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.ports.experiment_log import Lineage, TrackedTraining, TrainingOutcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = structlog.get_logger(__name__)
KEY_TAG = "finagent.training"
LOCK = ".lock"
_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,119}")
_WAITING_MAX, _GROUP_MAX, _BATCH_MAX, _TEXT_MAX = 10_000, 500, 900, 500
_LOCK_SECONDS = 1.0


@dataclass
class _Kept:
    """What the file of one training says, and how much of it the store has."""

    training: TrackedTraining
    epochs: dict[int, tuple[int, dict[str, float]]] = field(default_factory=dict)  # epoch -> milliseconds since 1970, metrics
    outcome: TrainingOutcome | None = None
    run_id: str | None = None
    sent: set[tuple[str, int]] = field(default_factory=set)
    refused: bool = False


class Tracking:
    """A context: within it one thread appends what it is told to `spool` and sends it on. Where the store is away it is asked
    again every `retry_seconds`, and what it lacks stays on disk, to be sent by the next process. Transient where another process
    has the spool, BadInput where a file of it is damaged.

    What the store has is read from the store itself: a training is found by a tag, and a metric that it has for an epoch is not
    sent again. So a kill between sending and noting it repeats nothing.
    """

    def __init__(self, spool: Path, store: MlflowStore, retry_seconds: float) -> None:
        self._spool, self._store, self._retry_seconds = spool, store, retry_seconds
        self._told: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=_WAITING_MAX)
        self._kept: dict[str, _Kept] = {}
        self._whole: set[str] = set()  # the store has all of it, and its file is gone
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self._spool.mkdir(parents=True, exist_ok=True)
        with ExitStack() as exits:
            exits.enter_context(one_writer(self._spool / LOCK, _LOCK_SECONDS))
            for file in sorted(self._spool.glob("*.jsonl")):
                self._take_up(file)
            self._exits = exits.pop_all()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What was told is on disk, and in the store where it answered."""
        self._closing.set()
        self._thread.join()
        self._exits.close()

    def begin(self, training: TrackedTraining) -> None:
        if not _KEY.fullmatch(training.key):
            raise BadInput(f"{training.key!r} is no key of a training: letters, digits, dots and dashes")
        self._told.put({"key": training.key, "begin": asdict(training)})

    def epoch(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self._told.put({"key": key, "epoch": epoch, "metrics": dict(metrics), "at": time.time_ns() // 1_000_000})

    def end(self, key: str, outcome: TrainingOutcome) -> None:
        self._told.put({"key": key, "end": outcome.value})

    def unsent(self) -> int:
        """Trainings of which the store lacks something, after the context has ended."""
        return len(self._kept)

    def _work(self) -> None:
        waiting: list[dict[str, Any]] = []
        ask_again = 0.0
        while True:
            closing = self._closing.is_set()
            waiting += self._taken()
            try:
                while waiting:
                    self._keep(waiting[0])
                    del waiting[0]
            except OSError:
                log.exception("tracking_not_kept", waiting=len(waiting))
            if closing or time.monotonic() >= ask_again:
                try:
                    self._send_all()
                except (Transient, Unavailable) as away:
                    ask_again = time.monotonic() + self._retry_seconds
                    log.warning("tracking_store_away", reason=str(away), trainings=len(self._kept))
            if closing and self._told.empty():
                return

    def _taken(self) -> list[dict[str, Any]]:
        """What was told since, waiting for it unless the end has come."""
        found = []
        try:
            found.append(self._told.get(timeout=0.0 if self._closing.is_set() else min(self._retry_seconds, 0.2)))
            while len(found) < _GROUP_MAX:
                found.append(self._told.get_nowait())
        except (queue.Empty, ValueError):
            pass
        return found

    def _keep(self, line: dict[str, Any]) -> None:
        """On disk, unless it is there already."""
        kept = self._kept.get(line["key"])
        if kept is None and line["key"] in self._whole:
            return
        if kept is None and "begin" not in line:
            log.error("tracking_without_begin", training=line["key"])
        elif kept is None or not _says(kept, line):
            append_file(self._spool / f"{line['key']}.jsonl", json.dumps(line).encode() + b"\n")
            self._note(line)

    def _take_up(self, file: Path) -> None:
        for number, line in enumerate(_lines(file), 1):
            try:
                self._note(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(
                    f"{file} is damaged in line {number} ({type(error).__name__}: {error}): move it away, and MLflow lacks what "
                    "that training told since"
                ) from error

    def _note(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            told = line["begin"]
            self._kept[line["key"]] = _Kept(TrackedTraining(**(told | {"lineage": Lineage(**told["lineage"])})))
        elif "end" in line:
            self._kept[line["key"]].outcome = TrainingOutcome(line["end"])
        else:
            self._kept[line["key"]].epochs[line["epoch"]] = (line["at"], line["metrics"])

    def _send_all(self) -> None:
        for key, kept in list(self._kept.items()):
            if kept.refused:
                continue
            try:
                with self._store.asking() as client:
                    self._send(client, kept)
            except BadInput:
                kept.refused = True
                log.exception("tracking_refused", training=key)
                continue
            if kept.outcome is not None:
                (self._spool / f"{key}.jsonl").unlink(missing_ok=True)
                sync_folder(self._spool)
                del self._kept[key]
                self._whole.add(key)

    def _send(self, client: "MlflowClient", kept: _Kept) -> None:
        from mlflow.entities import Metric

        known, kept.run_id = kept.run_id, None  # should the store fail halfway, it is asked what it has
        if known is None:
            known, kept.sent = self._found(client, kept.training)
        lacking = [
            Metric(name, value, at, epoch)
            for epoch, (at, metrics) in sorted(kept.epochs.items())
            for name, value in metrics.items()
            if (name, epoch) not in kept.sent
        ]
        for batch in _batches(lacking):
            client.log_batch(known, metrics=batch)
            kept.sent |= {(metric.key, metric.step) for metric in batch}
        if kept.outcome is not None:
            client.set_terminated(known, kept.outcome.value)
        kept.run_id = known

    def _found(self, client: "MlflowClient", training: TrackedTraining) -> tuple[str, set[tuple[str, int]]]:
        """The run of that training, made where there is none, and which metric of which epoch it has."""
        from mlflow.entities import Param

        experiment = self._store.experiment(client, training.experiment)
        wanted = f"tags.`{KEY_TAG}` = '{training.key}'"
        runs = list(client.search_runs([experiment], filter_string=wanted, max_results=1))
        if runs:
            run = runs[0]
        else:
            tags = {f"finagent.{name}": value for name, value in asdict(training.lineage).items()}
            run = client.create_run(experiment, tags={KEY_TAG: training.key, **tags}, run_name=training.key)
        parameters = [Param(name, value[:_TEXT_MAX]) for name, value in training.parameters.items()]
        client.log_batch(run.info.run_id, params=parameters)  # the same again changes nothing
        histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
        return run.info.run_id, {(metric.key, metric.step) for history in histories for metric in history}


def _says(kept: _Kept, line: dict[str, Any]) -> bool:
    """Whether that was told before."""
    return "begin" in line or ("end" in line and kept.outcome is not None) or line.get("epoch") in kept.epochs


def _lines(file: Path) -> Iterator[bytes]:
    """Of a file whose writer may have been killed within the last one, which is cut off then."""
    data = file.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with file.open("r+b") as stream:
            stream.truncate(whole)
    yield from data[:whole].splitlines()


def _batches(metrics: list[Any]) -> Iterator[list[Any]]:
    rest = iter(metrics)
    while batch := list(islice(rest, _BATCH_MAX)):
        yield batch
