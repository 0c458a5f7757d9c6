"""The `JobQueue` in memory: the contract of the store without a file, for tests and backtests."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from finagent.adapters.database.events import EventChains
from finagent.adapters.database.writer import Done
from finagent.adapters.job_queue.in_memory_by_hand import InMemoryHandOperations
from finagent.adapters.job_queue.in_memory_effects import encode_records
from finagent.adapters.job_queue.in_memory_records import InMemoryRecords
from finagent.adapters.job_queue.observers import CommitObserver, GroupObserver, tell
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.submission import encode_next
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import Job, JobStatus
from finagent.domain.ports.clock import Clock

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ticket:
    """One submitted operation and its caller."""

    run: Callable[[], Done]
    future: asyncio.Future[Any]
    done: Done | None = None


class InMemoryJobQueue:
    """See `finagent.domain.ports.store.JobQueue` for the contract. Used on one event loop.

    What one turn of the loop submits commits on the next, in the order of the calls, each operation whole or not at all. A
    process that ends is played by leaving the queue behind: a new one over the same records recovers what was committed, and
    the old one is fenced off. There is no disk that could be full and nothing to survive a kill, so no failpoint is passed.
    """

    def __init__(
        self,
        records: InMemoryRecords,
        *,
        clock: Clock,
        policy: DurableQueuePolicy,
        build_hash: str,
        settings_hash: str,
        worker_id: str,
        carries_market_clock: bool,
    ) -> None:
        self._records, self._clock = records, clock
        self._chains = EventChains(build_hash, settings_hash)
        self._operations = InMemoryHandOperations(
            records, policy, self._chains, worker_id, carries_market_clock=carries_market_clock
        )
        self._pending: list[Ticket] = []
        self._closing = False
        # Called on the loop after each commit: its effects in order with the job that each acknowledged; its size and seconds.
        self.on_commit: list[CommitObserver] = []
        self.on_group: list[GroupObserver] = []

    def recover(self) -> asyncio.Future[list[Job]]:
        """Once, before anything else: epoch + 1, RUNNING rows back to READY with crashes + 1."""
        return self._put(partial(self._operations.recover, self._clock.now()))

    def submit(self, effect: Effect, job: Job | None = None) -> asyncio.Future[list[Job]]:
        """Commit the effect and acknowledge `job`; the published jobs that are due now come back RUNNING."""
        encoded = encode_records(effect, self._chains)
        publish = [encode_next(next_) for next_ in effect.next]
        return self._put(partial(self._operations.submit, encoded, publish, job, self._clock.now()))

    def claim(self, now: datetime, limit: int) -> asyncio.Future[list[Job]]:
        """READY and due SCHEDULED jobs become RUNNING; nothing to claim writes nothing."""
        return self._put(partial(self._operations.claim, now, limit, self._clock.now()))

    def fail(self, job: Job, error: str, retry_at: datetime | None) -> asyncio.Future[JobStatus]:
        """SCHEDULED at `retry_at` with attempts + 1; without one DEAD, or PARKED for a type that parks."""
        return self._put(partial(self._operations.fail, job, error, retry_at, self._clock.now()))

    def retry(self, job_id: int, by: str) -> asyncio.Future[JobStatus]:
        """A person brings a DEAD or PARKED job back."""
        return self._put(partial(self._operations.retry, job_id, by, self._clock.now()))

    def discard(self, job_id: int, reason: str, by: str) -> asyncio.Future[JobStatus]:
        """A person gives a DEAD or PARKED job up."""
        return self._put(partial(self._operations.discard, job_id, reason, by, self._clock.now()))

    def release(self, jobs: Iterable[Job]) -> asyncio.Future[None]:
        """Give RUNNING jobs back unharmed."""
        return self._put(partial(self._operations.release, list(jobs), self._clock.now()))

    def prune(self) -> asyncio.Future[int]:
        """Delete one batch of jobs that were DONE, or discarded by a person, longer ago than the policy keeps; says how many.
        Call again while a batch comes back full."""
        return self._put(partial(self._operations.prune, self._clock.now()))

    async def others_at_work(self, now: datetime) -> bool:
        """Nobody else works on this store."""
        del now
        return False

    def next_due(self) -> datetime | None:
        """The earliest `run_at` of a READY or SCHEDULED job."""
        waiting = self._records.jobs.waiting.entries
        return datetime.fromisoformat(waiting[0][0]) if waiting else None

    def counts(self) -> dict[str, int]:
        """Rows by status name."""
        return {status.name: self._records.jobs.counts[status.name] for status in JobStatus}

    async def close(self) -> None:
        """Commit what was submitted and take no more. Jobs that are RUNNING stay so for `recover`. Closing twice is fine."""
        self._closing = True
        self._commit()

    def _put(self, operation: Callable[[], Done]) -> asyncio.Future[Any]:
        """Put the operation under way, behind all earlier ones. Cancelling the future does not cancel the operation."""
        if self._closing:
            raise InvariantViolated("the queue is closed")
        loop = asyncio.get_running_loop()
        ticket = Ticket(operation, loop.create_future())
        if not self._pending:
            loop.call_soon(self._commit)
        self._pending.append(ticket)
        return ticket.future

    def _commit(self) -> None:
        """Run what is pending; an error undoes its own operation only, and belongs to its caller."""
        group, self._pending = self._pending, []
        started = time.perf_counter()
        for ticket in group:
            try:
                with self._records.transaction():
                    done = ticket.run()
            except Exception as error:  # noqa: BLE001 - whatever an operation raises belongs to its caller
                if not ticket.future.cancelled():
                    ticket.future.set_exception(error)
            else:
                ticket.done = done
                if not ticket.future.cancelled():
                    ticket.future.set_result(done.answer)
        self._committed(group, time.perf_counter() - started)

    def _committed(self, group: Sequence[Ticket], seconds: float) -> None:
        done = [ticket.done for ticket in group if ticket.done is not None]
        effects = [each for result in done for each in result.effects]
        for ticket in group:
            if ticket.done is not None and ticket.future.cancelled() and not self._closing:
                self._take_back(ticket.done.answer)
        if effects:
            tell(self.on_commit, [effect for effect, _ in effects], [job for _, job in effects])
        if any(result.wrote for result in done):
            tell(self.on_group, len(group), seconds)

    def _take_back(self, answer: object) -> None:
        """Nobody got the jobs that a cancelled call published or claimed, so they wait again."""
        if isinstance(answer, list) and answer:
            self.release(answer)
