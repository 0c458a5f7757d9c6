"""One store of each kind for the suites of the durable queue."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.stores import DurableStore, InMemoryStore, PostgresStore, RedisStore, SqliteStore


@pytest.fixture(params=["sqlite", "memory", "postgres", "redis", "redis over postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DurableStore]:
    opened: DurableStore
    match request.param:
        case "sqlite":
            opened = SqliteStore(tmp_path / "finagent.db")
        case "memory":
            opened = InMemoryStore()
        case "redis":
            opened = RedisStore(SqliteStore(tmp_path / "finagent.db"), request.getfixturevalue("redis_url"))
        case "redis over postgres":
            opened = RedisStore(PostgresStore(request.getfixturevalue("postgres_url")), request.getfixturevalue("redis_url"))
        case _:
            opened = PostgresStore(request.getfixturevalue("postgres_url"))
    opened.open()
    await opened.queue.recover()
    yield opened
    await opened.close()
