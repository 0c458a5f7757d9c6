"""Jobs as rows that a person looks at: every state, with errors and times."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from finagent.domain.jobs import JobStatus


@dataclass(frozen=True, slots=True)
class JobError:
    """One error of a job: how often its handler had failed by then, counted anew since a person brought it back."""

    attempts: int
    at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One row of the queue; `errors` are the last ones, newest first. Times before `run_at` are those of the process's clock."""

    id: int
    type: str
    queue: str
    status: JobStatus
    dedup_key: str
    payload: dict[str, Any]
    payload_version: int
    priority: int
    run_at: datetime
    attempts: int
    crashes: int
    trace_id: str
    parent_id: int | None
    last_error: str
    errors: tuple[JobError, ...]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which rows: all that meet every condition that is there.

    `about` is the id of a trace, or any id that stands in the payload (run, decision, order); `key` how the key begins; `error`
    a part of the last error, in any case. `waits_for_a_person`: DEAD or PARKED, and not yet given up by a person.
    """

    status: JobStatus | None = None
    type: str | None = None
    queue: str | None = None
    about: str | None = None
    key: str | None = None
    created_before: datetime | None = None
    error: str | None = None
    waits_for_a_person: bool = False


@dataclass(frozen=True, slots=True)
class JobCount:
    """How many jobs of a type are in a state, and since when the longest due of those that wait has been."""

    type: str
    queue: str
    status: JobStatus
    jobs: int
    oldest_due: datetime | None


class JobHistory(Protocol):
    """Reads rows of the queue; blocks for as long as a query of a local file takes. Finished rows may have been pruned."""

    def job(self, job_id: int) -> JobRecord | None: ...

    def of_trace(self, trace_id: str) -> list[JobRecord]:
        """The jobs of a trace, by id."""
        ...

    def listed(self, wanted: JobFilter, limit: int) -> list[JobRecord]:
        """The newest `limit` rows that match, newest first."""
        ...

    def counts(self, now: datetime) -> list[JobCount]:
        """One for each type, service and state of which there are jobs, in this order."""
        ...

    def known(self) -> tuple[set[str], set[str]]:
        """The types and the services of the jobs that are there, of whatever release."""
        ...
