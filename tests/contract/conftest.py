"""One store of each kind for the suites of the durable queue."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.stores import DurableStore, InMemoryStore, PostgresStore, SqliteStore


@pytest.fixture(params=["sqlite", "memory", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DurableStore]:
    opened: DurableStore
    match request.param:
        case "sqlite":
            opened = SqliteStore(tmp_path / "finagent.db")
        case "memory":
            opened = InMemoryStore()
        case _:
            opened = PostgresStore(request.getfixturevalue("postgres_url"))
    opened.open()
    await opened.queue.recover()
    yield opened
    await opened.close()
