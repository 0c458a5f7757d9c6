"""What a person does to jobs that nobody runs any more: bring one back, or give it up."""

from datetime import datetime
from typing import Any

from finagent.adapters.database.codec import payload_json
from finagent.adapters.database.connection import Driver
from finagent.adapters.database.effects import encode
from finagent.adapters.database.writer import Done, Moved
from finagent.adapters.job_queue import rows
from finagent.adapters.job_queue.operations import NO_OTHER_SUBJECT, JobOperations, subject_of
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput
from finagent.domain.jobs import DISCARDED, JOB_TRANSITIONS, RETRIED, WAITS_FOR_A_PERSON, Job, JobStatus
from finagent.domain.payloads import Release
from finagent.domain.time import to_text


class HandOperations(JobOperations):
    """The operations of the queue and those of a person."""

    def retry(self, job_id: int, by: str, at: datetime, driver: Driver) -> Done:
        """A DEAD or PARKED row waits again as if it had never failed."""
        self._require_recovered()
        job, status, error = _stuck(driver, job_id, JobStatus.READY)
        require_retriable(job, status, self._policy.release)
        driver.execute(rows.BRING_BACK, (payload_json(job.payload | {RETRIED: True}), to_text(at), job_id))
        told = Effect(events=(hand_event(job, "job_retried", at, by=by, was=status.name, error=error),))
        return self._told(driver, told, Moved(job_id, job.type, JobStatus.READY), at)

    def discard(self, job_id: int, reason: str, by: str, at: datetime, driver: Driver) -> Done:
        """A DEAD or PARKED row is DEAD for good, and its candidate has ended."""
        self._require_recovered()
        job, status, error = _stuck(driver, job_id, JobStatus.DEAD)
        given_up = f"{DISCARDED}{by}: {reason}"
        errors = self._remember(driver, job, job.attempts, given_up[: self._policy.error_length_max], at)
        driver.execute(rows.GIVE_UP, (last_error(given_up, error)[: self._policy.error_length_max], errors, to_text(at), job_id))
        event = hand_event(job, "job_discarded", at, by=by, reason=reason, was=status.name, error=error)
        told = Effect(events=(event,))
        if event.decision_id and driver.execute(rows.WITHOUT_OUTCOME, (event.decision_id,)).fetchall():
            told += Effect((DecisionOutcome(event.decision_id, SignalOutcome.DEAD, f"{job.type}: {given_up}", at),))
        return self._told(driver, told, Moved(job_id, job.type, JobStatus.DEAD), at)

    def _told(self, driver: Driver, told: Effect, moved: Moved, at: datetime) -> Done:
        self._apply(driver, [encode(told, self.chains)])
        labels = self._carry_clock(driver, to_text(at)) | {"effect_commit"}
        return Done(moved.status, labels=labels, effects=((told, None),), moved=(moved,))


def _stuck(driver: Driver, job_id: int, to: JobStatus) -> tuple[Job, JobStatus, str]:
    """The job, its status and last error; raises BadInput for one that a person may not move to `to`."""
    found = driver.execute(rows.BY_ID, (job_id,)).fetchall()
    if not found:
        raise unknown_job(job_id)
    *columns, name, error = found[0]
    job, status = rows.job(tuple(columns)), JobStatus[name]
    require_movable(job, status, to)
    return job, status, error


def unknown_job(job_id: int) -> BadInput:
    """What is said of an id that no job has."""
    return BadInput(f"there is no job {job_id}; finished jobs are pruned after queue.done_days")


def require_movable(job: Job, status: JobStatus, to: JobStatus) -> None:
    """A person moves only what waits for a person, and only along the table."""
    if status not in WAITS_FOR_A_PERSON or to not in JOB_TRANSITIONS[status] | {status}:
        raise BadInput(f"{job.type} job {job.id} is {status.name}: only a job that is DEAD or PARKED is retried or discarded")


def require_retriable(job: Job, status: JobStatus, release: Release) -> None:
    """A discarded job about an order does not come back: its candidate has ended. One of another release comes back to that."""
    release.current(job)
    if status is JobStatus.DEAD and job.parks:
        raise BadInput(f"{job.type} job {job.id} is about an order, and a person has given it up for good")


def last_error(given_up: str, before: str | None) -> str:
    """What a discarded row keeps of its past."""
    return f"{given_up} (before: {before})" if before else given_up


def hand_event(job: Job, kind: str, at: datetime, **more: Any) -> DecisionEvent:
    """What a person did to a job, in the story of its decision or run, else of the account."""
    subject_type, subject_id = subject_of(job.payload) or NO_OTHER_SUBJECT
    decision_id = subject_id if subject_type is SubjectType.DECISION else None
    counts = {"job": job.id, "type": job.type, "key": job.dedup_key, "attempts": job.attempts, "crashes": job.crashes}
    return DecisionEvent(subject_type, subject_id, kind, at, job.trace_id, decision_id, counts | more)
