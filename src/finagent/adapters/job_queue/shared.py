"""What the queue does inside a transaction of a store that several processes share.

Each process has a life: an epoch of its own and a lease under it, renewed by heartbeats in the server's time. Every transaction
begins by holding its own lease fast; a lease that ran out is deleted by whoever notices, in the transaction that gives the jobs
under it back. So what a process commits is committed before its jobs are given away, or not at all. One process is the leader:
it alone feeds, schedules, gates, executes and reconciles; the others take the services that they name.
"""
# ruff: noqa: S608 - the statements are put together from constants of this file and of `rows`

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import groupby, islice
from typing import Any

from finagent.adapters.database.connection import Driver
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.move_mark import refuse_marked
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.database.writer import Done
from finagent.adapters.job_queue import rows
from finagent.adapters.job_queue.by_hand import HandOperations
from finagent.adapters.job_queue.operations import DurableQueuePolicy, given_back
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.jobs import Job
from finagent.domain.time import to_text

LEADER = "leader"
CHANNEL = "finagent_jobs"
STORY_LOCK = 716151  # of PostgreSQL's advisory locks: chains grow, and predicates are judged, by one writer at a time
_NOW = "extract(epoch FROM clock_timestamp())::float8"

LOCK_STORY = f"SELECT pg_advisory_xact_lock({STORY_LOCK})"
HOLD_LEASES = f"SELECT pg_notify('{CHANNEL}', '') FROM lease WHERE epoch = ? FOR KEY SHARE"
TAKE_LEASE = f"""
INSERT INTO lease (name, epoch, worker_id, services, until, build_hash) VALUES (?, ?, ?, ?, {_NOW} + ?, ?)
ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, worker_id = excluded.worker_id, services = excluded.services,
  until = excluded.until, build_hash = excluded.build_hash
WHERE lease.until < {_NOW}
RETURNING epoch"""
LIVING = f"SELECT name, worker_id, services, until - {_NOW} FROM lease WHERE until >= {_NOW} ORDER BY name <> '{LEADER}', epoch"
TAKES_PART = f"until >= {_NOW} AND (name = '{LEADER}' OR services <> '')"  # a command is a guest, of whatever build
OF_ANOTHER_BUILD = f"""
SELECT worker_id, COALESCE(build_hash, 'an older one'), until - {_NOW} FROM lease
WHERE {TAKES_PART} AND build_hash IS DISTINCT FROM ? ORDER BY until DESC LIMIT 1"""
HOLDER = f"SELECT worker_id, until - {_NOW} FROM lease WHERE name = ?"
RENEW = f"UPDATE lease SET until = {_NOW} + ? WHERE epoch = ?"
REAP = f"DELETE FROM lease WHERE name <> '{LEADER}' AND until < {_NOW}"
ALIVE = f"SELECT worker_id, until - {_NOW} FROM lease WHERE until >= {_NOW} ORDER BY until DESC LIMIT 1"
LEAVE = "DELETE FROM lease WHERE epoch = ? AND until > 0"
STAY_EXPIRED = f"UPDATE lease SET until = 0 WHERE epoch = ? AND name = '{LEADER}'"
IDENTITY = "SELECT system_identifier || '-' || oid FROM pg_control_system(), pg_database WHERE datname = current_database()"
OTHERS = f"SELECT services FROM lease WHERE name <> '{LEADER}' AND epoch <> ?"
ORPHANED = rows.RUNNING.replace(
    "ORDER BY priority, run_at, id",
    f"AND NOT EXISTS (SELECT 1 FROM lease WHERE name <> '{LEADER}' AND lease.epoch = job_queue.epoch) "
    "ORDER BY epoch, priority, run_at, id",
)
RUNNING_ELSEWHERE = "SELECT EXISTS (SELECT 1 FROM job_queue WHERE status = 'RUNNING' AND epoch <> ?)"
_SKIP = " FOR UPDATE SKIP LOCKED"
_OF = "AND (queue = ANY(?)) = ? ORDER BY"
READY_OF = rows.READY_FIRST.replace("ORDER BY", _OF) + _SKIP
SCHEDULED_OF = rows.SCHEDULED_FIRST.replace("ORDER BY", _OF) + _SKIP


@dataclass(frozen=True, slots=True)
class Role:
    """What this process does: the leader every service that nobody else takes, a worker the `services` that it names."""

    leader: bool
    services: frozenset[str]


@dataclass(frozen=True, slots=True)
class Participant:
    """A process that takes part, or under the name `leader` the one that leads, and how long its lease lasts without a sign."""

    name: str
    worker_id: str
    services: tuple[str, ...]
    lease_left_seconds: float


def participants(reads: StoreReads) -> list[Participant]:
    """Who has a lease on the store of a server, the leader first."""
    return [
        Participant(name, worker, tuple(services.split()), round(left, 1)) for name, worker, services, left in reads.rows(LIVING)
    ]


def store_identity(reads: StoreReads) -> str:
    """What names this database among all of all servers, whatever address leads to it, before anything has run in it."""
    return str(reads.rows(IDENTITY)[0][0])


@dataclass(frozen=True, slots=True)
class Entered:
    """A life has begun: the jobs that it gave back, and whether it leads in place of a leader that fell silent."""

    rescued: list[Job]
    succeeded: bool


class SharedOperations(HandOperations):
    """The operations of a process that is one of several."""

    def __init__(
        self,
        policy: DurableQueuePolicy,
        chains: EventChains,
        worker_id: str,
        role: Role,
        lease_seconds: float,
        *,
        carries_market_clock: bool,
    ) -> None:
        super().__init__(policy, chains, worker_id, carries_market_clock=carries_market_clock)
        self._role, self._lease_seconds = role, lease_seconds
        self.succeeds = False  # a leader that fell silent, whose last send may still be under way

    # -- life ----------------------------------------------------------------------------------------------------------------

    def guard(self, driver: Driver, serial: bool) -> None:
        """Our leases are held fast until COMMIT, of which whoever listens hears. Raises InvariantViolated once one is gone."""
        memory = self.memory
        if serial:
            self._join_story(driver)
        held = len(driver.execute(HOLD_LEASES, (memory.epoch,)).fetchall()) if memory.epoch else 0
        if memory.epoch and held != 1 + self._role.leader:
            raise InvariantViolated(f"fenced: a lease of life {memory.epoch} ran out, and another process took what was under it")

    def enter(self, at: datetime, driver: Driver) -> Done:
        """Begin a life: take the leader's lease if that is the role, then a lease of our own, and give back what the dead left.

        Answers with (holder, seconds left of its lease), and nothing is changed, while another leader lives. Raises BadInput
        while anybody of another build takes part.
        """
        memory = self.memory
        if memory.epoch:
            raise InvariantViolated("recover() was called twice")
        if self._role.leader or self._role.services:
            self._refuse_other_builds(driver)
        epoch = driver.execute(rows.EPOCH).fetchall()[0][0]
        leader = driver.execute(HOLDER, (LEADER,)).fetchall()
        terms = (epoch, self._worker_id, " ".join(sorted(self._role.services)), self._lease_seconds, self.chains.build_hash)
        if self._role.leader and not driver.execute(TAKE_LEASE, (LEADER, *terms)).fetchall():
            return Done(leader[0], wrote=False)
        driver.execute(TAKE_LEASE, (_life(epoch), *terms))
        refuse_marked(driver)  # behind the lease: whoever moves the store looks for leases before it marks
        memory.epoch = epoch
        memory.market_at = (driver.execute(rows.MARKET_CLOCK).fetchall() or [("",)])[0][0]
        led_until = datetime.fromisoformat(memory.market_at) if memory.market_at else at
        rescued, effects = self._give_back(driver, max(at, led_until))
        self._look_around(driver)
        self.succeeds = self._role.leader and bool(leader)
        entered = Entered(rescued, self.succeeds)
        return Done(entered, labels=frozenset({"epoch_commit"}), effects=effects, moved=given_back(rescued, effects))

    def heartbeat(self, at: datetime, driver: Driver) -> Done:
        """Our leases last anew, and what the dead left waits again."""
        driver.execute(RENEW, (self._lease_seconds, self.memory.epoch))
        rescued, effects = self._give_back(driver, at)
        self._look_around(driver)
        labels = self._carry_clock(driver, to_text(at)) if rescued else frozenset()
        return Done(rescued, labels=labels, effects=effects, moved=given_back(rescued, effects))

    def tell_time(self, now: datetime, driver: Driver) -> Done:
        """Work of this instant is left to others, who cannot know of it before some commit carries it."""
        labels = self._carry_clock(driver, to_text(now))
        return Done(None, wrote=bool(labels), labels=labels)

    def leave(self, driver: Driver) -> Done:
        """End this life in good order: what it left RUNNING waits for the next start, which need not wait for a lease.

        While a send of the leader before us may be under way, whoever leads next follows a leader that fell silent, as we did.
        """
        if self.succeeds:
            driver.execute(STAY_EXPIRED, (self.memory.epoch,))
        driver.execute(LEAVE, (self.memory.epoch,))
        return Done(None)

    def _refuse_other_builds(self, driver: Driver) -> None:
        ours = self.chains.build_hash
        for worker, theirs, left in driver.execute(OF_ANOTHER_BUILD, (ours,)).fetchall():
            raise BadInput(
                f"{worker} takes part with build {theirs}, this is build {ours}: two builds do not share a day. "
                f"Install one of them on both sides, or stop {worker} (its lease lasts another {left:.0f} s)"
            )

    def _give_back(self, driver: Driver, at: datetime) -> tuple[list[Job], tuple[tuple[Effect, Job | None], ...]]:
        driver.execute(REAP)
        rescued: list[Job] = []
        effects: tuple[tuple[Effect, Job | None], ...] = ()
        orphaned = driver.execute(ORPHANED).fetchall()
        for _, left in groupby(orphaned, key=rows.epoch):
            given_back, told = self._rescue(driver, list(left), at)
            rescued += given_back
            effects += told
        return rescued, effects

    def _look_around(self, driver: Driver) -> None:
        """Which services another process takes, and how many jobs are in quarantine, as of now."""
        taken = driver.execute(OTHERS, (self.memory.epoch,)).fetchall() if self._role.leader else []
        self.memory.elsewhere = frozenset(name for (services,) in taken for name in services.split())
        self.memory.quarantined = driver.execute(rows.QUARANTINED).fetchall()[0][0]

    def _join_story(self, driver: Driver) -> None:
        driver.execute(LOCK_STORY)
        self.memory.last_event_id = driver.execute(rows.LAST_EVENT).fetchall()[0][0]

    # -- what is ours to take ------------------------------------------------------------------------------------------------

    def services(self) -> frozenset[str]:
        """Of the role, without those that another process takes."""
        return self._role.services - self.memory.elsewhere

    def _may_hand_out(self, driver: Driver, queue: str, place: tuple[int, str, int], now: str) -> bool:
        return queue in self.services() and super()._may_hand_out(driver, queue, place, now)

    def _due(self, driver: Driver, now: str, limit: int, ids: Sequence[int] | None) -> Iterable[tuple[Any, ...]]:
        """As on a file, of our services alone; rows that another process is about to take are passed over."""
        self._look_around(driver)
        ours = self.services()
        if self._role.leader:  # also of a service that no release at work here knows: somebody must park those
            named, listed = sorted({kind.queue for kind in self._policy.release.types.values()} - ours), False
        else:
            named, listed = sorted(ours), True
        ready_of, among = rows.among(READY_OF, ids)
        ready = driver.execute(ready_of, (named, listed, *among, limit)).fetchall()
        scheduled = driver.execute(SCHEDULED_OF, (now, named, listed, limit)).fetchall()
        return islice(merge(ready, scheduled, key=rows.place), limit)


def _life(epoch: int) -> str:
    return f"life-{epoch}"
