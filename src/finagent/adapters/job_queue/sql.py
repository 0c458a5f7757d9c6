"""The `JobQueue` on a SQL store: callers' futures on the loop, everything else in the writer's transactions."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import structlog

from finagent.adapters.database.reader import StoreReads
from finagent.adapters.database.writer import Abort, Connect, Done, Lane, Moved, OnceMore, Operation, Ticket, Writer
from finagent.adapters.job_queue import rows
from finagent.adapters.job_queue.by_hand import HandOperations
from finagent.adapters.job_queue.observers import CommitObserver, GroupObserver, tell
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.submission import submission
from finagent.domain.effect import Effect
from finagent.domain.jobs import JOB_TYPES, Job, JobStatus
from finagent.domain.ports.clock import Clock
from finagent.domain.time import to_text
from finagent.services.failpoints import Failpoints

ALL_SERVICES = frozenset(kind.queue for kind in JOB_TYPES.values())
log = structlog.get_logger(__name__)


class Carrier(Protocol):
    """Tells other processes what waits in the table, and us what they left there; the table alone says who has a job."""

    def start(self) -> None:
        """The queue is recovered."""
        ...

    def moved(self, rows: Sequence[Moved]) -> None:
        """What a commit has left."""
        ...

    def claim(self, now: datetime, limit: int) -> asyncio.Future[list[Job]]: ...

    async def changed(self) -> bool:
        """Waits until something may wait for us; False at once where the carrier cannot tell."""
        ...

    async def close(self) -> None: ...


class SqlJobQueue:
    """See `finagent.domain.ports.store.JobQueue` for the contract. Used on one event loop; `recover` starts the writer.

    A caller that was cancelled while its commit ran does not get the jobs that it published or claimed: they are released, so
    that no job stays RUNNING with nobody to run it.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        reads: StoreReads,
        clock: Clock,
        policy: DurableQueuePolicy,
        operations: HandOperations,
        group_operations_max: int,
        failpoints: Failpoints,
        abort: Abort,
        once_more: OnceMore = lambda: False,
    ) -> None:
        self._reads, self._clock, self._policy, self._operations = reads, clock, policy, operations
        self._writer = Writer(
            connect,
            group_operations_max=group_operations_max,
            bulk_rows_max=policy.bulk_rows_max,
            memory=operations.memory,
            failpoints=failpoints,
            abort=abort,
            committed=self._committed,
            guard=operations.guard,
            together=operations.submit_all,
            once_more=once_more,
        )
        self._instant = clock.now(), to_text(clock.now())
        # Called on the loop after each commit: its effects in order with the job that each acknowledged; its size and seconds.
        self.on_commit: list[CommitObserver] = []
        self.on_group: list[GroupObserver] = []
        self.carrier: Carrier | None = None  # set before `recover`

    @property
    def disk_full(self) -> bool:
        """The last commit found no room; holds until `probe` or any other operation finds some."""
        return self._writer.disk_full

    def recover(self) -> asyncio.Future[list[Job]]:
        """Once, before anything else: epoch + 1, RUNNING rows back to READY with crashes + 1."""
        recovered = self._writer.submit(partial(self._operations.recover, self._clock.now()), lane=Lane.URGENT)
        recovered.add_done_callback(lambda _: self._start_carrier())
        return recovered

    def submit(self, effect: Effect, job: Job | None = None) -> asyncio.Future[list[Job]]:
        """Commit the effect and acknowledge `job`; the published jobs that are due now come back RUNNING."""
        part = submission(effect, job, self._now(), self._operations.chains)
        operation = partial(self._operations.submit, part)
        return self._writer.submit(
            operation,
            serial=part.serial,
            part=None if part.judges else part,
            lane=part.lane,
            rows=part.rows if effect.bulk else 1,
        )

    def claim(self, now: datetime, limit: int) -> asyncio.Future[list[Job]]:
        """READY and due SCHEDULED jobs become RUNNING; nothing to claim writes nothing."""
        return self.claim_among(now, limit, None) if self.carrier is None else self.carrier.claim(now, limit)

    def claim_among(self, now: datetime, limit: int, ids: Sequence[int] | None) -> asyncio.Future[list[Job]]:
        """`claim` of these READY jobs and of any whose time has come; None: of all."""
        return self._writer.submit(partial(self._operations.claim, now, limit, ids, self._clock.now()), serial=False)

    def fail(self, job: Job, error: str, retry_at: datetime | None) -> asyncio.Future[JobStatus]:
        """SCHEDULED at `retry_at` with attempts + 1; without one DEAD, or PARKED for a type that parks."""
        return self._writer.submit(partial(self._operations.fail, job, error, retry_at, self._clock.now()))

    def retry(self, job_id: int, by: str) -> asyncio.Future[JobStatus]:
        """A person brings a DEAD or PARKED job back."""
        return self._writer.submit(partial(self._operations.retry, job_id, by, self._clock.now()))

    def discard(self, job_id: int, reason: str, by: str) -> asyncio.Future[JobStatus]:
        """A person gives a DEAD or PARKED job up."""
        return self._writer.submit(partial(self._operations.discard, job_id, reason, by, self._clock.now()))

    def release(self, jobs: Iterable[Job]) -> asyncio.Future[None]:
        """Give RUNNING jobs back unharmed."""
        return self._writer.submit(partial(self._operations.release, list(jobs), self._clock.now()), serial=False)

    def prune(self) -> asyncio.Future[int]:
        """Delete one batch of jobs that were DONE, or discarded by a person, longer ago than the policy keeps; says how many.
        Call again while a batch comes back full."""
        rows = self._policy.prune_batch_rows
        operation = partial(self._operations.prune, self._clock.now())
        return self._writer.submit(operation, serial=False, lane=Lane.BULK, rows=rows)

    def maintain(self, operation: Operation) -> asyncio.Future[Any]:
        """An operation of the store's own that is no effect, such as a seal; resolves to its answer."""
        return self._writer.submit(operation, lane=Lane.BULK)

    async def probe(self) -> bool:
        """Whether the store takes writes: after a full disk this finds out, and ends `disk_full` when there is room again."""
        answered = self._writer.submit(lambda _driver: Done(None, wrote=False))
        await asyncio.wait([answered])
        return answered.exception() is None

    def lease_left_seconds(self) -> float:
        """How long, at least, nobody else may take what is ours: where nobody else can, for ever."""
        return float("inf")

    async def others_at_work(self, now: datetime) -> bool:
        """Nobody else works on this store."""
        del now
        return False

    def next_due(self) -> datetime | None:
        """The earliest `run_at` of a READY or SCHEDULED job."""
        earliest = self._reads.rows(rows.NEXT_DUE)[0][0]
        return None if earliest is None else datetime.fromisoformat(earliest)

    def counts(self) -> dict[str, int]:
        """Rows by status name."""
        counted: dict[str, int] = dict.fromkeys((status.name for status in JobStatus), 0)
        counted.update(dict(self._reads.rows(rows.COUNTS)))
        return counted

    def services(self) -> frozenset[str]:
        """Whose jobs this process takes, as of its last look."""
        return ALL_SERVICES

    def waiting(self, ids: Sequence[int]) -> set[int]:
        """Those of the jobs that somebody may claim."""
        statement, values = rows.among(rows.WAITING, ids)
        return {id_ for (id_,) in self._reads.rows(statement, values)}

    def stuck(self, limit: int) -> list[Moved]:
        """The last jobs that are DEAD or PARKED, the youngest first."""
        return [Moved(id_, type_, JobStatus[status]) for id_, type_, status in self._reads.rows(rows.STUCK, (limit,))]

    async def close(self) -> None:
        """Commit what was submitted, fold the log into the file, end the writer. Jobs that are RUNNING stay so for `recover`."""
        await self._writer.close()
        if self.carrier is not None:
            await self.carrier.close()

    def _start_carrier(self) -> None:
        if self.carrier is not None and not self._writer.closing:
            self.carrier.start()

    def _now(self) -> tuple[datetime, str]:
        """The clock's instant, and its text, which many operations of one instant share."""
        now = self._clock.now()
        if now is not self._instant[0]:
            self._instant = now, to_text(now)
        return self._instant

    def _committed(self, group: Sequence[Ticket], seconds: float) -> None:
        done: list[Done] = []
        for ticket in group:
            if ticket.done is None or ticket.error is not None:
                continue
            done.append(ticket.done)
            if ticket.future.cancelled() and isinstance(ticket.done.answer, list) and ticket.done.answer:
                self._take_back(ticket.done.answer)
        if self.carrier is not None:
            self.carrier.moved([row for result in done for row in _left(result)])
        if self.on_commit and (effects := [each for result in done for each in result.effects]):
            tell(self.on_commit, [effect for effect, _ in effects], [job for _, job in effects])
        if any(result.wrote for result in done):
            tell(self.on_group, len(group), seconds)

    def _take_back(self, jobs: list[Job]) -> None:
        if not self._writer.closing:  # a closed writer leaves them RUNNING: the next start gives them back
            self.release(jobs)


def _left(result: Done) -> Iterator[Moved]:
    """The jobs of an operation that nobody runs any more: done, unless it says otherwise."""
    yield from (Moved(job.id, job.type, JobStatus.DONE) for _, job in result.effects if job is not None)
    yield from result.moved
