"""What a person does to jobs that nobody runs any more, in memory: the twin of `by_hand`."""

from datetime import datetime

from finagent.adapters.database.codec import payload_json
from finagent.adapters.database.writer import Done
from finagent.adapters.job_queue.by_hand import hand_event, last_error, require_movable, require_retriable, unknown_job
from finagent.adapters.job_queue.in_memory_effects import encode_records
from finagent.adapters.job_queue.in_memory_operations import InMemoryOperations
from finagent.adapters.job_queue.in_memory_rows import READY
from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.jobs import DISCARDED, RETRIED, Job, JobStatus
from finagent.domain.time import to_text

_CLEAN = dict.fromkeys(("epoch", "attempts", "crashes", "solo_crashes"), 0) | dict.fromkeys(
    ("worker_id", "started_at", "finished_at")
)


class InMemoryHandOperations(InMemoryOperations):
    """The operations of the queue and those of a person."""

    def retry(self, job_id: int, by: str, at: datetime) -> Done:
        """A DEAD or PARKED row waits again as if it had never failed."""
        job, status, error = self._stuck(job_id, JobStatus.READY)
        require_retriable(job, status, self._policy.release)
        payload = payload_json(job.payload | {RETRIED: True})
        self._change((job_id,), _CLEAN | {"status": READY, "payload": payload, "run_at": to_text(at)})
        event = hand_event(job, "job_retried", at, by=by, was=status.name, error=error)
        return self._told(Effect(events=(event,)), JobStatus.READY, at)

    def discard(self, job_id: int, reason: str, by: str, at: datetime) -> Done:
        """A DEAD or PARKED row is DEAD for good, and its candidate has ended."""
        job, status, error = self._stuck(job_id, JobStatus.DEAD)
        given_up = f"{DISCARDED}{by}: {reason}"
        kept = last_error(given_up, error)[: self._policy.error_length_max]
        errors = self._remember((job_id,), job.attempts, given_up[: self._policy.error_length_max], at)
        self._change((job_id,), {"status": JobStatus.DEAD.name, "finished_at": to_text(at)} | errors | {"last_error": kept})
        event = hand_event(job, "job_discarded", at, by=by, reason=reason, was=status.name, error=error)
        told = Effect(events=(event,))
        if event.decision_id and self._is_open(event.decision_id):
            told += Effect((DecisionOutcome(event.decision_id, SignalOutcome.DEAD, f"{job.type}: {given_up}", at),))
        return self._told(told, JobStatus.DEAD, at)

    def _stuck(self, job_id: int, to: JobStatus) -> tuple[Job, JobStatus, str | None]:
        self._require_recovered()
        row = self._jobs.rows.get((job_id,))
        if row is None:
            raise unknown_job(job_id)
        job, status = self._job((job_id,)), JobStatus[row["status"]]
        require_movable(job, status, to)
        return job, status, row["last_error"]

    def _told(self, told: Effect, status: JobStatus, at: datetime) -> Done:
        encode_records(told, self._chains).apply(self._records)
        self._carry_clock(at)
        return Done(status, effects=((told, None),))
