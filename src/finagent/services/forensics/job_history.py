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


class JobHistory(Protocol):
    """Reads rows of the queue; blocks for as long as a query of a local file takes. Finished rows may have been pruned."""

    def job(self, job_id: int) -> JobRecord | None: ...

    def of_trace(self, trace_id: str) -> list[JobRecord]:
        """The jobs of a trace, by id."""
        ...

    def listed(self, status: JobStatus | None, job_type: str | None, limit: int) -> list[JobRecord]:
        """The newest `limit` rows that match, newest first."""
        ...

    def counts(self) -> list[tuple[str, JobStatus, int]]:
        """(type, status, rows), ordered."""
        ...
