"""The job history over the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from finagent.adapters.database.reader import StoreReads
from finagent.adapters.job_queue.errors import newest_first
from finagent.domain.jobs import JobStatus
from finagent.domain.time import from_text
from finagent.services.forensics.job_history import JobRecord

_NAMES = tuple(field.name for field in fields(JobRecord))  # each is a column
_TIMES = ("run_at", "created_at", "started_at", "finished_at")
_SELECT = f"SELECT {', '.join(_NAMES)} FROM job_queue"  # noqa: S608  constant text


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


def record_of(row: Mapping[str, Any]) -> JobRecord:
    """The record of a row of `job_queue`."""
    values = {name: row[name] for name in _NAMES}
    for name in _TIMES:
        values[name] = from_text(values[name]) if values[name] else None
    values |= {"status": JobStatus[values["status"]], "payload": json.loads(values["payload"])}
    values |= {"last_error": values["last_error"] or "", "errors": newest_first(values["errors"])}
    return JobRecord(**values)


def _record(row: tuple[Any, ...]) -> JobRecord:
    return record_of(dict(zip(_NAMES, row, strict=True)))
