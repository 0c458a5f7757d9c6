"""The statements of `job_queue`. Each names its status as a literal, so that the partial index of that status serves it."""
# ruff: noqa: S608 - the statements are put together from constants of this file alone

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from finagent.adapters.database.registry import stored
from finagent.domain.jobs import DISCARDED, Job

CRASHES_OF_QUARANTINE = 2  # also a literal in the statements below and in the index that serves them
_NO_ID = 0
JOB_COLUMNS = tuple(stored(Job).codec.columns)
_COLUMNS = ", ".join(JOB_COLUMNS)

INSERT = """
INSERT INTO job_queue (id, queue, type, payload, payload_version, status, priority, run_at, attempts, crashes, solo_crashes,
  max_attempts, epoch, worker_id, fence, dedup_key, parent_id, trace_id, created_at, started_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (dedup_key) DO NOTHING"""

# Each comes from its index; the due SCHEDULED rows are few and sorted.
READY_FIRST = f"SELECT {_COLUMNS} FROM job_queue WHERE status = 'READY' ORDER BY priority, run_at, id LIMIT ?"
SCHEDULED_FIRST = f"""
SELECT {_COLUMNS} FROM job_queue WHERE status = 'SCHEDULED' AND run_at <= ? ORDER BY priority, run_at, id LIMIT ?"""

WAITING = "SELECT id FROM job_queue WHERE status IN ('READY', 'SCHEDULED') ORDER BY id"
STUCK = "SELECT id, type, status FROM job_queue WHERE status IN ('DEAD', 'PARKED') ORDER BY id DESC LIMIT ?"

FIRST_QUARANTINED = """
SELECT priority, run_at, id FROM job_queue
WHERE crashes >= 2 AND status IN ('READY', 'SCHEDULED') AND (status = 'READY' OR run_at <= ?)
ORDER BY priority, run_at, id LIMIT 1"""

CLAIM = """
UPDATE job_queue SET status = 'RUNNING', epoch = ?, worker_id = ?, started_at = ?, fence = fence + 1
WHERE id = ? AND status IN ('READY', 'SCHEDULED')"""

PARK = """
UPDATE job_queue SET status = 'PARKED', finished_at = ?, last_error = ?, errors = ?
WHERE id = ? AND status IN ('READY', 'SCHEDULED')"""

ERRORS = "SELECT errors FROM job_queue WHERE id = ?"

# `fence` counts the claims of a row: it fences off a handler that was given up and ran on while its job was claimed again.
_OWNED = "WHERE id = ? AND epoch = ? AND fence = ? AND status = 'RUNNING'"
ACKNOWLEDGE = f"UPDATE job_queue SET status = 'DONE', finished_at = ? {_OWNED}"
RETRY = f"""
UPDATE job_queue SET status = 'SCHEDULED', epoch = 0, attempts = attempts + 1, run_at = ?, last_error = ?, errors = ? {_OWNED}"""
BURY = (
    f"UPDATE job_queue SET status = ?, epoch = 0, attempts = attempts + 1, finished_at = ?, last_error = ?, errors = ? {_OWNED}"
)
RELEASE = f"UPDATE job_queue SET status = 'READY', epoch = 0 {_OWNED}"

RUNNING = f"SELECT {_COLUMNS}, solo_crashes FROM job_queue WHERE status = 'RUNNING' ORDER BY priority, run_at, id"
RESCUE = "UPDATE job_queue SET status = 'READY', epoch = 0, crashes = crashes + 1, solo_crashes = ? WHERE id = ?"
BURY_KILLER = """
UPDATE job_queue SET status = ?, epoch = 0, crashes = crashes + 1, solo_crashes = ?, finished_at = ?, last_error = ?, errors = ?
WHERE id = ?"""

QUARANTINED = "SELECT count(*) FROM job_queue WHERE crashes >= 2 AND status IN ('READY', 'SCHEDULED')"

BY_ID = f"SELECT {_COLUMNS}, status, coalesce(last_error, '') FROM job_queue WHERE id = ?"
BRING_BACK = """
UPDATE job_queue SET status = 'READY', epoch = 0, attempts = 0, crashes = 0, solo_crashes = 0, payload = ?, run_at = ?,
  worker_id = NULL, started_at = NULL, finished_at = NULL
WHERE id = ? AND status IN ('DEAD', 'PARKED')"""
GIVE_UP = """
UPDATE job_queue SET status = 'DEAD', last_error = ?, errors = ?, finished_at = ? WHERE id = ? AND status IN ('DEAD', 'PARKED')"""

PRUNE = """
DELETE FROM job_queue WHERE id IN (
  SELECT id FROM job_queue WHERE status = 'DONE' AND finished_at < ? ORDER BY finished_at LIMIT ?)"""

PRUNE_DISCARDED = f"""
DELETE FROM job_queue WHERE id IN (
  SELECT id FROM job_queue WHERE status IN ('DEAD', 'PARKED') AND status = 'DEAD' AND finished_at < ?
  AND substr(last_error, 1, {len(DISCARDED)}) = '{DISCARDED}' ORDER BY id LIMIT ?)"""

NEXT_DUE = """
SELECT min(run_at) FROM (
  SELECT min(run_at) AS run_at FROM job_queue WHERE status = 'READY'
  UNION ALL
  SELECT min(run_at) FROM job_queue WHERE status = 'SCHEDULED') AS waiting"""

COUNTS = """
SELECT 'READY', count(*) FROM job_queue WHERE status = 'READY'
UNION ALL SELECT 'RUNNING', count(*) FROM job_queue WHERE status = 'RUNNING'
UNION ALL SELECT 'SCHEDULED', count(*) FROM job_queue WHERE status = 'SCHEDULED'
UNION ALL SELECT 'DONE', count(*) FROM job_queue WHERE status = 'DONE'
UNION ALL SELECT status, count(*) FROM job_queue WHERE status IN ('DEAD', 'PARKED') GROUP BY status"""

RUN_SETTLED = """
SELECT NOT EXISTS (
  SELECT 1 FROM candidate WHERE run_id = ?
  AND NOT EXISTS (SELECT 1 FROM trade_plan WHERE trade_plan.decision_id = candidate.decision_id)
  AND NOT EXISTS (SELECT 1 FROM decision_outcome WHERE decision_outcome.decision_id = candidate.decision_id))"""

WITHOUT_OUTCOME = """
SELECT 1 FROM candidate WHERE decision_id = ?
AND NOT EXISTS (SELECT 1 FROM decision_outcome WHERE decision_outcome.decision_id = candidate.decision_id)"""

EPOCH = """
INSERT INTO meta (key, value) VALUES ('epoch', 1) ON CONFLICT (key) DO UPDATE SET value = meta.value + 1 RETURNING value"""
RESERVE_IDS = """
INSERT INTO meta (key, value) VALUES ('next_job_id', 1 + ?) ON CONFLICT (key) DO UPDATE SET value = meta.value + ?
RETURNING value"""
LAST_EVENT = "SELECT coalesce(max(event_id), 0) FROM decision_event"
MARKET_CLOCK = "SELECT at FROM market_clock WHERE id = 1"
CARRY_CLOCK = "UPDATE market_clock SET at = ? WHERE id = 1 AND at < ?"


def among(statement: str, ids: Sequence[int] | None) -> tuple[str, Sequence[int]]:
    """The statement for these jobs alone, with its values; their number is rounded up, so that few statements are prepared."""
    if ids is None:
        return statement, ()
    places = 1 << max(0, len(ids) - 1).bit_length()
    marks = ", ".join("?" * places)
    return statement.replace("ORDER BY", f"AND id IN ({marks}) ORDER BY"), [*ids, *[_NO_ID] * (places - len(ids))]


def job(row: tuple[Any, ...]) -> Job:
    """The job of a row of JOB_COLUMNS."""
    id_, type_, payload, version, priority, run_at, attempts, crashes, epoch, trace_id, key, fence = row
    at = datetime.fromisoformat(run_at)
    return Job(id_, type_, orjson.loads(payload), version, priority, at, attempts, crashes, epoch, trace_id, key, fence)


def claimed(row: tuple[Any, ...], epoch: int) -> Job:
    """The job of a row that waits, as it is once it is claimed."""
    *waiting, _, trace_id, key, fence = row
    return job((*waiting, epoch, trace_id, key, fence + 1))


def place(row: tuple[Any, ...]) -> tuple[int, str, int]:
    """Where a row of JOB_COLUMNS stands in the claim order."""
    return row[4], row[5], row[0]


def epoch(row: tuple[Any, ...]) -> int:
    """The life that claimed a row of JOB_COLUMNS."""
    return int(row[8])
