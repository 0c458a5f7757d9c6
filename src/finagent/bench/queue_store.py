"""The store that the queue's loads run on: the agent's own tables and queue, in a folder that is thrown away."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from finagent.adapters.clock import VirtualClock, wall_now
from finagent.adapters.database import sqlite
from finagent.adapters.database.engine import WriterPolicy, writer_engine
from finagent.adapters.database.opening import open_reads
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.heap import settled_heap
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.bootstrap import build_job_queue, upgrade_store
from finagent.domain.effect import Effect
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.domain.trading_state import MarketClock
from finagent.services.failpoints import unarmed
from finagent.settings import Settings, load_settings
from finagent.telemetry.metrics import Metrics


def payload(number: int) -> dict[str, Any]:
    """The job that the peers' scripts enqueue, about 300 bytes of JSON."""
    return {
        "id": number,
        "symbol": "AAPL",
        "stage": "scoring",
        "ts": 1700000000.123 + number,
        "features": [0.123456, 1.234567, 2.345678, 3.456789, 4.567891, 5.678912],
        "reason": "breakout above 20d high with rel. volume 2.3x and RSI 61; spread ok; sector strong",
        "ctx": {"run": "a3f9c2d1e8b7", "strategy": "momentum_v2", "broker": "paper"},
    }


@dataclass(frozen=True)
class Store:
    """A store in its folder; `synchronous` NORMAL is for comparing with peers that run so, the agent itself never does."""

    overrides: tuple[str, ...]
    synchronous: str = "FULL"

    @cached_property
    def settings(self) -> Settings:
        """The agent's, with the folder and whatever else is laid over them."""
        return load_settings(overrides=self.overrides)

    @property
    def path(self) -> Path:
        return self.settings.database_path

    def migrate(self) -> None:
        """The agent's own tables; on a server in a database that is made anew."""
        if self.settings.storage.url is not None:
            _make_database(self.settings.storage.url)
        upgrade_store(self.settings, unarmed)

    def open_reads(self) -> StoreReads:
        database = self.settings.database
        return open_reads(self.settings.store_address, database.connect_seconds, database.statement_seconds)

    @asynccontextmanager
    async def queue(self, metrics: Metrics | None = None) -> AsyncIterator[tuple[SqlJobQueue, Reads]]:
        """The agent's queue, recovered, in a settled heap as the agent has, on a market clock that stands still."""
        clock = VirtualClock(wall_now())
        reads = self.open_reads()
        queue = build_job_queue(self.settings, reads, clock, unarmed, metrics or Metrics())
        try:
            await queue.recover()
            if reads.get(MarketClock, 1) is None:
                await queue.submit(Effect((MarketClock(1, "bench", clock.now(), "RUNNING"),)))
            with settled_heap():
                yield queue, reads
        finally:
            await queue.close()
            reads.close()

    def seed(self, jobs: int, status: str) -> None:
        """Jobs that are there before anything is measured."""
        now = to_text(wall_now())
        with sqlite3.connect(self.path) as connection:
            connection.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :jobs) "
                "INSERT INTO job_queue (id, queue, type, payload, payload_version, status, priority, run_at, attempts, crashes, "
                "solo_crashes, max_attempts, epoch, fence, dedup_key, trace_id, created_at, finished_at) "
                "SELECT i, 'scoring', 'score', :payload, 1, :status, 50, :now, 0, 0, 0, 5, 0, 0, 'seeded-' || i, '', :now, "
                "CASE :status WHEN 'DONE' THEN :now END FROM n",
                {"jobs": jobs, "status": status, "now": now, "payload": json.dumps(payload(0))},
            )
            connection.execute("INSERT INTO meta (key, value) VALUES ('next_job_id', ?)", (jobs + 1,))
        connection.close()


def _make_database(url: str) -> None:
    import asyncpg  # an extra

    server, _, name = url.rpartition("/")

    async def make() -> None:
        connection = await asyncpg.connect(f"{server}/postgres")
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    with ThreadPoolExecutor(1) as thread:  # a load has a running loop
        thread.submit(asyncio.run, make()).result()


def relax_writer(synchronous: str) -> None:
    """From now on the writer of this process opens its connection with another `synchronous`; no setting can do that."""

    def relaxed(path: Path, policy: WriterPolicy) -> Engine:
        engine = writer_engine(path, policy)
        event.listen(engine, "connect", lambda connection, _record: connection.execute(f"PRAGMA synchronous={synchronous}"))
        return engine

    sqlite.writer_engine = relaxed  # type: ignore[attr-defined] # a name that the module imported
