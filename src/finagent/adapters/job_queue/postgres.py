"""The `JobQueue` on PostgreSQL: several processes share the store, each under a lease."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
import structlog

from finagent.adapters.database.events import EventChains
from finagent.adapters.database.postgres import PostgresConnection, PostgresPolicy
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.database.writer import Abort, Lane, exit_at_once
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.shared import CHANNEL, RUNNING_ELSEWHERE, Entered, Role, SharedOperations
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.domain.errors import FinagentError, Transient
from finagent.domain.jobs import Job
from finagent.domain.ports.clock import Clock
from finagent.domain.time import to_text
from finagent.services.failpoints import Failpoints

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """`lease_seconds` of silence until a process is taken for dead, `heartbeat_seconds` between signs of life, and
    `send_deadline_seconds` that a send may take at most: what a new leader waits beyond the lease of one that fell silent.
    `poll_seconds` between looks at the store, should no notice come."""

    lease_seconds: float
    heartbeat_seconds: float
    send_deadline_seconds: float
    poll_seconds: float


class PostgresJobQueue(SqlJobQueue):
    """See `finagent.domain.ports.store.JobQueue`, with these differences, which come from having company:

    * `recover` waits while another leader lives, and begins a life under a lease that heartbeats renew.
    * Jobs of a service that a worker takes are left to it; `claim` passes over what another process is about to take.
    * A store that goes away before a COMMIT is waited for as long as our lease lasts; then the callers get Transient.
    * A process whose lease ran out ends (`abort`): others have its jobs. `lease_left_seconds` says how long ours surely lasts.
    * The rules of quarantine hold within each process, over a count of suspects that is as old as the last claim or heartbeat.
    * A text cannot hold the character NUL.
    """

    def __init__(
        self,
        url: str,
        *,
        reads: StoreReads,
        clock: Clock,
        policy: DurableQueuePolicy,
        postgres_policy: PostgresPolicy,
        lease_policy: LeasePolicy,
        role: Role,
        failpoints: Failpoints,
        build_hash: str,
        settings_hash: str,
        worker_id: str,
        carries_market_clock: bool,
        monotonic: Callable[[], float],
        abort: Abort = exit_at_once,
    ) -> None:
        chains = EventChains(build_hash, settings_hash)
        self._shared = SharedOperations(
            policy, chains, worker_id, role, lease_policy.lease_seconds, carries_market_clock=carries_market_clock
        )
        super().__init__(
            lambda: PostgresConnection(url, postgres_policy, lease_policy.lease_seconds),
            reads=reads,
            clock=clock,
            policy=policy,
            operations=self._shared,
            group_operations_max=postgres_policy.group_operations_max,
            failpoints=failpoints,
            abort=abort,
            once_more=self._once_more,
        )
        reads.once_more = self._once_more
        self._url, self._lease_policy, self._monotonic = url, lease_policy, monotonic
        self._connect_seconds = postgres_policy.connect_seconds
        self._lease_ends_at = float("-inf")
        self._changed = asyncio.Event()
        self._listener: Any = None
        self._heart: asyncio.Task[None] | None = None
        self._entering: asyncio.Task[list[Job]] | None = None
        self._leaving = threading.Event()

    def recover(self) -> asyncio.Future[list[Job]]:
        """Begin a life; as the leader, wait until there is no other."""
        self._entering = asyncio.get_running_loop().create_task(self._enter(), name="queue recovery")
        return self._entering

    def services(self) -> frozenset[str]:
        """See `SqlJobQueue`."""
        return self._shared.services()

    def lease_left_seconds(self) -> float:
        """How long, at least, nobody else may take what is ours."""
        return self._lease_ends_at - self._monotonic()

    async def changed(self) -> None:
        """Until another process has committed, or its carrier says that something waits for us, or the poll interval is over."""
        if self.carrier is not None and await self.carrier.changed():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease_policy.poll_seconds):  # wait_for of Python 3.11 may lose a cancellation
                await self._changed.wait()
        self._changed.clear()

    async def others_at_work(self, now: datetime) -> bool:
        """See the port."""
        self._changed.clear()
        due = self.next_due()
        at_work = self._reads.rows(RUNNING_ELSEWHERE, (self._shared.memory.epoch,))[0][0]
        if not at_work and (due is None or due > now):
            return False
        if to_text(now) > self._shared.memory.market_at:  # whoever it is left to works in the instant that the store tells
            await self._writer.submit(partial(self._shared.tell_time, now))
        await self.changed()
        return True

    async def close(self) -> None:
        """Give up the leases, so that nobody has to wait for their end, then close as on a file. Ends a `recover` that waits."""
        for task in (self._entering, self._heart):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._entering is not None:
            with suppress(FinagentError):  # a store that is away lets them lapse
                left = self._writer.submit(self._shared.leave, lane=Lane.BULK)  # behind all else
                self._writer.closing = True  # nothing comes behind it
                self._leaving.set()
                await left
            self._entering = None
        if self._listener is not None:
            await self._listener.close(timeout=self._connect_seconds)
            self._listener = None
        await super().close()

    def _once_more(self) -> bool:
        """On the thread that met a lost connection. The lease, held fast in each transaction, says whether we were replaced."""
        left = self.lease_left_seconds()
        if left <= 0:
            return False
        log.warning("store_awaited", lease_left_seconds=round(left, 1))
        return not self._leaving.wait(self._lease_policy.poll_seconds)

    async def _enter(self) -> list[Job]:
        policy, waited = self._lease_policy, False
        while True:
            asked_at = self._monotonic()
            try:
                answer = await self._writer.submit(partial(self._shared.enter, self._clock.now()), lane=Lane.URGENT)
            except Transient as error:  # a process that was stopped inside a transaction holds everybody up for a while
                log.warning("store_awaited", error=str(error))
            else:
                if isinstance(answer, Entered):
                    break
                if not waited:
                    log.warning("leader_awaited", holder=answer[0], lease_left_seconds=round(answer[1], 1))
                waited = True
            await asyncio.sleep(policy.poll_seconds)
        self._lease_ends_at = asked_at + policy.lease_seconds
        await self._listen()
        self._heart = asyncio.get_running_loop().create_task(self._beat(), name="queue heartbeat")
        self._start_carrier()
        if answer.succeeded:  # the last send of the leader before us began under its lease; let its deadline pass too
            log.warning("leader_succeeded", waits_seconds=policy.send_deadline_seconds)
            await asyncio.sleep(policy.send_deadline_seconds)
            self._shared.succeeds = False
        return answer.rescued

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_policy.heartbeat_seconds)
            asked_at = self._monotonic()
            try:
                rescued = await self._writer.submit(partial(self._shared.heartbeat, self._clock.now()), lane=Lane.URGENT)
                self._lease_ends_at = asked_at + self._lease_policy.lease_seconds
                if rescued:
                    log.warning("jobs_given_back", jobs=len(rescued))
                    self._changed.set()
                await self._listen()
            except FinagentError as error:
                log.warning("heartbeat_failed", error=str(error))

    async def _listen(self) -> None:
        """Hear of the commits of others; without an ear the poll interval does."""
        if self._listener is not None and not self._listener.is_closed():
            return
        try:
            self._listener = await asyncpg.connect(self._url, timeout=self._connect_seconds)
            await self._listener.add_listener(CHANNEL, lambda *_: self._changed.set())
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("listener_failed", error=repr(error))
