"""One store of each kind for the suites of the durable queue, and an MLflow without anything in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.stores import DurableStore, InMemoryStore, PostgresStore, RedisStore, SqliteStore

from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.settings import quiet_mlflow


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


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MLflow's schema in it, which takes seconds to make and no time to copy."""
    quiet_mlflow()
    store = MlflowStore(tmp_path_factory.mktemp("mlflow"))
    with store.asking() as client:
        client.search_registered_models()
    return store.folder
