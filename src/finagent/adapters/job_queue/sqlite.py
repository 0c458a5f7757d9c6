"""The `JobQueue` on a SQLite file, which one process owns."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from finagent.adapters.database.connection import StoreConnection
from finagent.adapters.database.copies import copy_pages
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.database.sqlite import SqliteConnection
from finagent.adapters.database.writer import Abort, exit_at_once
from finagent.adapters.job_queue.by_hand import HandOperations
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.domain.ports.clock import Clock
from finagent.services.failpoints import Failpoints


class SqliteJobQueue(SqlJobQueue):
    """The file's lock is held by the caller: what an earlier process left RUNNING is nobody's, and is given back at once."""

    def __init__(
        self,
        path: Path,
        *,
        reads: StoreReads,
        clock: Clock,
        policy: DurableQueuePolicy,
        writer_policy: WriterPolicy,
        failpoints: Failpoints,
        build_hash: str,
        settings_hash: str,
        worker_id: str,
        carries_market_clock: bool,
        abort: Abort = exit_at_once,
    ) -> None:
        chains = EventChains(build_hash, settings_hash)
        super().__init__(
            lambda: SqliteConnection(path, writer_policy, failpoints),
            reads=reads,
            clock=clock,
            policy=policy,
            operations=HandOperations(policy, chains, worker_id, carries_market_clock=carries_market_clock),
            group_operations_max=writer_policy.group_operations_max,
            failpoints=failpoints,
            abort=abort,
        )
        self._failpoints = failpoints

    def copy(self, target: Path, step_pages: int) -> asyncio.Future[None]:
        """A copy of the store in a new file, made between the commits (see `copies`)."""

        def copied(connection: StoreConnection, let_pass: Callable[[], None]) -> None:
            assert isinstance(connection, SqliteConnection)
            copy_pages(connection.driver, target, step_pages, lambda _left, _of: let_pass(), self._failpoints)

        return self._writer.aside(copied)
