"""The job history over the store."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finagent.adapters.database.reader import StoreReads
from finagent.domain.jobs import JobStatus
from finagent.services.forensics.job_history import JobRecord

_COLUMNS = (
    "id, type, status, dedup_key, payload, priority, run_at, attempts, crashes, trace_id, parent_id, last_error, created_at, "
    "started_at, finished_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM job_queue"  # noqa: S608  constant text


@dataclass(frozen=True, slots=True)
class StoredJobHistory:
    """Reads `job_queue` through the store's read-only connection (see the JobHistory port)."""

    reads: StoreReads

    def job(self, job_id: int) -> JobRecord | None:
        rows = self.reads.rows(f"{_SELECT} WHERE id = ?", (job_id,))
        return _record(rows[0]) if rows else None

    def of_trace(self, trace_id: str) -> list[JobRecord]:
        return [_record(row) for row in self.reads.rows(f"{_SELECT} WHERE trace_id = ? ORDER BY id", (trace_id,))]

    def listed(self, status: JobStatus | None, job_type: str | None, limit: int) -> list[JobRecord]:
        wanted = {"status": status.name if status else None, "type": job_type}
        conditions = [f"{column} = ?" for column, value in wanted.items() if value is not None]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        values = (*(value for value in wanted.values() if value is not None), limit)
        return [_record(row) for row in self.reads.rows(f"{_SELECT}{where} ORDER BY id DESC LIMIT ?", values)]

    def counts(self) -> list[tuple[str, JobStatus, int]]:
        rows = self.reads.rows("SELECT type, status, count(*) FROM job_queue GROUP BY type, status ORDER BY type, status")
        return [(kind, JobStatus[status], count) for kind, status, count in rows]


def _record(row: tuple[Any, ...]) -> JobRecord:
    job_id, kind, status, key, payload, priority, run_at, attempts, crashes, trace, parent, error, created, started, finished = (
        row
    )
    return JobRecord(
        job_id,
        kind,
        JobStatus[status],
        key,
        json.loads(payload),
        priority,
        datetime.fromisoformat(run_at),
        attempts,
        crashes,
        trace,
        parent,
        error or "",
        datetime.fromisoformat(created),
        datetime.fromisoformat(started) if started else None,
        datetime.fromisoformat(finished) if finished else None,
    )
