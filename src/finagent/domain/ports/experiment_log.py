"""What was tried and what came of it, kept where people look for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class TrainingOutcome(Enum):
    """How a training ended."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a training depends on, so that it can be made again, and who asked for it."""

    data_hash: str
    settings_hash: str
    data_spec_hash: str
    code_version: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class TrackedTraining:
    """One training as it is told to the log. `key` is the same each time that it is resumed."""

    key: str
    experiment: str
    parameters: Mapping[str, str]
    lineage: Lineage


class ExperimentLog(Protocol):
    """Each training, each metric of each epoch and each end is there once, however often it is told.

    Calls do not wait for the store: what is told is kept on disk until the store has it. Safe from any thread.
    """

    def begin(self, training: TrackedTraining) -> None: ...

    def epoch(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Metrics of an epoch, counted from 1, all finite, of a training that was begun."""
        ...

    def end(self, key: str, outcome: TrainingOutcome) -> None: ...
