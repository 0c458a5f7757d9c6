"""Durable units of work: what they are, in which phase of an instant they run, what may become of them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any

from finagent.domain.errors import BadInput


class JobStatus(Enum):
    READY = "READY"
    RUNNING = "RUNNING"
    DONE = "DONE"
    SCHEDULED = "SCHEDULED"
    DEAD = "DEAD"
    PARKED = "PARKED"  # cannot go on and is not given up: about an order, or for another release; waits for a person


JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.READY: frozenset({JobStatus.RUNNING, JobStatus.DEAD, JobStatus.PARKED}),  # parked: written by another release
    JobStatus.SCHEDULED: frozenset({JobStatus.RUNNING, JobStatus.READY, JobStatus.DEAD, JobStatus.PARKED}),
    JobStatus.RUNNING: frozenset({JobStatus.DONE, JobStatus.READY, JobStatus.SCHEDULED, JobStatus.DEAD, JobStatus.PARKED}),
    JobStatus.DONE: frozenset(),
    JobStatus.DEAD: frozenset({JobStatus.READY}),  # a person retries it
    JobStatus.PARKED: frozenset({JobStatus.READY, JobStatus.DEAD}),  # a person retries it, or gives it up
}


WAITS_FOR_A_PERSON = frozenset({JobStatus.DEAD, JobStatus.PARKED})
DISCARDED = "discarded by "  # how the last error of a job begins that a person has given up; a handler's begins with its type
RETRIED = "retried"  # in the payload of a job that a person brought back: its counts start again, what it did outside stays done


class Phase(IntEnum):
    """The order of work inside one instant of lock-step time; lower phases are empty before a higher one starts."""

    PROTECT = 0  # orders, exits, look-ups
    DECIDE = 1  # scan to intents
    SEND = 2  # sends, one at a time in rank order


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of work: its service queue, its phase, its priority (lower first), whether it parks instead of dying, the version
    of the payload that this release writes (see `payloads`).

    Priorities follow the phases, so that the canonical order (priority, run_at, id) is also the order of the phases.
    """

    name: str
    queue: str
    phase: Phase
    priority: int
    parks: bool = False
    version: int = 1


DOUBLINGS_MAX = 64  # of a back-off: far beyond any cap, far below the largest float
SEND_ENTRY_PRIORITY = 100  # an entry is sent at this plus its rank: after every exit, in rank order

_TYPES = (
    JobType("session", "scheduler", Phase.PROTECT, 10),
    JobType("report", "scheduler", Phase.PROTECT, 45),
    JobType("reconcile", "reconciler", Phase.PROTECT, 20),
    JobType("watch", "risk", Phase.PROTECT, 25),
    JobType("trade_update", "reconciler", Phase.PROTECT, 20, parks=True),
    JobType("resolve", "execution", Phase.PROTECT, 20, parks=True),
    JobType("expire", "execution", Phase.PROTECT, 30, parks=True),
    JobType("protect", "execution", Phase.PROTECT, 30, parks=True),
    JobType("flatten", "execution", Phase.PROTECT, 40, parks=True),
    JobType("close_out", "execution", Phase.PROTECT, 40, parks=True),
    JobType("scan", "scanner", Phase.DECIDE, 50),
    JobType("score", "scoring", Phase.DECIDE, 50),
    JobType("plan", "planner", Phase.DECIDE, 50),
    JobType("gather", "risk", Phase.DECIDE, 60),
    JobType("risk", "risk", Phase.DECIDE, 60),
    JobType("execute", "execution", Phase.DECIDE, 60, parks=True),
    JobType("train", "scheduler", Phase.DECIDE, 65),
    JobType("send", "sender", Phase.SEND, 70, parks=True),
)
JOB_TYPES: dict[str, JobType] = {kind.name: kind for kind in _TYPES}


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. `attempts` counts handler failures, `crashes` process ends while it was RUNNING, `fence` its claims."""

    id: int
    type: str
    payload: dict[str, Any]
    payload_version: int
    priority: int
    run_at: datetime
    attempts: int
    crashes: int
    epoch: int
    trace_id: str
    dedup_key: str
    fence: int = 0

    @property
    def kind(self) -> JobType:
        return JOB_TYPES[self.type]

    @property
    def parks(self) -> bool:
        """The agent never gives it up: an order may hang on it, also where this release does not know its type."""
        kind = JOB_TYPES.get(self.type)
        return kind is None or kind.parks

    @property
    def ran_before(self) -> bool:
        """A handler may have acted outside for it already, whatever the counts say since a person brought it back."""
        return bool(self.attempts or self.crashes or RETRIED in self.payload)


@dataclass(frozen=True, slots=True)
class RunSettled:
    """Predicate: every candidate of the run is planned or has its signal outcome. Evaluated inside the commit."""

    run_id: str


Predicate = RunSettled


@dataclass(frozen=True, slots=True)
class Next:
    """A job to publish with an effect. `key` is unique over all states for ever: publishing it again does nothing.

    `run_at` None means at once; `when` makes it conditional on the state after the effect, inside the same transaction.
    """

    type: str
    key: str
    payload: dict[str, Any] = field(default_factory=dict)
    run_at: datetime | None = None
    when: Predicate | None = None
    priority: int | None = None
    trace_id: str = ""

    def __post_init__(self) -> None:
        if self.type not in JOB_TYPES:
            raise BadInput(f"unknown job type {self.type!r}")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Back-off `base_seconds * 2**attempts`, capped, times a jitter in [0.5, 1.5]; dead after `attempts_max` failures."""

    attempts_max: int
    base_seconds: float
    cap_seconds: float

    def delay_seconds(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after the given number of failures; `jitter` in [0, 1) comes from the caller."""
        doubled = self.base_seconds * 2.0 ** min(attempts, DOUBLINGS_MAX)
        return min(self.cap_seconds, doubled) * (0.5 + jitter)
