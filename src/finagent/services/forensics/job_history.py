"""Jobs as rows that a person looks at: every state, with errors and times."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from finagent.domain.jobs import JobStatus


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One row of the queue. Times before `run_at` are those of the process's clock."""

    id: int
    type: str
    status: JobStatus
    dedup_key: str
    payload: dict[str, Any]
    priority: int
    run_at: datetime
    attempts: int
    crashes: int
    trace_id: str
    parent_id: int | None
    last_error: str
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
