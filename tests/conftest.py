"""What tests of every room share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from redis import Redis
from redis.exceptions import RedisError

from finagent.domain.errors import Unavailable

REPOSITORY = Path(__file__).parents[1]

# Neither a slow machine nor a busy one is a fault of the code.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")

# As the product has it, and unlike structlog's default: no local variables in a traceback. Drawing them takes half a second.
structlog.configure(
    processors=[
        *(processor for processor in structlog.get_config()["processors"][:-1]),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def market_data_folder() -> Path:
    """The folder of external market data: FINAGENT_TEST_DATA, else `../shared/data` beside the repository; skips if absent."""
    named = os.environ.get("FINAGENT_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no external market data: {folder} is not a folder (set FINAGENT_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MLflow's schema in it, which takes seconds to make and no time to copy."""
    from finagent.adapters.models.mlflow_store import MlflowStore
    from finagent.settings import quiet_mlflow

    quiet_mlflow()
    store = MlflowStore(tmp_path_factory.mktemp("mlflow"))
    with store.asking() as client:
        client.search_registered_models()
    return store.folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A migrated database of this process alone on FINAGENT_TEST_POSTGRES, else on the local server; skips without a server."""
    from tests.contract.stores import POSTGRES, postgres_database

    from finagent.adapters.database.postgres import PostgresReads

    server = os.environ.get("FINAGENT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
    try:
        PostgresReads(server, POSTGRES).close()
    except Unavailable as error:
        without_service(f"no PostgreSQL: {error} (docker compose --profile postgres up -d, or set FINAGENT_TEST_POSTGRES)")
    with postgres_database(server, f"finagent_test_{os.getpid()}") as url:
        yield url


@pytest.fixture(scope="session")
def strace() -> str:
    """The program that records system calls and makes them fail; skips where it is not installed."""
    found = shutil.which("strace")
    if found is None:
        without_service("no strace (Debian: apt install strace)")
    return str(found)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """FINAGENT_TEST_REDIS, else the local server, on which this process names its own keys; skips without a server."""
    url = os.environ.get("FINAGENT_TEST_REDIS", "redis://127.0.0.1:6379/0")
    try:
        with Redis.from_url(url) as client:
            client.ping()
    except RedisError as error:
        without_service(f"no Redis at {url}: {error} (docker compose --profile redis up -d, or set FINAGENT_TEST_REDIS)")
    yield url
    with Redis.from_url(url) as client:
        for key in client.scan_iter(f"finagent:{{test-{os.getpid()}-*", count=1000):
            client.unlink(key)


def without_service(reason: str) -> None:
    """A missing service skips its tests; with FINAGENT_REQUIRE_SERVICES=1 it fails them."""
    if os.environ.get("FINAGENT_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
