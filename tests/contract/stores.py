"""The stores that every durable queue is tested on: each can be left behind and opened again, as after the end of its process."""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade, upgrade_postgres
from finagent.adapters.database.postgres import PostgresPolicy, PostgresReads
from finagent.adapters.database.reader import SqliteReads, StoreReads
from finagent.adapters.database.tables import metadata
from finagent.adapters.job_queue.carrier import CarrierPolicy, RedisCarrier
from finagent.adapters.job_queue.history import StoredJobHistory, record_of
from finagent.adapters.job_queue.in_memory import InMemoryJobQueue
from finagent.adapters.job_queue.in_memory_records import InMemoryReads, InMemoryRecords
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.postgres import LeasePolicy, PostgresJobQueue
from finagent.adapters.job_queue.shared import Role
from finagent.adapters.job_queue.sql import ALL_SERVICES, SqlJobQueue
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.adapters.job_queue.streams import JobStreams, StreamPolicy
from finagent.domain.jobs import Job
from finagent.services.failpoints import unarmed
from finagent.services.forensics.job_history import JobFilter, JobRecord
from finagent.telemetry.metrics import Metrics

START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
POLICY = DurableQueuePolicy(
    memory_limit=8,
    max_solo_crashes=3,
    attempts_max=5,
    id_block_size=4,
    done_retention_days=1,
    dead_retention_days=3,
    prune_batch_rows=2,
    error_length_max=100,
    errors_kept=3,
)
WRITER = WriterPolicy(
    busy_timeout_seconds=1, wal_autocheckpoint_pages=1000, group_operations_max=500, database_bytes_max=0, probe_bytes=4096
)
POSTGRES = PostgresPolicy(connect_seconds=10, statement_seconds=30, group_operations_max=500)
LEASES = LeasePolicy(lease_seconds=30, heartbeat_seconds=5, send_deadline_seconds=0, poll_seconds=0.05)
STREAMS = StreamPolicy(call_seconds=5, wait_seconds=0.05, entries_max=1000, dead_letters_max=100, min_idle_seconds=60)
CARRIER = CarrierPolicy(sweep_seconds=0.05, entries_max=1000, dead_letters_max=100)
names = count(1)


class DurableStore(ABC):
    """A store with one queue over it at a time; `policy` binds each queue that is opened."""

    queue: SqlJobQueue | InMemoryJobQueue
    reads: StoreReads | InMemoryReads

    def __init__(self, policy: DurableQueuePolicy = POLICY) -> None:
        self.policy = policy
        self.clock = VirtualClock(START)

    @abstractmethod
    def open(self) -> None:
        """A queue over the store that the one before has left."""

    async def close(self) -> None:
        """The process ends."""
        await self.queue.close()

    async def restart(self) -> list[Job]:
        """The process ends with its jobs RUNNING, another starts."""
        await self.close()
        self.open()
        return await self.queue.recover()

    @abstractmethod
    def row(self, job_id: int) -> JobRecord:
        """One job as it is stored."""

    @abstractmethod
    def listed(self) -> list[JobRecord]:
        """Every job by its id."""

    def arguments(self) -> dict[str, Any]:
        """What every queue is given."""
        return {
            "clock": self.clock,
            "policy": self.policy,
            "build_hash": "build",
            "settings_hash": "settings",
            "worker_id": "worker",
            "carries_market_clock": False,
        }


class SqlStore(DurableStore):
    """A store that is read by statements."""

    queue: SqlJobQueue
    reads: StoreReads

    async def close(self) -> None:
        """The process ends, and its reads with it."""
        await super().close()
        self.reads.close()

    def row(self, job_id: int) -> JobRecord:
        """See `DurableStore`."""
        found = StoredJobHistory(self.reads).job(job_id)
        assert found is not None
        return found

    def listed(self) -> list[JobRecord]:
        """See `DurableStore`."""
        return StoredJobHistory(self.reads).listed(JobFilter(), 10_000)[::-1]


class SqliteStore(SqlStore):
    """A file."""

    def __init__(self, path: Path, policy: DurableQueuePolicy = POLICY) -> None:
        super().__init__(policy)
        self.path = path
        if not path.exists():
            upgrade(path, WRITER, unarmed)

    def open(self) -> None:
        """See `DurableStore`."""
        self.reads = SqliteReads(self.path)
        self.queue = SqliteJobQueue(self.path, reads=self.reads, writer_policy=WRITER, failpoints=unarmed, **self.arguments())


class InMemoryStore(DurableStore):
    """Records that outlive the queues over them, as a file outlives its processes."""

    def __init__(self, policy: DurableQueuePolicy = POLICY) -> None:
        super().__init__(policy)
        self.records = InMemoryRecords()
        self.reads = InMemoryReads(self.records)

    def open(self) -> None:
        """See `DurableStore`."""
        self.queue = InMemoryJobQueue(self.records, **self.arguments())

    def row(self, job_id: int) -> JobRecord:
        """See `DurableStore`."""
        return record_of(self.records.jobs.rows[job_id,])

    def listed(self) -> list[JobRecord]:
        """See `DurableStore`."""
        return [self.row(id_) for (id_,) in sorted(self.records.jobs.rows)]


class PostgresStore(SqlStore):
    """A database on a real server, emptied first unless others are at work there; `more` replaces what the queue is given."""

    def __init__(self, url: str, policy: DurableQueuePolicy = POLICY, *, empty: bool = True, **more: Any) -> None:
        super().__init__(policy)
        self.url, self.more = url, more
        if not empty:
            return
        tables = ", ".join(f'"{name}"' for name in metadata.tables)
        blocking(run_statements(url, f"TRUNCATE {tables} CASCADE"))

    def open(self) -> None:
        """See `DurableStore`."""
        self.reads = PostgresReads(self.url, POSTGRES)
        role = Role(leader=True, services=ALL_SERVICES)
        given = {"lease_policy": LEASES, "role": role, "postgres_policy": POSTGRES} | self.more
        self.queue = PostgresJobQueue(
            self.url,
            reads=self.reads,
            failpoints=unarmed,
            monotonic=time.monotonic,
            **self.arguments() | given,
        )


def carried(queue: SqlJobQueue, url: str, name: str, *, alone: bool = False, metrics: Metrics | None = None) -> SqlJobQueue:
    """The queue with Redis as its carrier."""
    streams = JobStreams(url, name, f"consumer-{next(names)}", STREAMS)
    observer = metrics or Metrics()
    queue.carrier = RedisCarrier(queue, streams, CARRIER, alone=alone, observer=observer, monotonic=time.monotonic)
    return queue


class RedisStore(DurableStore):
    """Another store, carried by a real Redis."""

    def __init__(self, table: SqlStore, url: str) -> None:
        super().__init__(table.policy)
        self.table, self.url, self.name = table, url, f"test-{os.getpid()}-{next(names)}"
        table.clock = self.clock

    def open(self) -> None:
        """See `DurableStore`."""
        self.table.policy = self.policy
        self.table.open()
        self.reads, self.queue = self.table.reads, carried(self.table.queue, self.url, self.name)

    async def close(self) -> None:
        """See `DurableStore`."""
        await self.table.close()

    def row(self, job_id: int) -> JobRecord:
        """See `DurableStore`."""
        return self.table.row(job_id)

    def listed(self) -> list[JobRecord]:
        """See `DurableStore`."""
        return self.table.listed()


@contextmanager
def postgres_database(server: str, name: str, revision: str = "head") -> Iterator[str]:
    """The address of a migrated database of that name on the server; it is dropped at the end."""
    url = f"{server.rsplit('/', 1)[0]}/{name}"
    blocking(run_statements(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"))
    try:
        upgrade_postgres(url, unarmed, revision)
        yield url
    finally:
        blocking(run_statements(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def blocking(work: Any) -> Any:
    """Run a coroutine to its end, wherever the caller stands."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def run_statements(url: str, *statements: str) -> None:
    """Each in a transaction of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
