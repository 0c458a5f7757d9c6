"""The agent with `queue.backend: redis`: the day ends as on a file, whatever Redis forgets; a person is told where it stands."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from tests.contract.stores import postgres_database
from tests.integration.redis_server import redis_server

from finagent.bootstrap import build_application, build_worker
from finagent.cli.examination import examine
from finagent.cli.finding import Finding, Verdict
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Unavailable
from finagent.services.progress import Onlookers
from finagent.services.reporting.canonical import outcome_hash
from finagent.settings import Settings, load_settings

DAY = ("http.enabled=false", "market_data.first_session=2008-10-07", "market_data.last_session=2008-10-07")
SERVICES = frozenset({"scoring", "planner"})


def settings_of(folder: Path, *more: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", *DAY, *more))


def on_redis(url: str) -> tuple[str, ...]:
    return "queue.backend=redis", f"queue.redis.url={url}", "queue.redis.sweep_seconds=0.1"


class Forgetful(Onlookers):
    """Empties Redis after the commits whose numbers are given."""

    def __init__(self, forget: Callable[[], object], *when: int) -> None:
        super().__init__()
        self._forget, self._when, self._commits = forget, when, 0

    def committed(self, effect: Effect) -> None:
        self._commits += 1
        if self._commits in self._when:
            self._forget()
        super().committed(effect)


async def replayed(settings: Settings) -> str:
    async with build_application(settings) as application:
        assert await application.run()
        return outcome_hash(application.reads)


async def test_a_day_ends_as_on_a_file(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Alone on a file; and on a server with a worker that Redis tells of its jobs, emptied twice in mid-day."""
    reference = await replayed(settings_of(tmp_path / "file"))

    assert await replayed(settings_of(tmp_path / "redis", *on_redis(redis_url))) == reference
    with (
        postgres_database(postgres_url, f"finagent_redis_{os.getpid()}") as url,
        redis_server() as server,
        server.client() as redis,
    ):
        settings = settings_of(tmp_path / "server", *on_redis(server.url), f"storage.url={url}")
        done, taken = await with_a_worker(settings, redis)
    assert done == reference
    assert taken > 0


async def with_a_worker(settings: Settings, redis: Redis) -> tuple[str, int]:
    """The outcome of the day, and how many jobs the worker did."""
    stopped = asyncio.Event()
    async with (
        build_application(settings, observer=Forgetful(redis.flushall, 20, 60)) as application,
        build_worker(settings, SERVICES, stopped) as worker,
        asyncio.TaskGroup() as tasks,
    ):
        working = tasks.create_task(worker.run())
        assert await application.run()
        stopped.set()
        await working
        return outcome_hash(application.reads), worker.done.total()


async def test_a_worker_has_no_time_before_there_is_an_agent(postgres_url: str, tmp_path: Path) -> None:
    with postgres_database(postgres_url, f"finagent_early_{os.getpid()}") as url:
        settings = settings_of(tmp_path, "queue.backend=postgres", f"storage.url={url}")
        with pytest.raises(Unavailable, match="no agent has started on this store yet"):
            async with build_worker(settings, SERVICES, asyncio.Event()):
                pass


def doctor_on(server_url: str, folder: Path) -> Finding:
    (found,) = [one for one in examine(None, [f"storage.directory={folder}", *DAY, *on_redis(server_url)]) if one.name == "redis"]
    return found


def test_the_doctor_says_where_redis_stands(tmp_path: Path) -> None:
    with redis_server() as server:
        found = doctor_on(server.url, tmp_path)
        assert (found.verdict, f"at {server.url}" in found.text) == (Verdict.OK, True)
    found = doctor_on("redis://me:secret@127.0.0.1:1", tmp_path)
    assert (found.verdict, "runbook redis-down" in found.cure) == (Verdict.MISSING, True)
    assert "no Redis at redis://me:***@127.0.0.1:1" in found.text


async def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finagent.adapters.job_queue.streams", None)

    assert doctor_on("redis://127.0.0.1:1", tmp_path).cure == "pip install 'finagent[redis]'"
    with pytest.raises(BadInput, match=r"pip install 'finagent\[redis\]'"):
        await replayed(settings_of(tmp_path, *on_redis("redis://127.0.0.1:1")))


def test_the_password_is_for_nobody_to_see(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, *on_redis("redis://me:secret@host:1/0"))

    assert settings.masked()["queue"]["redis"]["url"] == "redis://me:***@host:1/0"


def test_an_address_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"queue\.redis\.url: .*must be redis://"):
        settings_of(tmp_path, "queue.redis.url=http://host")
