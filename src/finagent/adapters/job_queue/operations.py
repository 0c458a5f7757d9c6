"""What the queue does inside the writer's transaction. Every method runs on the writer's thread, in a SAVEPOINT (see
`Writer`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice, takewhile
from typing import Any

import orjson

from finagent.adapters.database.connection import Cursor, Driver
from finagent.adapters.database.effects import EncodedEffect, apply, encode
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.move_mark import refuse_marked
from finagent.adapters.database.writer import Done, Moved
from finagent.adapters.job_queue import rows
from finagent.adapters.job_queue.errors import remembered
from finagent.adapters.job_queue.memory import QueueMemory
from finagent.adapters.job_queue.submission import Apart, EncodedNext, Submission
from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import Job, JobStatus
from finagent.domain.payloads import THIS_RELEASE, ForAnotherRelease, Release
from finagent.domain.time import to_text

NO_OTHER_SUBJECT = (SubjectType.ACCOUNT, "account")


@dataclass(frozen=True, slots=True)
class DurableQueuePolicy:
    """Bounds of the durable queue.

    `memory_limit`: RUNNING jobs above which published ones wait in the table. `max_solo_crashes`: process ends with a job as the
    only one running before it is given up. `attempts_max`: handler failures a job may have, as its row tells. `id_block_size`:
    job ids reserved at a time. `done_retention_days` and `prune_batch_rows`: age at which finished jobs go, and how many at once;
    keys of pruned jobs are forgotten, so it must be longer than any key may come again. `dead_retention_days`: the same for DEAD
    jobs that a person has discarded; 0 keeps them. `error_length_max`: characters kept of an error, `errors_kept`: errors kept
    of a job. `bulk_rows_max`: rows of a bulk load in one commit. `release`: what this process runs; a job of another release is
    parked.
    """

    memory_limit: int
    max_solo_crashes: int
    attempts_max: int
    id_block_size: int
    done_retention_days: float
    prune_batch_rows: int
    error_length_max: int
    errors_kept: int = 5
    dead_retention_days: float = 0
    bulk_rows_max: int = 500
    release: Release = THIS_RELEASE


class JobOperations:
    """Recover, submit, claim, fail, release, prune: each a change of the tables and of the memory beside them."""

    def __init__(self, policy: DurableQueuePolicy, chains: EventChains, worker_id: str, *, carries_market_clock: bool) -> None:
        self._policy, self.chains, self._worker_id = policy, chains, worker_id
        self._carries_market_clock = carries_market_clock
        self.memory = QueueMemory()

    def guard(self, driver: Driver, serial: bool) -> None:
        """What must hold in every transaction of this writer; on a file the lock beside it says so."""

    # -- recovery ------------------------------------------------------------------------------------------------------------

    def recover(self, at: datetime, driver: Driver) -> Done:
        """A new epoch; the last process's RUNNING rows wait again, one crash older."""
        memory = self.memory
        if memory.epoch:
            raise InvariantViolated("recover() was called twice")
        refuse_marked(driver)
        memory.epoch = driver.execute(rows.EPOCH).fetchall()[0][0]
        memory.last_event_id = driver.execute(rows.LAST_EVENT).fetchall()[0][0]
        memory.market_at = (driver.execute(rows.MARKET_CLOCK).fetchall() or [("",)])[0][0]
        rescued, effects = self._rescue(driver, driver.execute(rows.RUNNING).fetchall(), at)
        memory.quarantined = driver.execute(rows.QUARANTINED).fetchall()[0][0]
        return Done(rescued, labels=frozenset({"epoch_commit"}), effects=effects, moved=given_back(rescued, effects))

    def _rescue(
        self, driver: Driver, left: Sequence[tuple[Any, ...]], at: datetime
    ) -> tuple[list[Job], tuple[tuple[Effect, Job | None], ...]]:
        """What one ended process left RUNNING waits again; the only job that it ran may be what ended it."""
        rescued: list[Job] = []
        effects: list[tuple[Effect, Job | None]] = []
        for *columns, solo_crashes in left:
            job = rows.job(tuple(columns))
            killer = len(left) == 1 and job.crashes >= rows.CRASHES_OF_QUARANTINE
            solo_crashes += killer
            if killer and solo_crashes >= self._policy.max_solo_crashes:
                effects.append((self._bury_killer(driver, job, solo_crashes, at), job))
            else:
                driver.execute(rows.RESCUE, (solo_crashes, job.id))
                rescued.append(replace(job, crashes=job.crashes + 1, epoch=0))
        return rescued, tuple(effects)

    def _bury_killer(self, driver: Driver, job: Job, solo_crashes: int, at: datetime) -> Effect:
        error = f"the process died {solo_crashes} times while this job was the only one running"
        status = _end_of(job)
        errors = self._remember(driver, job, job.attempts, error, at)
        driver.execute(rows.BURY_KILLER, (status.name, solo_crashes, to_text(at), error, errors, job.id))
        return self._record_end(driver, job, status, error, at)

    # -- effects -------------------------------------------------------------------------------------------------------------

    def submit(self, part: Submission, driver: Driver) -> Done:
        """Acknowledge the job, apply the effect, publish what follows from it."""
        self._require_recovered()
        if part.empty:
            return Done([], wrote=False)
        if part.job is not None:
            self._own(driver.execute(rows.ACKNOWLEDGE, (part.at_text, *_owned(part.job))), part.job)
            self.memory.quarantined -= _in_quarantine(part.job)
        self._apply(driver, [part.effect])
        placed = [placed for each in part.publish if (placed := self._publish(driver, each, part)) is not None]
        return self._done(driver, part, placed)

    def submit_all(self, parts: Sequence[Submission], driver: Driver) -> list[Done]:
        """What `submit` would do with each in turn, in few statements: all acknowledgements, all effects, all jobs.

        Only where every single one succeeds and no job was published before; raises Apart, or what the database says, elsewhere.
        None of them judges.
        """
        self._require_recovered()
        acknowledged: list[tuple[Any, ...]] = []
        published: list[tuple[Any, ...]] = []
        placed: list[list[Job | Moved]] = []
        for part in parts:
            if part.job is not None:
                acknowledged.append((part.at_text, *_owned(part.job)))
                self._no_longer_running()
                self.memory.quarantined -= _in_quarantine(part.job)
            jobs = []
            for each in part.publish:
                row, job = self._place(driver, each, part)
                published.append(row)
                jobs.append(job)
            placed.append(jobs)
        _all(driver, rows.ACKNOWLEDGE, acknowledged)
        self._apply(driver, [part.effect for part in parts if part.serial])
        _all(driver, rows.INSERT, published)
        return [
            Done([], wrote=False) if part.empty else self._done(driver, part, jobs)
            for part, jobs in zip(parts, placed, strict=True)
        ]

    def _apply(self, driver: Driver, effects: Sequence[EncodedEffect]) -> None:
        self.memory.last_event_id = apply(effects, driver, self.chains, self.memory.last_event_id)

    def _done(self, driver: Driver, part: Submission, placed: Sequence[Job | Moved]) -> Done:
        effect, carried = part.effect, self._carry_clock(driver, part.at_text)
        labels = effect.labels | carried if carried else effect.labels
        told = ((effect.effect, part.job),)
        if not placed:
            return Done([], True, labels, told)
        handed_out = [each for each in placed if isinstance(each, Job)]
        waiting = [each for each in placed if isinstance(each, Moved)] if len(handed_out) < len(placed) else ()
        return Done(handed_out, True, labels, told, waiting)

    def _publish(self, driver: Driver, encoded: EncodedNext, part: Submission) -> Job | Moved | None:
        """Insert one job; itself when it was handed out, where it waits, None when it is not wanted or was published before."""
        when = encoded.next.when
        if when is not None and not driver.execute(rows.RUN_SETTLED, (when.run_id,)).fetchall()[0][0]:
            return None
        row, job = self._place(driver, encoded, part)
        if driver.execute(rows.INSERT, row).rowcount:
            return job
        self.memory.next_id -= 1
        self.memory.running -= isinstance(job, Job)
        return None

    def _place(self, driver: Driver, encoded: EncodedNext, part: Submission) -> tuple[tuple[Any, ...], Job | Moved]:
        """The row of one job under the next id, and the job itself when it is handed out, else how it waits."""
        (next_, payload), parent, at_text, memory = encoded, part.job, part.at_text, self.memory
        type_, key, kind = next_.type, next_.key, self._policy.release.types[next_.type]
        priority = kind.priority if next_.priority is None else next_.priority
        run_at = part.at if next_.run_at is None else next_.run_at
        run_text = at_text if run_at is part.at else to_text(run_at)
        parent_id, trace_id = (parent.id, next_.trace_id or parent.trace_id) if parent else (None, next_.trace_id)
        id_ = self._next_id(driver)
        memory.next_id += 1
        due = run_at <= part.at
        what = (id_, kind.queue, type_, payload, kind.version)
        if not due or not self._may_hand_out(driver, kind.queue, (priority, run_text, id_), at_text):
            status = JobStatus.READY if due else JobStatus.SCHEDULED
            waits = status.name, priority, run_text, self._policy.attempts_max, 0, None, 0
            return (*what, *waits, key, parent_id, trace_id, at_text, None), Moved(id_, type_, status)
        memory.running += 1
        runs = "RUNNING", priority, run_text, self._policy.attempts_max, memory.epoch, self._worker_id, 1
        read = orjson.loads(payload)  # what a later process would read, not the caller's own objects
        job = Job(id_, type_, read, kind.version, priority, run_at, 0, 0, memory.epoch, trace_id, key, 1)
        return (*what, *runs, key, parent_id, trace_id, at_text, at_text), job

    def _next_id(self, driver: Driver) -> int:
        memory = self.memory
        if memory.next_id == memory.end_id:
            size = self._policy.id_block_size
            memory.end_id = driver.execute(rows.RESERVE_IDS, (size, size)).fetchall()[0][0]
            memory.next_id = memory.end_id - size
        return memory.next_id

    def _may_hand_out(self, driver: Driver, _queue: str, place: tuple[int, str, int], now: str) -> bool:
        """Whether there is room in memory, and no job in quarantine runs or has an earlier place."""
        memory = self.memory
        if memory.solo or memory.running >= self._policy.memory_limit:
            return False
        if memory.quarantined == 0:
            return True
        first = driver.execute(rows.FIRST_QUARANTINED, (now,)).fetchall()
        return not first or place < first[0]

    # -- claims --------------------------------------------------------------------------------------------------------------

    def claim(self, now: datetime, limit: int, ids: Sequence[int] | None, at: datetime, driver: Driver) -> Done:
        """READY rows (only those of `ids`, where given) and due ones become RUNNING in order, up to the first one in quarantine;
        that one only when nothing else runs."""
        self._require_recovered()
        memory = self.memory
        claimed: list[Job] = []
        told: list[tuple[Effect, Job | None]] = []
        while not (claimed or memory.solo):
            waiting, parked = self._readable(driver, list(self._due(driver, to_text(now), limit, ids)), at)
            claimed = self._up_to_quarantine(waiting)
            told += parked
            if not parked:  # otherwise there may be more behind them
                break
        if not (claimed or told):
            return Done([], wrote=False)
        if claimed:
            started_at = to_text(at)
            driver.executemany(rows.CLAIM, [(memory.epoch, self._worker_id, started_at, job.id) for job in claimed])
            memory.running += len(claimed)
        labels = self._carry_clock(driver, to_text(at)) | {"claim"}
        unreadable = [Moved(job.id, job.type, JobStatus.PARKED) for _, job in told if job is not None]
        return Done(claimed, labels=labels, effects=tuple(told), moved=unreadable)

    def _up_to_quarantine(self, waiting: Sequence[Job]) -> list[Job]:
        """The first jobs that may run beside each other, or the suspect that may run alone."""
        if waiting and _in_quarantine(waiting[0]):
            self.memory.solo = self.memory.running == 0
            return [waiting[0]] if self.memory.solo else []
        return list(takewhile(lambda job: not _in_quarantine(job), waiting))

    def _readable(
        self, driver: Driver, waiting: Sequence[tuple[Any, ...]], at: datetime
    ) -> tuple[list[Job], list[tuple[Effect, Job | None]]]:
        """These rows as jobs once claimed, in the payloads of this release; those of another release are parked."""
        jobs: list[Job] = []
        told: list[tuple[Effect, Job | None]] = []
        for row in waiting:
            job = rows.claimed(row, self.memory.epoch)
            try:
                jobs.append(self._policy.release.current(job))
            except ForAnotherRelease as error:
                told.append((self._park(driver, job, str(error), at), job))
        return jobs, told

    def _park(self, driver: Driver, job: Job, error: str, at: datetime) -> Effect:
        self._join_story(driver)
        error = error[: self._policy.error_length_max]
        errors = self._remember(driver, job, job.attempts, error, at)
        driver.execute(rows.PARK, (to_text(at), error, errors, job.id))
        self.memory.quarantined -= _in_quarantine(job)
        return self._record_end(driver, job, JobStatus.PARKED, error, at)

    def _join_story(self, driver: Driver) -> None:
        """Before an operation tells an event of which its caller did not know (see `Writer`: `serial`)."""

    def _due(self, driver: Driver, now: str, limit: int, ids: Sequence[int] | None) -> Iterable[tuple[Any, ...]]:
        """The first rows, in claim order, that are READY or whose time has come."""
        ready_first, among = rows.among(rows.READY_FIRST, ids)
        ready = driver.execute(ready_first, (*among, limit)).fetchall()
        scheduled = driver.execute(rows.SCHEDULED_FIRST, (now, limit)).fetchall()
        return islice(merge(ready, scheduled, key=rows.place), limit)

    def release(self, jobs: Sequence[Job], at: datetime, driver: Driver) -> Done:
        """RUNNING rows of these jobs wait again; a job that is no longer ours is left alone."""
        self._require_recovered()
        released: list[Moved] = []
        for job in jobs:
            if driver.execute(rows.RELEASE, _owned(job)).rowcount:
                released.append(Moved(job.id, job.type, JobStatus.READY))
                self._no_longer_running()
        labels = self._carry_clock(driver, to_text(at)) if released else frozenset()
        return Done(None, wrote=bool(released), labels=labels, moved=released)

    def fail(self, job: Job, error: str, retry_at: datetime | None, at: datetime, driver: Driver) -> Done:
        """One attempt more: the job waits for `retry_at`, or is dead or parked."""
        self._require_recovered()
        owned = _owned(job)
        error = error[: self._policy.error_length_max]
        errors = self._remember(driver, job, job.attempts + 1, error, at)
        effects: tuple[tuple[Effect, Job | None], ...] = ()
        if retry_at is not None:
            self._own(driver.execute(rows.RETRY, (to_text(retry_at), error, errors, *owned)), job)
            status = JobStatus.SCHEDULED
        else:
            status = _end_of(job)
            self._own(driver.execute(rows.BURY, (status.name, to_text(at), error, errors, *owned)), job)
            self.memory.quarantined -= _in_quarantine(job)
            effects = ((self._record_end(driver, job, status, error, at), job),)
        labels = self._carry_clock(driver, to_text(at)) | {"effect_commit"}
        return Done(status, labels=labels, effects=effects, moved=(Moved(job.id, job.type, status),))

    def prune(self, now: datetime, driver: Driver) -> Done:
        """Delete one batch of jobs that were DONE long ago, or that a person gave up longer ago."""
        self._require_recovered()
        batch = self._policy.prune_batch_rows
        deleted = driver.execute(rows.PRUNE, (to_text(now - timedelta(days=self._policy.done_retention_days)), batch)).rowcount
        if deleted < batch and self._policy.dead_retention_days:
            before = to_text(now - timedelta(days=self._policy.dead_retention_days))
            deleted += driver.execute(rows.PRUNE_DISCARDED, (before, batch - deleted)).rowcount
        return Done(deleted, wrote=deleted > 0)

    # -- shared --------------------------------------------------------------------------------------------------------------

    def _require_recovered(self) -> None:
        if not self.memory.epoch:
            raise InvariantViolated("recover() comes before anything else")

    def _own(self, cursor: Cursor, job: Job) -> None:
        """The statement must have met the RUNNING row of this very claim."""
        if cursor.rowcount != 1:
            raise InvariantViolated(f"fenced: {job.type} job {job.id} is not running in epoch {job.epoch}, claim {job.fence}")
        self._no_longer_running()

    def _no_longer_running(self) -> None:
        self.memory.running -= 1
        self.memory.solo = False

    def _remember(self, driver: Driver, job: Job, attempts: int, error: str, at: datetime) -> str:
        """The errors that the row is to keep, this one among them."""
        before = (driver.execute(rows.ERRORS, (job.id,)).fetchall() or [(None,)])[0][0]
        return remembered(before, attempts, at, error, self._policy.errors_kept)

    def _carry_clock(self, driver: Driver, now: str) -> frozenset[str]:
        """The first commit of an instant says so: a process that dies starts again at the last instant with an effect.

        Answers with the failpoint label of a first effect, or nothing.
        """
        if not self._carries_market_clock or now <= self.memory.market_at:
            return frozenset()
        self.memory.market_at = now
        carried = driver.execute(rows.CARRY_CLOCK, (now, now)).rowcount
        return frozenset({"instant_first_effect"} if carried else ())

    def _record_end(self, driver: Driver, job: Job, status: JobStatus, error: str, at: datetime) -> Effect:
        """Tell the story of a job that is dead or parked; the candidate of a dead one ends with it, if it has not ended yet."""
        subject = subject_of(job.payload) or (NO_OTHER_SUBJECT if status is JobStatus.PARKED else None)
        if subject is None:
            return Effect()
        subject_type, subject_id = subject
        decision_id = subject_id if subject_type is SubjectType.DECISION else None
        body = {"type": job.type, "key": job.dedup_key, "attempts": job.attempts, "crashes": job.crashes, "error": error}
        event = DecisionEvent(subject_type, subject_id, f"job_{status.name.lower()}", at, job.trace_id, decision_id, body)
        effect = Effect(events=(event,))
        if status is JobStatus.DEAD and decision_id and driver.execute(rows.WITHOUT_OUTCOME, (decision_id,)).fetchall():
            effect += Effect(records=(DecisionOutcome(decision_id, SignalOutcome.DEAD, f"{job.type}: {error}", at),))
        self._apply(driver, [encode(effect, self.chains)])
        return effect


def _all(driver: Driver, sql: str, values: Sequence[tuple[Any, ...]]) -> None:
    """The statement must meet a row for each of the values."""
    if values and driver.executemany(sql, values).rowcount != len(values):
        raise Apart


def given_back(rescued: Sequence[Job], effects: Sequence[tuple[Effect, Job | None]]) -> list[Moved]:
    """What became of the jobs of an ended process: the rescued ones wait again, the ones with an effect have ended."""
    ended = [Moved(job.id, job.type, _end_of(job)) for _, job in effects if job is not None]
    return ended + [Moved(job.id, job.type, JobStatus.READY) for job in rescued]


def _owned(job: Job) -> tuple[int, int, int]:
    """What names one claim: the row, the life that claimed it, and which of its claims it was."""
    return job.id, job.epoch, job.fence


def _end_of(job: Job) -> JobStatus:
    return JobStatus.PARKED if job.parks else JobStatus.DEAD


def _in_quarantine(job: Job) -> bool:
    return job.crashes >= rows.CRASHES_OF_QUARANTINE


def subject_of(payload: dict[str, Any]) -> tuple[SubjectType, str] | None:
    """Whose story a job belongs to, by the reference that its payload carries."""
    if isinstance(payload.get("decision_id"), str):
        return SubjectType.DECISION, payload["decision_id"]
    if isinstance(payload.get("run_id"), str):
        return SubjectType.RUN, payload["run_id"]
    return None
