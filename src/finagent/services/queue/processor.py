"""The job processor: claimed jobs go to the bounded queue of their service, whose worker runs the handler and commits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from finagent.domain.chance import uniform
from finagent.domain.effect import Effect
from finagent.domain.errors import Conflict, InvariantViolated, Permanent, Transient
from finagent.domain.jobs import Job, JobStatus, Phase, RetryPolicy
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import JobQueue, Reads
from finagent.services.failpoints import Failpoints, around
from finagent.services.queue.quiet import Quiet

Handler = Callable[[Sequence[Job], Reads], Awaitable[Sequence[Effect]]]
SingleHandler = Callable[[Job, Reads], Awaitable[Effect]]
log = structlog.get_logger(__name__)


def one_by_one(handle: SingleHandler) -> Handler:
    """A handler of single jobs as a handler of batches."""

    async def handle_all(jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
        return [await handle(job, reads) for job in jobs]

    return handle_all


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Bounds of the hand-off: `capacity` jobs a service queue, `claim_limit` a claim, `batch_max` jobs waiting together for one
    inference, `conflict_retries_max` fresh runs after a compare-and-set conflict, `poll_seconds` between looks at the table.
    A handler that has not returned after `handler_seconds` never will."""

    capacity: int
    claim_limit: int
    batch_max: int
    conflict_retries_max: int
    poll_seconds: float
    handler_seconds: float
    retry: RetryPolicy


class HandlerStuck(Exception):
    """A handler never returns, and in lock-step wall time may end the process but not decide: the next start counts a crash."""


class JobObserver(Protocol):
    """Told how long jobs waited and ran, in seconds."""

    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None: ...

    def job_failed(self, job_type: str, status: JobStatus) -> None: ...


class JobProcessor:
    """One worker task a service queue. In lock-step, offered jobs are held until the driver hands them out; on wall time they go
    to their queue at once, and what does not fit goes back to the table."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        reads: Reads,
        clock: Clock,
        handlers: Mapping[str, Handler],
        policy: QueuePolicy,
        seed: int,
        failpoints: Failpoints,
        jitter: Callable[[], Awaitable[None]] | None,
        on_invariant: Callable[[str], Awaitable[None]],
        lock_step: bool,
        observer: JobObserver,
        monotonic: Callable[[], float],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue, self._reads, self._clock, self._handlers = queue, reads, clock, handlers
        self._policy, self._seed, self._failpoints, self._jitter = policy, seed, failpoints, jitter
        self._on_invariant, self._lock_step = on_invariant, lock_step
        self._waiting: dict[str, asyncio.Queue[Job]] = {}
        self._held: list[Job] = []
        self._observer, self._monotonic, self._stopping = observer, monotonic, stopping
        self._offered_at: dict[int, float] = {}
        self.quiet = Quiet()

    def queues(self, names: Sequence[str]) -> None:
        """Declare the service queues; before any worker starts."""
        self._waiting = {name: asyncio.Queue(maxsize=self._policy.capacity) for name in names}

    # -- dispatch ------------------------------------------------------------------------------------------------------------

    def offer(self, jobs: Sequence[Job]) -> list[Job]:
        """Take jobs that are RUNNING in our name; returns those for which there is no room (wall time only)."""
        return self._offered(jobs, self._policy.capacity)

    def _offered(self, jobs: Sequence[Job], capacity: int) -> list[Job]:
        if not jobs:
            return []
        with around(self._failpoints, "hand_off"):
            return self._hand_off(jobs, capacity)

    def _hand_off(self, jobs: Sequence[Job], capacity: int) -> list[Job]:
        refused: list[Job] = []
        for job in jobs:
            waiting = self._waiting[job.kind.queue]
            if not self._lock_step and waiting.qsize() >= capacity:
                refused.append(job)
                continue
            self._offered_at[job.id] = self._monotonic()
            if self._lock_step:
                self._held.append(job)
            else:
                self.quiet.enter()
                waiting.put_nowait(job)
        return refused

    async def poll(self) -> None:
        """Wall time: claim what is due and not in memory, hand it out, give back what does not fit.

        Half of each service's room is left to what commits hand on: a signal of now does not wait behind a long backlog.
        """
        now = self._clock.now()
        due = self._queue.next_due()
        if due is None or due > now or self._stopping():
            return
        room = (self._policy.capacity + 1) // 2
        refused = self._offered(await self._queue.claim(now, min(room, self._policy.claim_limit)), room)
        if refused:
            await self._queue.release(refused)

    async def drain_instant(self, now: datetime) -> None:
        """Lock-step: supersteps until nothing is due at `now`. Each hands out all due jobs of the lowest phase (sends one at a
        time, in order) and waits for quiet; what those publish joins the next. A job in quarantine is claimed alone. While
        another process has work of this instant, the instant is not over. Once this process is to end, nothing more is begun: the
        instant will be repeated."""
        while not self._stopping():
            due = self._queue.next_due()
            if due is not None and due <= now:
                self.offer(await self._queue.claim(now, self._policy.claim_limit))
            if not self._held:
                if await self._queue.others_at_work(now):
                    continue
                return
            self._held.sort(key=lambda job: (job.kind.phase, job.priority, job.run_at, job.dedup_key))
            phase = self._held[0].kind.phase
            size = 1 if phase is Phase.SEND else sum(1 for job in self._held if job.kind.phase is phase)
            batch, self._held = self._held[:size], self._held[size:]
            for job in batch:
                self.quiet.enter()
                await self._waiting[job.kind.queue].put(job)
            await self.quiet.wait()
        held, self._held = self._held, []
        await self._queue.release(held)

    # -- work ----------------------------------------------------------------------------------------------------------------

    async def work(self, name: str) -> None:
        """The worker of one service queue; ends only by cancellation, or by an error that ends the process. The batch then keeps
        its tokens: its instant is not over, and a driver that moved market time on before it is cancelled would leave work."""
        waiting = self._waiting[name]
        while True:
            batch = [await waiting.get()]
            while name == "scoring" and not waiting.empty() and len(batch) < self._policy.batch_max:
                batch.append(waiting.get_nowait())
            await (self._queue.release(batch) if self._stopping() else self._run(batch))
            for job in batch:
                self._offered_at.pop(job.id, None)
                self.quiet.leave()

    async def _run(self, batch: Sequence[Job]) -> None:
        by_type: dict[str, list[Job]] = {}
        for job in batch:
            by_type.setdefault(job.type, []).append(job)
        for name, unsorted in by_type.items():
            jobs = sorted(unsorted, key=lambda job: job.dedup_key)
            started = self._monotonic()
            try:
                if self._jitter is not None:
                    await self._jitter()
                effects = await self._handled(name, jobs)
                if len(effects) != len(jobs):
                    raise InvariantViolated(  # noqa: TRY301  one end for all that a handler does wrong
                        f"{name}: {len(effects)} effects for {len(jobs)} jobs"
                    )
            except HandlerStuck:
                raise
            except Exception as error:  # noqa: BLE001  the root of every handler: whatever it raises ends as a state of its job
                if len(jobs) == 1:
                    await self._failed(jobs[0], error)
                else:
                    for job in jobs:
                        await self._run([job])
                continue
            await asyncio.gather(*(self._commit(job, effect, started) for job, effect in zip(jobs, effects, strict=True)))

    async def _handled(self, name: str, jobs: Sequence[Job]) -> Sequence[Effect]:
        seconds = self._policy.handler_seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                with around(self._failpoints, f"handler.{name}"):
                    return await self._handlers[name](jobs, self._reads)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            message = f"{name} {jobs[0].dedup_key}: the handler did not return within {seconds} s"
            raise (HandlerStuck(message) if self._lock_step else Transient(message)) from error

    async def _commit(self, job: Job, effect: Effect, started: float) -> None:
        for attempt in range(self._policy.conflict_retries_max + 1):
            try:
                published = await self._queue.submit(effect, job)
                break
            except Conflict as error:
                if attempt == self._policy.conflict_retries_max:
                    await self._failed(job, error)
                    return
            except Exception as error:  # noqa: BLE001  as in _run
                await self._failed(job, error)
                return
            try:
                again = replace(job, attempts=job.attempts + attempt + 1)  # a handler that acts outside must know that it did
                (effect,) = await self._handled(job.type, [again])
            except HandlerStuck:
                raise
            except Exception as error:  # noqa: BLE001  as in _run
                await self._failed(job, error)
                return
        ended = self._monotonic()
        self._observer.job_done(job.type, started - self._offered_at.get(job.id, started), ended - started)
        refused = self.offer(published)
        if refused:
            await self._queue.release(refused)

    async def _failed(self, job: Job, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}"
        policy = self._policy.retry
        final = isinstance(error, Permanent | InvariantViolated) or job.attempts + 1 >= policy.attempts_max
        jitter = uniform(self._seed, "retry", job.dedup_key, job.attempts)
        retry_at = None if final else self._clock.now() + timedelta(seconds=policy.delay_seconds(job.attempts, jitter))
        log.warning("job_failed", job_id=job.id, type=job.type, error=message, final=final, trace_id=job.trace_id, exc_info=error)
        if isinstance(error, InvariantViolated):
            await self._on_invariant(message)
        self._observer.job_failed(job.type, await self._queue.fail(job, message, retry_at))
