"""Many trainings at once, in processes of their own: each gets an epoch in turn, and goes on where it was when anything died."""

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.experiment_log import ExperimentLog, TrackedTraining, TrainingOutcome
from finagent.services.models.accelerator import AcceleratorLedger, Device

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Training:
    """One experiment to run: `factory` names what makes it of recipe and data as `module:function`, `folder` keeps its
    checkpoint. `architecture` is what decides how much memory it takes."""

    told: TrackedTraining
    factory: str
    recipe: Mapping[str, object]
    data: str
    folder: str
    architecture: str

    @property
    def key(self) -> str:
        return self.told.key


@dataclass(frozen=True, slots=True)
class Turn:
    """What a worker is asked: go on with that training for one epoch, on that device, with batches divided by `batch_divisor`.
    `known` epochs need not be told again."""

    training: Training
    known: int
    device: Device
    batch_divisor: int


@dataclass(frozen=True, slots=True)
class TurnReport:
    """How far the training is by now, on disk. `figures` are those of the epochs after `known`; `epochs` how many there are at
    most; `peak_bytes` the most memory of the device that it took."""

    done: int
    epochs: int
    finished: bool
    figures: tuple[Figures, ...]
    peak_bytes: int = 0


class WorkerLost(Transient):
    """The process that worked on it is gone; what it had stored stays."""


class OutOfMemory(Transient):
    """The device had not enough memory for it; nothing of that epoch happened."""


class TrainingWorker(Protocol):
    """One child process. One turn at a time."""

    async def run(self, turn: Turn) -> TurnReport:
        """Raises WorkerLost, after which it is of no use; OutOfMemory; and BadInput for a training that cannot go on, which says
        the same when it is asked again."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingPolicy:
    """At most `workers` processes at once. A training is given up after `losses_max` processes in a row died over one epoch of
    it; where memory does not suffice its batches are halved up to `shrinks_max` times, then the CPU takes it."""

    workers: int
    losses_max: int
    shrinks_max: int

    def __post_init__(self) -> None:
        if self.workers < 1 or self.losses_max < 1 or self.shrinks_max < 0:
            raise BadInput(f"training: workers and losses_max must be at least 1, shrinks_max at least 0: {self}")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """`figures` are those of the last epoch; `losses` how many processes died over it."""

    key: str
    outcome: TrainingOutcome
    reason: str
    done: int
    figures: Figures
    losses: int


def success_rate(results: Sequence[TrainingResult]) -> float:
    """Of all that were asked for."""
    return sum(result.outcome is TrainingOutcome.FINISHED for result in results) / len(results) if results else 1.0


@dataclass(slots=True)
class _Going:
    training: Training
    order: int
    done: int = 0
    epochs: int = 0
    figures: Figures = field(default_factory=dict)
    losses: int = 0
    losses_in_a_row: int = 0
    shrinks: int = 0
    cpu_only: bool = False


@dataclass(slots=True)
class TrainingOrchestrator:
    """`progress` is told of each epoch: key, epochs done, epochs at most. Cancelling it ends the processes; what was done is
    kept, and the same call goes on from there."""

    start_worker: Callable[[], TrainingWorker]
    log: ExperimentLog
    policy: TrainingPolicy
    ledger: AcceleratorLedger
    progress: Callable[[str, int, int], None] = lambda *_: None
    _waiting: list[tuple[int, int, _Going]] = field(default_factory=list, init=False)
    _left: int = field(default=0, init=False)
    _results: dict[str, TrainingResult] = field(default_factory=dict, init=False)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)

    async def run(self, trainings: Sequence[Training]) -> tuple[TrainingResult, ...]:
        """Each to its end, in the order in which they were given. BadInput where two have one key."""
        keys = [training.key for training in trainings]
        if len(set(keys)) != len(keys):
            raise BadInput("trainings: two have the same key")
        self._waiting = [(0, order, _Going(training, order)) for order, training in enumerate(trainings)]
        self._left, self._results = len(trainings), {}
        for training in trainings:
            self.log.begin(training.told)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.policy.workers, len(trainings))):
                group.create_task(self._slot())
        return tuple(self._results[key] for key in keys)

    async def _slot(self) -> None:
        """One worker at a time: the training that has had the fewest epochs comes next."""
        worker: TrainingWorker | None = None
        try:
            while (found := await self._next()) is not None:
                going, device = found
                worker = worker or self.start_worker()
                try:
                    await self._turn(worker, going, device)
                except WorkerLost as lost:
                    worker = None
                    self._lost(going, lost, device)
                finally:
                    self.ledger.release(going.training.key)
                await self._give_back(going)
        finally:
            if worker is not None:
                await worker.close()

    async def _next(self) -> tuple[_Going, Device] | None:
        """The next one that fits the device; those that do not wait until something is given back. None: all have ended."""
        async with self._changed:
            while self._left:
                for place in sorted(self._waiting, key=lambda entry: entry[:2]):
                    going = place[2]
                    device = self.ledger.place(going.training.key, going.training.architecture, cpu_only=going.cpu_only)
                    if device is not None:
                        self._waiting.remove(place)
                        heapq.heapify(self._waiting)
                        return going, device
                await self._changed.wait()
            return None

    async def _turn(self, worker: TrainingWorker, going: _Going, device: Device) -> None:
        training = going.training
        try:
            report = await worker.run(Turn(training, going.done, device, 2**going.shrinks))
        except OutOfMemory:
            if going.shrinks < self.policy.shrinks_max:
                going.shrinks += 1
            elif device is Device.CPU:
                self._end(going, TrainingOutcome.FAILED, f"it takes more memory than there is, with batches 1/{2**going.shrinks}")
            else:
                going.cpu_only, going.shrinks = True, 0
            return
        except BadInput as refusal:
            self._end(going, TrainingOutcome.FAILED, str(refusal))
            return
        for epoch, figures in enumerate(report.figures, going.done + 1):
            self.log.epoch(training.key, epoch, figures)
            going.figures = figures
        self.ledger.measured(training.architecture, device, report.peak_bytes)
        going.done, going.epochs, going.losses_in_a_row = report.done, report.epochs, 0
        self.progress(training.key, report.done, report.done if report.finished else report.epochs)
        if report.finished:
            self._end(going, TrainingOutcome.FINISHED, "")

    def _lost(self, going: _Going, lost: WorkerLost, device: Device) -> None:
        """Whatever it died of, the accelerator is not trusted with that training again."""
        going.cpu_only = going.cpu_only or device is Device.ACCELERATOR
        going.losses += 1
        going.losses_in_a_row += 1
        if going.losses_in_a_row >= self.policy.losses_max:
            self._end(going, TrainingOutcome.FAILED, f"{going.losses_in_a_row} processes died over it: {lost}")

    def _end(self, going: _Going, outcome: TrainingOutcome, reason: str) -> None:
        key = going.training.key
        self.log.end(key, outcome)
        self._results[key] = TrainingResult(key, outcome, reason, going.done, going.figures, going.losses)
        self._left -= 1

    async def _give_back(self, going: _Going) -> None:
        async with self._changed:
            if going.training.key not in self._results:
                heapq.heappush(self._waiting, (going.done, going.order, going))
            self._changed.notify_all()
