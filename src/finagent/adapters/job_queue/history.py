"""The job history over the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from finagent.adapters.database.codec import canonical_json
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.job_queue.errors import newest_first
from finagent.domain.jobs import DISCARDED, JobStatus
from finagent.domain.time import from_text, to_text
from finagent.services.forensics.job_history import JobCount, JobFilter, JobRecord

_NAMES = tuple(field.name for field in fields(JobRecord))  # each is a column
_TIMES = ("run_at", "created_at", "started_at", "finished_at")
_SELECT = f"SELECT {', '.join(_NAMES)} FROM job_queue"  # noqa: S608  constant text


_COUNT = """
SELECT type, queue, status, count(*), min(CASE WHEN status IN ('READY', 'SCHEDULED') AND run_at <= ? THEN run_at END)
FROM job_queue GROUP BY type, queue, status ORDER BY type, queue, status"""


@dataclass(frozen=True, slots=True)
class StoredJobHistory:
    """Reads `job_queue` through the store's read-only connection (see the JobHistory port)."""

    reads: StoreReads

    def job(self, job_id: int) -> JobRecord | None:
        rows = self.reads.rows(f"{_SELECT} WHERE id = ?", (job_id,))
        return _record(rows[0]) if rows else None

    def of_trace(self, trace_id: str) -> list[JobRecord]:
        return [_record(row) for row in self.reads.rows(f"{_SELECT} WHERE trace_id = ? ORDER BY id", (trace_id,))]

    def listed(self, wanted: JobFilter, limit: int) -> list[JobRecord]:
        conditions, values = _conditions(wanted)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return [_record(row) for row in self.reads.rows(f"{_SELECT}{where} ORDER BY id DESC LIMIT ?", (*values, limit))]

    def counts(self, now: datetime) -> list[JobCount]:
        counted = self.reads.rows(_COUNT, (to_text(now),))
        return [
            JobCount(kind, queue, JobStatus[status], jobs, from_text(oldest) if oldest else None)
            for kind, queue, status, jobs, oldest in counted
        ]

    def known(self) -> tuple[set[str], set[str]]:
        found = self.reads.rows("SELECT DISTINCT type, queue FROM job_queue")
        return {kind for kind, _ in found}, {queue for _, queue in found}


def _conditions(wanted: JobFilter) -> tuple[list[str], list[Any]]:
    """The conditions of a filter and their values, in the same order."""
    parts: list[tuple[str, tuple[Any, ...]]] = []
    if wanted.status is not None:
        parts.append(("status = ?", (wanted.status.name,)))
    if wanted.type is not None:
        parts.append(("type = ?", (wanted.type,)))
    if wanted.queue is not None:
        parts.append(("queue = ?", (wanted.queue,)))
    if wanted.about is not None:
        in_payload = f"%:{_literal(canonical_json(wanted.about))}%"
        parts.append(("(trace_id = ? OR payload LIKE ? ESCAPE '!')", (wanted.about, in_payload)))
    if wanted.key is not None:
        parts.append(("substr(dedup_key, 1, length(?)) = ?", (wanted.key, wanted.key)))
    if wanted.created_before is not None:
        parts.append(("created_at < ?", (to_text(wanted.created_before),)))
    if wanted.error is not None:
        parts.append(("lower(coalesce(last_error, '')) LIKE lower(?) ESCAPE '!'", (f"%{_literal(wanted.error)}%",)))
    if wanted.waits_for_a_person:
        mine = "status IN ('DEAD', 'PARKED') AND substr(coalesce(last_error, ''), 1, length(?)) <> ?"
        parts.append((mine, (DISCARDED, DISCARDED)))
    return [condition for condition, _ in parts], [value for _, values in parts for value in values]


def _literal(text: str) -> str:
    """A text as LIKE finds it, with `!` before what would stand for something else."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


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
