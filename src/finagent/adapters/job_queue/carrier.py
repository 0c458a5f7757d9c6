"""The queue's carrier: Redis tells which jobs wait, the table decides who has them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

import structlog

from finagent.adapters.database.writer import Moved
from finagent.adapters.job_queue.streams import Entry, JobStreams
from finagent.domain.errors import FinagentError, Transient
from finagent.domain.jobs import JOB_TYPES, WAITS_FOR_A_PERSON, Job, JobStatus

T = TypeVar("T")
Look = Callable[[frozenset[str], int], Awaitable[list[Entry]]]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CarrierPolicy:
    """`sweep_seconds` between looks for what no entry tells of, and before Redis is tried again when it was away; `entries_max`
    at hand, `dead_letters_max` told again to a Redis that has forgotten them."""

    sweep_seconds: float
    entries_max: int
    dead_letters_max: int


class Table(Protocol):
    """The queue whose jobs are carried."""

    def services(self) -> frozenset[str]:
        """Whose jobs this process takes, as of its last look."""
        ...

    def claim_among(self, now: datetime, limit: int, ids: Sequence[int] | None) -> asyncio.Future[list[Job]]:
        """`JobQueue.claim` of these jobs, and of any whose time has come; None: of all."""
        ...

    def waiting(self, ids: Sequence[int]) -> set[int]:
        """Those of the jobs that somebody may claim."""
        ...

    def stuck(self, limit: int) -> list[Moved]:
        """The last jobs that are DEAD or PARKED."""
        ...


class CarrierObserver(Protocol):
    """Told how fast announcements go out, and when Redis went away or came back."""

    def announced(self, seconds: float) -> None: ...

    def carrier_away(self, away: bool) -> None: ...


class RedisCarrier:
    """Announces after the commit what it left waiting, and claims what is announced. All on the loop of its queue.

    * A process whose services nobody else takes (`alone`) claims from the table and announces nothing of them to itself: what
      it claims never depends on Redis, so a replay in lock-step ends the same.
    * A worker claims the jobs of the entries that it was given; without any, it looks at the table. So a lost entry delays a job
      by `sweep_seconds` at most, and an entry too many claims nothing and is deleted.
    * The claim order holds among the entries at hand and the jobs whose time has come. An entry is taken before the claim: what
      is submitted meanwhile is committed first.
    * While Redis is away every process claims from the table: what is committed, and once, is decided there anyway. An error that
      nothing foresaw makes it away until the next start: nobody waits for a carrier that has failed.
    """

    def __init__(
        self,
        table: Table,
        streams: JobStreams,
        policy: CarrierPolicy,
        *,
        alone: bool,
        observer: CarrierObserver,
        monotonic: Callable[[], float],
    ) -> None:
        self._table, self._streams, self._policy, self._alone = table, streams, policy, alone
        self._observer, self._monotonic = observer, monotonic
        self._held: dict[int, list[Entry]] = {}  # taken, their jobs not claimed
        self._claimed: dict[int, list[Entry]] = {}  # by us, not acknowledged
        self._claims = 0  # under way: the table may be ahead of `_held`
        self._looked_at = float("-inf")  # at the whole table: an entry may be lost while others keep coming
        self._woken = False  # by entries that no claim has used yet
        self._telling = 0  # announcements that Redis is hearing now
        self._moved: list[Moved] = []
        self._finished: list[Entry] = []
        self._flushes: list[asyncio.Future[None]] = []
        self._outgoing = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._away_until: float | None = None
        self._failed = False
        self._losses_met = -1

    # -- called by the queue -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The table is recovered: begin to tell and to listen."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._while_it_works(self._relay), name="queue relay"),
            loop.create_task(self._while_it_works(self._sweep), name="queue sweep"),
        ]

    def moved(self, rows: Iterable[Moved]) -> None:
        """A commit left these jobs in these states."""
        if self._failed:
            return
        own = self._table.services() if self._alone else frozenset()
        for row in rows:
            self._finished += self._claimed.pop(row.job_id, ())
            kind = JOB_TYPES.get(row.type)  # what is of another release is found in the table
            for_others = row.status is JobStatus.READY and kind is not None and kind.queue not in own
            if for_others or row.status in WAITS_FOR_A_PERSON:
                self._moved.append(row)
        if self._moved or self._finished:
            self._outgoing.set()

    def claim(self, now: datetime, limit: int) -> asyncio.Future[list[Job]]:
        """See `JobQueue.claim`."""
        if self._alone or not self._tasks:
            return self._table.claim_among(now, limit, None)
        claim = asyncio.get_running_loop().create_task(self._claim(now, limit), name="queue claim")
        self._claims += 1
        claim.add_done_callback(self._claim_ended)
        return claim

    async def changed(self) -> bool:
        """Until an entry for us has come, or the sweep interval is over; at once and False where no entry may tell."""
        if self._alone:
            return False
        take = partial(self._streams.take, wait=True)
        taken = await self._ask(lambda: take(self._table.services(), self._policy.entries_max))
        self._take(taken or ())
        self._woken = bool(taken)
        return taken is not None

    async def close(self) -> None:
        """Tell the rest, give back what is held, and go."""
        self._closing.set()
        self._outgoing.set()
        await asyncio.gather(*self._tasks)
        self._tell_flushed(self._flushes)
        if self._tasks:
            await self._send()
            unfinished = [entry for kept in (self._held, self._claimed) for entries in kept.values() for entry in entries]
            await self._ask(lambda: self._streams.leave(self._table.services(), unfinished))
        self._tasks = []
        await self._streams.close()

    # -- claims --------------------------------------------------------------------------------------------------------------

    async def _claim(self, now: datetime, limit: int) -> list[Job]:
        if (self._moved or self._telling) and not self._failed:
            await self._flushed()
        room = self._policy.entries_max - len(self._held)  # beyond `limit`: the first in the claim order may be the last told
        woken, self._woken = self._woken, False
        if room > 0 and not woken:
            self._take(await self._ask(lambda: self._streams.take(self._table.services(), room)) or ())
        overdue = self._monotonic() - self._looked_at >= self._policy.sweep_seconds
        ids = [] if overdue or self._is_away() else list(self._held)
        jobs = await self._table.claim_among(now, limit, ids) if ids else []
        if not jobs:
            self._looked_at = self._monotonic()
            jobs = await self._table.claim_among(now, limit, None)
        for job in jobs:
            if job.id in self._held:
                self._claimed[job.id] = self._held.pop(job.id)
        with suppress(FinagentError):  # what was claimed must reach its caller; the sweep looks again
            self._let_go()
        return jobs

    def _claim_ended(self, _: asyncio.Future[list[Job]]) -> None:
        self._claims -= 1

    def _take(self, entries: Iterable[Entry]) -> None:
        if self._alone:  # the table tells us what is ours; an entry of another process has done its work by waking us
            self._finished += entries
            self._outgoing.set()
            return
        for entry in entries:
            self._held.setdefault(entry.job_id, []).append(entry)

    def _let_go(self) -> None:
        """Entries whose jobs nobody can claim any more are finished: done, taken by another, unknown."""
        if not self._held:
            return
        for id_ in self._held.keys() - self._table.waiting(list(self._held)):
            self._finished += self._held.pop(id_)
        self._outgoing.set()

    # -- telling -------------------------------------------------------------------------------------------------------------

    async def _relay(self) -> None:
        while not self._closing.is_set():
            await self._outgoing.wait()
            self._outgoing.clear()
            flushes, self._flushes = self._flushes, []
            try:
                await self._send()
            finally:
                self._tell_flushed(flushes)

    async def _send(self) -> None:
        """What does not arrive is not sent again: the table is looked at for it."""
        moved, self._moved, finished, self._finished = self._moved, [], self._finished, []
        if not (moved or finished):
            return
        started = self._monotonic()
        self._telling = len(moved)
        sent = await self._ask(lambda: self._sent(moved, finished))
        self._telling = 0
        if sent and moved:
            self._observer.announced(self._monotonic() - started)

    async def _sent(self, moved: Sequence[Moved], finished: Sequence[Entry]) -> bool:
        await self._streams.send(moved, finished)
        return True

    async def _flushed(self) -> None:
        """What is to be told is told; a claim must not miss what was committed before it."""
        flush = asyncio.get_running_loop().create_future()
        self._flushes.append(flush)
        self._outgoing.set()
        await flush

    @staticmethod
    def _tell_flushed(flushes: Iterable[asyncio.Future[None]]) -> None:
        for flush in flushes:
            if not flush.done():
                flush.set_result(None)

    # -- looking around ------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        look: Look = self._streams.take if self._alone else self._streams.take_over
        while not self._closing.is_set():
            self._take(await self._ask(lambda: look(self._table.services(), self._policy.entries_max)) or ())
            try:
                if not self._claims:
                    self._let_go()
                await self._retell()
            except FinagentError as error:  # the store is away; so is everything else of us, and it says so
                log.warning("sweep_failed", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._policy.sweep_seconds):  # wait_for of Python 3.11 may lose a cancellation
                    await self._closing.wait()

    async def _retell(self) -> None:
        """A Redis that has forgotten everything, or that we have not met before, hears of the dead letters again."""
        losses = self._streams.losses
        if losses == self._losses_met:
            return
        told = await self._ask(self._streams.dead_letters)
        if told is not None:
            self._moved += [each for each in self._table.stuck(self._policy.dead_letters_max)[::-1] if each.job_id not in told]
            self._outgoing.set()
            self._losses_met = losses

    def _is_away(self) -> bool:
        return self._failed or (self._away_until is not None and self._monotonic() < self._away_until)

    async def _while_it_works(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:  # noqa: BLE001 - whatever it is: the table does without us
            self._give_up()

    def _give_up(self) -> None:
        """Nothing is told or asked any more, and whoever waits for that goes on."""
        log.exception("carrier_failed", claims_from="the table until the next start")
        self._failed = True
        self._closing.set()
        self._moved, self._finished = [], []
        self._tell_flushed(self._flushes)
        self._observer.carrier_away(True)

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The answer of Redis; None while it is away, which is asked again once a sweep."""
        if self._is_away():
            return None
        try:
            answer = await call()
        except Transient as error:
            if self._away_until is None:
                log.warning("redis_away", error=str(error), claims_from="the table")
                self._observer.carrier_away(True)
            self._away_until = self._monotonic() + self._policy.sweep_seconds
            return None
        except Exception:  # noqa: BLE001 - as of the tasks
            self._give_up()
            return None
        if self._away_until is not None:
            log.warning("redis_back", where=self._streams.where)
            self._observer.carrier_away(False)
            self._away_until, self._losses_met = None, -1
        return answer
