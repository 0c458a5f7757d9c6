"""A store on disk for one test, and queues over it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters.database.story import Story

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.services.failpoints import unarmed

START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]


@pytest.fixture
def policy() -> WriterPolicy:
    return WriterPolicy(1, 1000, group_operations_max=500, database_bytes_max=0, probe_bytes=4096)


@pytest.fixture
def database(tmp_path: Path, policy: WriterPolicy) -> Path:
    """A store with every table and no rows."""
    path = tmp_path / "finagent.db"
    upgrade(path, policy, unarmed)
    return path


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
async def open_queue(database: Path, policy: WriterPolicy, clock: VirtualClock) -> AsyncIterator[OpenQueue]:
    """Opens a queue on the store, recovered unless told not to; keywords replace constructor arguments."""
    opened: list[tuple[SqliteJobQueue, SqliteReads]] = []

    async def open_(path: Path = database, *, recovered: bool = True, **replaced: Any) -> SqliteJobQueue:
        reads = SqliteReads(path)
        arguments: dict[str, Any] = {
            "reads": reads,
            "clock": clock,
            "policy": DurableQueuePolicy(1000, 10, 5, 1000, 30, 500, 2000, 5),
            "writer_policy": policy,
            "failpoints": unarmed,
            "build_hash": "build",
            "settings_hash": "settings",
            "worker_id": "worker",
            "carries_market_clock": False,
        }
        queue = SqliteJobQueue(path, **{**arguments, **replaced})
        opened.append((queue, reads))
        if recovered:
            await queue.recover()
        return queue

    yield open_
    for queue, reads in opened:
        await queue.close()
        reads.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every table and no rows, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "finagent.db"
    upgrade(path, WriterPolicy(1, 1000, group_operations_max=500, database_bytes_max=0, probe_bytes=4096), unarmed)
    return path


@pytest.fixture
def story(tmp_path: Path, empty_store: Path) -> Iterator[Story]:
    """Sixty events of five decisions, six seals of nine events, the newest six events unsealed, all of it anchored."""
    told = Story(tmp_path, empty_store)
    told.tell(54)
    told.seal(9)
    told.tell(6)
    told.anchor()
    yield told
    told.close()
