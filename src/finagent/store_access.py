"""The store for commands: read-only beside a running agent, and the writer where no agent runs."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.database.audit import AuditKeeper
from finagent.adapters.database.move_mark import mark_objection
from finagent.adapters.database.opening import open_reads
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.job_queue.history import StoredJobHistory
from finagent.adapters.job_queue.shared import Participant, participants
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import JobQueue
from finagent.domain.trading_state import MarketClock
from finagent.services.kill_switch import KillSwitch
from finagent.settings import Settings

if TYPE_CHECKING:
    from finagent.adapters.store_move.moving import Move, Progress

HALT_FILE = "HALT"
CONTROL_SOCKET = "finagent.sock"
_REVISION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True, slots=True)
class Store:
    """What a reading command sees: committed state only, as of each read."""

    path: Path
    reads: StoreReads
    jobs: StoredJobHistory
    shared: bool

    @property
    def moved(self) -> str:
        """Why another store is the one to use; empty when this one is."""
        return mark_objection(self.reads)

    @property
    def participants(self) -> list[Participant]:
        """Who takes part, where a store is shared."""
        return participants(self.reads) if self.shared else []

    def now(self) -> datetime:
        """A replay's market time, which reading or writing must not move on, else the wall's."""
        from finagent.adapters.clock import wall_now

        stored = self.reads.get(MarketClock, 1)
        return stored.at if stored else wall_now()


@dataclass(frozen=True, slots=True)
class Writing:
    """What a writing command has where no agent runs."""

    store: Store
    queue: JobQueue
    clock: Clock
    audit: AuditKeeper


@contextmanager
def reading(settings: Settings) -> Iterator[Store]:
    """The store opened for reading alone. Raises Unavailable where nothing has run yet, BadInput for settings that
    contradict each other about where it is."""
    from finagent.policies import require_backend

    require_backend(settings)
    reads = open_reads(settings.store_address, settings.database.connect_seconds, settings.database.statement_seconds)
    try:
        yield Store(settings.database_path, reads, StoredJobHistory(reads), settings.storage.url is not None)
    finally:
        reads.close()


def upgraded(settings: Settings) -> tuple[str, str]:
    """Bring the tables of the store to those of this program; the revision before and after. Raises BadInput while a process
    holds the folder, Unavailable where there is no store."""
    from finagent.adapters.database.lock import DatabaseLock
    from finagent.bootstrap import upgrade_store
    from finagent.services.failpoints import unarmed

    with reading(settings) as store, DatabaseLock(settings.database_path):
        before = store.reads.rows(_REVISION)[0][0]
        upgrade_store(settings, unarmed)
        return before, store.reads.rows(_REVISION)[0][0]


@asynccontextmanager
async def kill_switch_without_agent(settings: Settings) -> AsyncIterator[KillSwitch]:
    """The kill switch, as `writing` has the store."""
    from finagent.adapters.calendar import NewYorkCalendar

    async with writing(settings) as writer:
        halted = (settings.storage.directory / HALT_FILE).exists
        switch = KillSwitch(writer.store.reads, writer.queue, writer.clock, halted)
        switch.flat_by = lambda now: NewYorkCalendar().session_at_or_after(now).closes_at
        yield switch


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[Writing]:
    """This process is a writer while the block runs: the only one of a file, a guest on a store that processes share. Raises
    BadInput where another process holds the folder, Unavailable where there is no store."""
    from finagent.adapters.clock import VirtualClock
    from finagent.adapters.database.lock import DatabaseLock
    from finagent.bootstrap import GUEST, build_audit, build_job_queue, build_shared_queue, upgrade_store
    from finagent.services.failpoints import unarmed
    from finagent.telemetry.metrics import Metrics

    with reading(settings) as store, DatabaseLock(settings.database_path):
        upgrade_store(settings, unarmed)
        clock = VirtualClock(store.now())
        queue = (
            build_shared_queue(settings, store.reads, clock, unarmed, GUEST, Metrics())
            if store.shared
            else build_job_queue(settings, store.reads, clock, unarmed, Metrics())
        )
        audit = build_audit(settings, store.reads, queue, clock, unarmed)
        try:
            if not store.shared:  # seals and anchor of a shared store are its leader's
                await audit.prepare()
            await queue.recover()
            yield Writing(store, queue, clock, audit)
        finally:
            if not store.shared:
                await audit.seal()
            await queue.close()
            if not store.shared:
                await audit.write_anchor()


@contextmanager
def moving(settings: Settings, source: str | None, target: str, progress: "Progress") -> "Iterator[Move]":
    """A move of the store (or of the one at the address `source`) to the address `target`, both open and used by nobody else.

    Raises BadInput for an address that is none and for a store in use, Unavailable for one that is not there.
    """
    from contextlib import ExitStack

    from finagent.adapters.clock import wall_now
    from finagent.adapters.store_move.ends import EndPolicy, open_end
    from finagent.adapters.store_move.moving import Move
    from finagent.policies import writer_policy
    from finagent.services.failpoints import unarmed

    database = settings.database
    policy = EndPolicy(writer_policy(settings), database.connect_seconds, database.move_statement_seconds)
    with ExitStack() as ends:
        here = open_end(source or settings.storage.url or f"sqlite:///{settings.database_path}", policy, create=False)
        ends.callback(here.close)
        there = open_end(target, policy, create=True)
        ends.callback(there.close)
        yield Move(here, there, database.move_batch_rows, wall_now(), unarmed, progress)
