"""What the queue in memory does inside a transaction of its records: the twin of `operations`, rule by rule."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice, takewhile

from finagent.adapters.database.events import EventChains
from finagent.adapters.database.registry import stored
from finagent.adapters.database.writer import Done
from finagent.adapters.job_queue.errors import remembered
from finagent.adapters.job_queue.in_memory_effects import EncodedRecords, encode_records
from finagent.adapters.job_queue.in_memory_records import InMemoryRecords, decoded
from finagent.adapters.job_queue.in_memory_rows import READY, RUNNING, SCHEDULED, Entry, Key, Ordering, Row, place, suspect
from finagent.adapters.job_queue.operations import NO_OTHER_SUBJECT, DurableQueuePolicy, subject_of
from finagent.adapters.job_queue.submission import EncodedNext
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import Job, JobStatus
from finagent.domain.payloads import ForAnotherRelease
from finagent.domain.time import to_text

_MARKET_CLOCK = (1,)


class InMemoryOperations:
    """Recover, submit, claim, fail, release, prune: each a change of the records, inside a transaction of theirs."""

    def __init__(
        self,
        records: InMemoryRecords,
        policy: DurableQueuePolicy,
        chains: EventChains,
        worker_id: str,
        *,
        carries_market_clock: bool,
    ) -> None:
        self._records, self._policy, self._chains, self._worker_id = records, policy, chains, worker_id
        self._carries_market_clock = carries_market_clock
        self._jobs = records.jobs
        self._epoch = 0

    def recover(self, at: datetime) -> Done:
        """A new epoch; the last process's RUNNING rows wait again, one crash older."""
        if self._epoch:
            raise InvariantViolated("recover() was called twice")
        left = [(id_,) for *_, id_ in self._jobs.running.entries]
        rescued: list[Job] = []
        effects: list[tuple[Effect, Job | None]] = []
        for key in left:
            row = self._jobs.rows[key]
            killer = len(left) == 1 and suspect(row)
            crashed: Row = {"epoch": 0, "crashes": row["crashes"] + 1, "solo_crashes": row["solo_crashes"] + killer}
            if killer and crashed["solo_crashes"] >= self._policy.max_solo_crashes:
                job = self._job(key)
                error = f"the process died {crashed['solo_crashes']} times while this job was the only one running"
                status = _end_of(job)
                ended = {"status": status.name, "finished_at": to_text(at)}
                self._change(key, crashed | ended | self._remember(key, job.attempts, error, at))
                effects.append((self._record_end(job, status, error, at), job))
            else:
                self._change(key, crashed | {"status": READY})
                rescued.append(self._job(key))
        epoch = self._records.number("epoch") + 1
        self._records.set_number("epoch", epoch)
        self._epoch = epoch  # last, so that a recovery that failed can be tried again
        return Done(rescued, effects=tuple(effects))

    def submit(self, effect: EncodedRecords, publish: Sequence[EncodedNext], job: Job | None, at: datetime) -> Done:
        """Acknowledge the job, apply the effect, publish what follows from it."""
        self._require_recovered()
        if job is None and not (effect.steps or effect.events or publish):
            return Done([], wrote=False)
        if job is not None:
            self._change(self._own(job), {"status": JobStatus.DONE.name, "finished_at": to_text(at)})
        effect.apply(self._records)
        handed_out = [self._publish(each, job, at) for each in publish]
        self._carry_clock(at)
        return Done([each for each in handed_out if each is not None], effects=((effect.effect, job),))

    def claim(self, now: datetime, limit: int, at: datetime) -> Done:
        """READY and due rows become RUNNING in order, up to the first one in quarantine; that one only when nothing else runs."""
        self._require_recovered()
        claimed: list[Job] = []
        told: list[tuple[Effect, Job | None]] = []
        while not (claimed or self._jobs.suspects_running.entries):
            waiting, parked = self._readable(self._due(to_text(now), limit), at)
            claimed = self._up_to_quarantine(waiting)
            told += parked
            if not parked:  # otherwise there may be more behind them
                break
        if not (claimed or told):
            return Done([], wrote=False)
        mark = {"status": RUNNING, "epoch": self._epoch, "worker_id": self._worker_id, "started_at": to_text(at)}
        for job in claimed:
            self._change((job.id,), mark | {"fence": job.fence + 1})
        self._carry_clock(at)
        return Done([replace(job, epoch=self._epoch, fence=job.fence + 1) for job in claimed], effects=tuple(told))

    def _up_to_quarantine(self, waiting: Sequence[Job]) -> list[Job]:
        """The first jobs that may run beside each other, or the suspect that may run alone."""
        if waiting and self._in_quarantine(waiting[0]):
            return [] if self._jobs.running.entries else [waiting[0]]
        return list(takewhile(lambda job: not self._in_quarantine(job), waiting))

    def _in_quarantine(self, job: Job) -> bool:
        return suspect(self._jobs.rows[job.id,])

    def _readable(self, due: Sequence[Entry], at: datetime) -> tuple[list[Job], list[tuple[Effect, Job | None]]]:
        """The jobs at these places, in the payloads of this release; those of another release are parked."""
        jobs: list[Job] = []
        told: list[tuple[Effect, Job | None]] = []
        for *_, id_ in due:
            job = self._job((id_,))
            try:
                jobs.append(self._policy.release.current(job))
            except ForAnotherRelease as error:
                told.append((self._park(job, str(error), at), job))
        return jobs, told

    def _park(self, job: Job, error: str, at: datetime) -> Effect:
        error = error[: self._policy.error_length_max]
        ended = {"status": JobStatus.PARKED.name, "finished_at": to_text(at)}
        self._change((job.id,), ended | self._remember((job.id,), job.attempts, error, at))
        return self._record_end(job, JobStatus.PARKED, error, at)

    def _due(self, now: str, limit: int) -> list[Entry]:
        """Places of the first jobs that are READY or whose time has come."""
        scheduled = self._jobs.scheduled.entries
        due: list[Entry] = []
        for run_at, id_ in scheduled:
            if run_at > now:
                break
            due.append(place(self._jobs.rows[id_,]))
        return list(islice(merge(self._jobs.ready.entries, sorted(due)), limit))

    def fail(self, job: Job, error: str, retry_at: datetime | None, at: datetime) -> Done:
        """One attempt more: the job waits for `retry_at`, or is dead or parked."""
        self._require_recovered()
        key = self._own(job)
        error = error[: self._policy.error_length_max]
        failed: Row = {"epoch": 0, "attempts": job.attempts + 1} | self._remember(key, job.attempts + 1, error, at)
        effects: tuple[tuple[Effect, Job | None], ...] = ()
        if retry_at is not None:
            status = JobStatus.SCHEDULED
            self._change(key, failed | {"status": status.name, "run_at": to_text(retry_at)})
        else:
            status = _end_of(job)
            self._change(key, failed | {"status": status.name, "finished_at": to_text(at)})
            effects = ((self._record_end(job, status, error, at), job),)
        self._carry_clock(at)
        return Done(status, effects=effects)

    def release(self, jobs: Sequence[Job], at: datetime) -> Done:
        """RUNNING rows of these jobs wait again; a job that is no longer ours is left alone."""
        self._require_recovered()
        released = 0
        for job in jobs:
            if self._owns(job):
                self._change((job.id,), {"status": READY, "epoch": 0})
                released += 1
        if released:
            self._carry_clock(at)
        return Done(None, wrote=released > 0)

    def prune(self, now: datetime) -> Done:
        """Delete one batch of jobs that were DONE long ago, or that a person gave up longer ago."""
        self._require_recovered()
        policy = self._policy
        old = _older(self._jobs.done, now, policy.done_retention_days)
        if policy.dead_retention_days:
            old += _older(self._jobs.discarded, now, policy.dead_retention_days)
        batch = old[: policy.prune_batch_rows]
        for id_ in batch:
            self._records.delete(self._jobs, (id_,))
        return Done(len(batch), wrote=bool(batch))

    # -- effects -------------------------------------------------------------------------------------------------------------

    def _publish(self, encoded: EncodedNext, parent: Job | None, at: datetime) -> Job | None:
        """Insert one job; the job itself when it was handed out, None when it waits, is not wanted or was published before."""
        next_ = encoded.next
        if next_.when is not None and not self._is_settled(next_.when.run_id):
            return None
        if self._jobs.matching({"dedup_key": frozenset({next_.key})}):
            return None
        kind = self._policy.release.types[next_.type]
        run_at = at if next_.run_at is None else next_.run_at
        due, at_text = run_at <= at, to_text(at)
        row: Row = {
            "id": self._next_id(),
            "queue": kind.queue,
            "type": next_.type,
            "payload": encoded.payload,
            "payload_version": kind.version,
            "priority": kind.priority if next_.priority is None else next_.priority,
            "run_at": to_text(run_at),
            **dict.fromkeys(("attempts", "crashes", "solo_crashes", "epoch", "fence"), 0),
            "max_attempts": self._policy.attempts_max,
            "dedup_key": next_.key,
            "parent_id": parent.id if parent else None,
            "trace_id": next_.trace_id or (parent.trace_id if parent else ""),
            "created_at": at_text,
        }
        hand_out = due and self._may_hand_out(place(row), at_text)
        row["status"] = RUNNING if hand_out else READY if due else SCHEDULED
        if hand_out:
            row |= {"epoch": self._epoch, "worker_id": self._worker_id, "fence": 1, "started_at": at_text}
        self._records.insert(self._jobs, row)
        return self._job((row["id"],)) if hand_out else None

    def _next_id(self) -> int:
        """Counted in the records: an id is not used twice, even after its job is pruned."""
        id_ = self._records.number("next_job_id") or 1
        self._records.set_number("next_job_id", id_ + 1)
        return id_

    def _may_hand_out(self, at_place: Entry, now: str) -> bool:
        """Whether there is room in memory, and no job in quarantine runs or has an earlier place."""
        jobs = self._jobs
        if jobs.suspects_running.entries or len(jobs.running.entries) >= self._policy.memory_limit:
            return False
        due = (each for each in jobs.suspects_waiting.entries if jobs.rows[each[-1],]["status"] == READY or each[1] <= now)
        first = next(due, None)
        return first is None or at_place < first

    def _is_settled(self, run_id: str) -> bool:
        """Every candidate of the run is planned or has its signal outcome."""
        plans, outcomes = self._records.table("trade_plan").rows, self._records.table("decision_outcome").rows
        candidates = self._records.table("candidate").matching({"run_id": frozenset({run_id})})
        return all(key in plans or key in outcomes for key in candidates)

    def _record_end(self, job: Job, status: JobStatus, error: str, at: datetime) -> Effect:
        """Tell the story of a job that is dead or parked; the candidate of a dead one ends with it, if it has not ended yet."""
        subject = subject_of(job.payload) or (NO_OTHER_SUBJECT if status is JobStatus.PARKED else None)
        if subject is None:
            return Effect()
        subject_type, subject_id = subject
        decision_id = subject_id if subject_type is SubjectType.DECISION else None
        body = {"type": job.type, "key": job.dedup_key, "attempts": job.attempts, "crashes": job.crashes, "error": error}
        event = DecisionEvent(subject_type, subject_id, f"job_{status.name.lower()}", at, job.trace_id, decision_id, body)
        effect = Effect(events=(event,))
        if status is JobStatus.DEAD and decision_id and self._is_open(decision_id):
            effect += Effect(records=(DecisionOutcome(decision_id, SignalOutcome.DEAD, f"{job.type}: {error}", at),))
        encode_records(effect, self._chains).apply(self._records)
        return effect

    def _is_open(self, decision_id: str) -> bool:
        """Whether there is such a candidate, without an outcome yet."""
        candidates, outcomes = self._records.table("candidate").rows, self._records.table("decision_outcome").rows
        return (decision_id,) in candidates and (decision_id,) not in outcomes

    # -- shared --------------------------------------------------------------------------------------------------------------

    def _require_recovered(self) -> None:
        if not self._epoch:
            raise InvariantViolated("recover() comes before anything else")
        if self._epoch != self._records.number("epoch"):
            raise InvariantViolated(f"fenced: epoch {self._epoch} is over, another queue has recovered these records")

    def _owns(self, job: Job) -> bool:
        row = self._jobs.rows.get((job.id,))
        running = row is not None and row["status"] == RUNNING
        return running and row is not None and (row["epoch"], row["fence"]) == (job.epoch, job.fence)

    def _own(self, job: Job) -> Key:
        """The key of the RUNNING row of this very claim."""
        if not self._owns(job):
            raise InvariantViolated(f"fenced: {job.type} job {job.id} is not running in epoch {job.epoch}, claim {job.fence}")
        return (job.id,)

    def _change(self, key: Key, values: Row) -> None:
        self._records.update(self._jobs, key, values)

    def _remember(self, key: Key, attempts: int, error: str, at: datetime) -> Row:
        """The columns of the row's last errors, this one among them."""
        before = self._jobs.rows[key]["errors"]
        return {"last_error": error, "errors": remembered(before, attempts, at, error, self._policy.errors_kept)}

    def _job(self, key: Key) -> Job:
        return decoded(stored(Job), self._jobs.rows[key])

    def _carry_clock(self, at: datetime) -> None:
        """The first commit of an instant says so: a process that dies starts again at the last instant with an effect."""
        clock = self._records.table("market_clock")
        row = clock.rows.get(_MARKET_CLOCK) if self._carries_market_clock else None
        if row is not None and row["at"] < to_text(at):
            self._records.update(clock, _MARKET_CLOCK, {"at": to_text(at)})


def _end_of(job: Job) -> JobStatus:
    return JobStatus.PARKED if job.parks else JobStatus.DEAD


def _older(finished: Ordering, now: datetime, days: float) -> list[int]:
    """The ids of the jobs that had finished so many days ago, oldest first."""
    before = to_text(now - timedelta(days=days))
    return [id_ for _, id_ in takewhile(lambda entry: entry[0] < before, finished.entries)]
