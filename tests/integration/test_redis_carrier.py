"""Redis forgets, dies, hangs, doubles and lies; what the table holds is done once, and nothing waits for ever."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis
from structlog.testing import capture_logs
from tests.contract.stores import (
    CARRIER,
    POLICY,
    POSTGRES,
    START,
    STREAMS,
    PostgresStore,
    SqliteStore,
    SqlStore,
    postgres_database,
)
from tests.integration.redis_server import RedisServer, redis_server

from finagent.adapters.database.postgres import PostgresReads
from finagent.adapters.job_queue.carrier import RedisCarrier
from finagent.adapters.job_queue.postgres import PostgresJobQueue
from finagent.adapters.job_queue.shared import Role, store_identity
from finagent.adapters.job_queue.sql import ALL_SERVICES, SqlJobQueue
from finagent.adapters.job_queue.streams import GROUP, JobStreams
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.jobs import Job, JobStatus, Next
from finagent.domain.portfolio import Position
from finagent.telemetry.metrics import Metrics

NAME = "day"
DEAD, SCORING = f"finagent:{{{NAME}}}:dead", f"finagent:{{{NAME}}}:scoring"
PATIENCE_SECONDS = 10
IN_THE_TABLE = replace(POLICY, memory_limit=0)  # whatever is published waits
ROOMY = replace(POLICY, memory_limit=1000)


@pytest.fixture(scope="module")
def one_server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(one_server: RedisServer) -> RedisServer:
    """One for many tests, empty."""
    with one_server.client() as client:
        client.flushall()
    return one_server


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return SqliteStore(tmp_path / "finagent.db", IN_THE_TABLE)


@asynccontextmanager
async def carried(store: SqlStore, url: str, *, alone: bool = False, **streams: Any) -> AsyncIterator["Carried"]:
    """The queue of the store, recovered, with Redis as its carrier."""
    store.open()
    queue = Carried(store.queue, url, alone, streams)
    try:
        await store.queue.recover()
        yield queue
    finally:
        await store.close()


class Carried:
    """A queue, its carrier and what they measure."""

    def __init__(self, queue: SqlJobQueue, url: str, alone: bool, streams: dict[str, Any], consumer: str = "agent") -> None:
        self.queue, self.metrics = queue, Metrics(CollectorRegistry())
        self.streams = JobStreams(url, NAME, consumer, replace(STREAMS, **streams))
        self.carrier = queue.carrier = RedisCarrier(
            queue, self.streams, CARRIER, alone=alone, observer=self.metrics, monotonic=time.monotonic
        )

    async def publish(self, *keys: str) -> None:
        assert await self.queue.submit(Effect(next=tuple(Next("score", key) for key in keys))) == []

    async def claim(self) -> list[Job]:
        return await self.queue.claim(START, 1000)

    @property
    def away(self) -> bool:
        return self.metrics.registry.get_sample_value("finagent_queue_redis_away") == 1

    @property
    def announcements(self) -> float:
        return self.metrics.registry.get_sample_value("finagent_queue_announce_duration_seconds_count") or 0


def keys(jobs: list[Job]) -> list[str]:
    return [job.dedup_key for job in jobs]


async def until(condition: Callable[[], Any]) -> None:
    """The carrier's own tasks bring it about."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - it comes about on a server, which signals nothing
            await asyncio.sleep(0.005)


def told(redis: Redis, stream: str = SCORING) -> list[tuple[bytes, bytes, bytes]]:
    """What the entries of a stream say."""
    entries: Any = redis.xrange(stream)
    return [(fields[b"job"], fields[b"type"], fields[b"status"]) for _, fields in entries]


# -- the ordinary day --------------------------------------------------------------------------------------------------------


async def test_an_entry_lives_from_the_commit_to_the_acknowledgement(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    async with carried(store, server.url) as agent:
        await agent.publish("a", "b")
        await until(lambda: len(told(redis)) == 2)
        first, second = await agent.claim()
        assert told(redis) == [(str(job.id).encode(), b"score", b"READY") for job in (first, second)], "references alone"
        await agent.queue.submit(Effect(), first)
        await until(lambda: len(told(redis)) == 1)
        await agent.queue.fail(second, "again", START)
        await until(lambda: not told(redis))
        assert keys(await agent.claim()) == ["b"], "a job whose time has come needs no entry"


async def test_what_a_process_leaves_behind_in_good_order_is_nothing(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    async with carried(store, server.url) as agent:
        await agent.publish("a", "b")
        assert len(await agent.claim()) == 2

    assert redis.keys() == []


async def test_a_stream_that_another_process_uses_is_left_to_it(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    other = JobStreams(server.url, NAME, "other", STREAMS)
    async with carried(store, server.url):
        redis.xadd(SCORING, {"job": 4711})
        await other.send((), await other.take(("scoring",), 1))
        assert redis.xlen(SCORING) == 0

    assert redis.keys() == [SCORING.encode()]
    assert [one["name"] for one in redis.xinfo_consumers(SCORING, GROUP)] == [b"other"]
    await other.close()


def test_a_database_has_one_name_whatever_its_address(postgres_url: str) -> None:
    """Its own is not enough: two servers may have one of the same name."""
    with postgres_database(postgres_url, f"finagent_twin_{os.getpid()}") as twin:
        urls = (postgres_url, postgres_url.replace("127.0.0.1", "localhost"), twin)
        opened = [PostgresReads(url, POSTGRES) for url in urls]
        here, again, there = map(store_identity, opened)
        for reads in opened:
            reads.close()

    assert here == again
    assert here != there
    assert all(not url.endswith(name) for url, name in zip(urls, (here, again, there), strict=True))


async def test_a_released_job_is_announced_again(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    async with carried(store, server.url) as agent:
        await agent.publish("a")
        for _ in range(3):
            (job,) = await agent.claim()
            await agent.queue.release([job])
        await until(lambda: len(told(redis)) == 1)


async def test_who_has_its_services_to_itself_tells_nobody(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    """And claims without asking: an entry that another process left is deleted, whatever it says."""
    async with carried(store, server.url, alone=True) as agent:
        redis.xadd(SCORING, {"job": 77, "type": "score", "status": "READY"})
        await agent.publish("a")
        assert agent.announcements == 0
        assert keys(await agent.claim()) == ["a"]
        await until(lambda: not told(redis))


async def test_a_waiting_worker_is_woken_by_the_entry(postgres_url: str, server: RedisServer) -> None:
    """Long before it would look at the table by itself."""
    async with a_day(postgres_url, server.url, ["worker"], wait_seconds=PATIENCE_SECONDS) as (leader, (worker,)):
        assert isinstance(worker.queue, PostgresJobQueue)
        while await worker.claim():
            pass
        waits = asyncio.ensure_future(worker.queue.changed())
        await asyncio.sleep(0)
        started = time.monotonic()
        await leader.publish("a")
        await waits
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
        assert keys(await worker.claim()) == ["a"]


# -- what Redis may do -------------------------------------------------------------------------------------------------------


async def test_doubled_entries_claim_once(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    async with carried(store, server.url) as agent:
        await agent.publish("a", "b")
        await until(lambda: len(told(redis)) == 2)
        for id_, type_, status in told(redis) * 2:
            redis.xadd(SCORING, {"job": id_, "type": type_, "status": status})

        jobs = await agent.claim()
        assert keys(jobs) == ["a", "b"]
        assert await agent.claim() == []
        for job in jobs:
            await agent.queue.submit(Effect(), job)
        await agent.claim()
        await until(lambda: not told(redis))


@pytest.mark.parametrize("fields", [{"job": 4711}, {"job": "x"}, {"job": "-1"}, {"job": "²"}, {"other": "1"}, {"job": "9" * 30}])
async def test_an_entry_about_no_job_of_ours_is_deleted(
    store: SqlStore, server: RedisServer, redis: Redis, fields: dict[Any, Any]
) -> None:
    """A job that was pruned, one of another store, or no number at all."""
    async with carried(store, server.url) as agent:
        redis.xadd(SCORING, fields)
        await agent.publish("a")
        assert keys(await agent.claim()) == ["a"]
        await until(lambda: redis.xlen(SCORING) == 1)


async def test_the_entries_of_a_dead_consumer_are_taken_over(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    """They claim what still waits; the consumer is forgotten."""
    async with carried(store, server.url, min_idle_seconds=0) as agent:
        dead = JobStreams(server.url, NAME, "dead", STREAMS)
        await until(lambda: redis.exists(SCORING))
        await agent.publish("a", "b")
        await until(lambda: len(told(redis)) == 2)
        assert len(await dead.take(["scoring"], 10)) == 2
        await dead.close()

        (first, second) = await agent.claim()
        for job in (first, second):
            await agent.queue.submit(Effect(), job)
        await until(lambda: not told(redis))
        await until(lambda: [one["name"] for one in redis.xinfo_consumers(SCORING, GROUP)] == [b"agent"])


async def test_a_young_entry_stays_with_who_took_it(server: RedisServer) -> None:
    first, second = (JobStreams(server.url, NAME, name, STREAMS) for name in ("first", "second"))
    await first.take(["scoring"], 10)
    with server.client() as redis:
        redis.xadd(SCORING, {"job": 1})
    (entry,) = await first.take(["scoring"], 10)

    assert (entry.service, entry.job_id) == ("scoring", 1)
    assert await second.take_over(["scoring"], 10) == []
    await first.close()
    await second.close()
    with pytest.raises(Transient, match="closed"):
        await first.take(["scoring"], 10)


async def test_a_stream_is_bounded(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    """Redis trims whole nodes of 100; what is trimmed is found in the table."""
    async with carried(store, server.url, entries_max=100, dead_letters_max=100) as agent:
        await agent.publish(*(f"{n:03}" for n in range(400)))
        await until(lambda: agent.announcements > 0)
        assert redis.xlen(SCORING) <= 200
        claimed: list[str] = []
        while jobs := await agent.claim():
            claimed += keys(jobs)
        assert sorted(claimed) == [f"{n:03}" for n in range(400)]


# -- Redis forgets -----------------------------------------------------------------------------------------------------------


async def test_dead_letters_are_told_and_told_again(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    async with carried(store, server.url) as agent:
        await agent.queue.submit(Effect(next=(Next("score", "dies"), Next("send", "parks"))))
        ends = [await agent.queue.fail(job, "boom", None) for job in await agent.claim()]
        assert ends == [JobStatus.DEAD, JobStatus.PARKED]
        await until(
            lambda: [(type_, status) for _, type_, status in told(redis, DEAD)] == [(b"score", b"DEAD"), (b"send", b"PARKED")]
        )
        before = told(redis, DEAD)

        redis.flushall()
        await until(lambda: told(redis, DEAD) == before)

    async with carried(store, server.url) as agent:
        await agent.claim()
        assert told(redis, DEAD) == before, "the next process finds them told"
        await agent.queue.retry(int(before[0][0]), "ann")
        assert keys(await agent.claim()) == ["dies"]


@asynccontextmanager
async def a_day(
    postgres_url: str, redis_url: str, workers: list[str], **streams: Any
) -> AsyncIterator[tuple[Carried, list[Carried]]]:
    """A leader that leaves scoring to workers, each with its own connections to both servers."""
    async with AsyncExitStack() as stack:

        async def joined(name: str, role: Role) -> Carried:
            store = PostgresStore.__new__(PostgresStore)
            SqlStore.__init__(store, ROOMY)
            store.url, store.more = postgres_url, {"role": role, "worker_id": name}
            store.open()
            stack.push_async_callback(store.close)
            taking_part = Carried(store.queue, redis_url, role.leader, streams, name)
            await store.queue.recover()
            return taking_part

        PostgresStore(postgres_url)  # empties the tables
        taken = [await joined(name, Role(leader=False, services=frozenset({"scoring"}))) for name in workers]
        yield await joined("leader", Role(leader=True, services=ALL_SERVICES)), taken


async def test_flushall_in_mid_day_loses_and_doubles_nothing(postgres_url: str, server: RedisServer, redis: Redis) -> None:
    """Three workers drain; each job leaves a row that cannot be stored twice. Redis is emptied twice on the way."""
    total, done = 240, 0
    async with a_day(postgres_url, server.url, ["one", "two", "three"]) as (leader, workers):

        async def work(worker: Carried) -> None:
            nonlocal done
            assert isinstance(worker.queue, PostgresJobQueue)
            while done < total:
                for job in await worker.queue.claim(START, 10):
                    effect = Position(job.dedup_key, 0, Decimal(1), Decimal(0), START)
                    await worker.queue.submit(Effect(records=(effect,)), job)
                    done += 1
                    if done in (total // 3, total // 2):
                        redis.flushall()
                await worker.queue.changed()

        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(worker)) for worker in workers]
            for first in range(0, total, 20):
                await leader.publish(*(f"{n:03}" for n in range(first, first + 20)))
            await asyncio.gather(*tasks)

        counts = leader.queue.counts()
        assert (counts["DONE"], sum(counts.values())) == (total, total)
        assert leader.announcements > 0
    store = PostgresStore.__new__(PostgresStore)
    SqlStore.__init__(store)
    store.url, store.more = postgres_url, {}
    store.open()
    assert [position.symbol for position in store.reads.find(Position)] == [f"{n:03}" for n in range(total)]
    await store.close()


# -- Redis is away -----------------------------------------------------------------------------------------------------------


async def test_without_redis_the_table_does(store: SqlStore, tmp_path: Path) -> None:
    async with carried(store, f"unix://{tmp_path}/nobody.sock") as agent:
        await agent.publish("a")
        assert keys(await agent.claim()) == ["a"]
        assert agent.away
        assert await agent.carrier.changed() is False


async def test_redis_killed_and_started_again(store: SqlStore) -> None:
    """Each job is claimed once, before, while and after; then entries are told again."""
    with redis_server() as server:
        async with carried(store, server.url) as agent:
            await agent.publish("before")
            assert keys(await agent.claim()) == ["before"]
            server.kill()
            await agent.publish("while")
            assert keys(await agent.claim()) == ["while"]
            assert agent.away
            server.start()
            await until(lambda: not agent.away)
            await agent.publish("after")
            with server.client() as redis:
                await until(lambda: len(told(redis)) == 1)
            assert keys(await agent.claim()) == ["after"]
            assert agent.queue.counts()["RUNNING"] == 3


async def test_a_redis_that_hangs_is_waited_for_once(store: SqlStore) -> None:
    """Commits never wait for it, and the claims after the first one do not either."""
    with redis_server() as server:
        async with carried(store, server.url, call_seconds=0.1) as agent:
            await agent.publish("a")
            await agent.claim()
            server.hang()
            await agent.publish("b", "c")
            given_up = agent.queue.claim(START, 10)
            await asyncio.sleep(0)
            given_up.cancel()
            assert keys(await agent.claim()) == ["b", "c"]
            assert agent.away
            server.go_on()
            await until(lambda: not agent.away)


async def test_a_key_that_is_no_stream_is_a_redis_that_is_away(store: SqlStore, server: RedisServer, redis: Redis) -> None:
    async with carried(store, server.url) as agent:
        await until(lambda: redis.exists(SCORING))
        redis.delete(SCORING)
        redis.set(SCORING, "taken")
        await until(lambda: agent.away)
        await agent.publish("a")
        assert keys(await agent.claim()) == ["a"]
        redis.delete(SCORING)
        await until(lambda: not agent.away)


async def test_a_store_that_cannot_be_read_is_looked_at_again(
    store: SqlStore, server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was claimed reaches its caller; the entries are finished, and the dead letters told, when the store is back."""

    def unreadable(*_: Any) -> Any:
        raise Unavailable("the store cannot be read")

    async with carried(store, server.url) as agent:
        await agent.publish("a", "b")
        await agent.queue.fail((await agent.claim())[0], "boom", None)
        with monkeypatch.context() as patched:
            patched.setattr(store.reads, "rows", unreadable)
            redis.flushall()
            redis.xadd(SCORING, {"job": 4711, "status": "READY", "type": "score"})
            await agent.publish("c")
            assert keys(await agent.claim()) == ["c"]
            with capture_logs() as logged:
                await until(lambda: "sweep_failed" in [line["event"] for line in logged])
        await until(lambda: [one[2] for one in told(redis) + told(redis, DEAD)] == [b"READY", b"DEAD"])


@pytest.mark.parametrize("part", ["send", "take", "services", "announced", "stuck"])
async def test_an_error_that_nothing_foresaw_leaves_the_table(
    store: SqlStore, server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Told once, with its traceback; nobody waits for what failed, and the end is an orderly one."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("nobody thought of this")

    async with carried(store, server.url) as agent:
        await until(lambda: redis.exists(SCORING))
        failing = next(each for each in (agent.streams, agent.metrics, agent.queue) if hasattr(each, part))
        await until(lambda: agent.carrier._losses_met == agent.streams.losses)
        monkeypatch.setattr(failing, part, broken)
        agent.carrier._losses_met = -1  # as of a Redis that we have not met before
        with capture_logs() as logged:
            async with asyncio.timeout(PATIENCE_SECONDS):
                for key in ("a", "b", "c"):
                    await agent.publish(key)
                    assert keys(await agent.claim()) == [key]
            await until(lambda: agent.away)
            await agent.publish("d")
            assert keys(await agent.claim()) == ["d"]
            assert not await agent.carrier.changed()
    assert [line["exc_info"] for line in logged if line["event"] == "carrier_failed"] == [True]


async def test_the_table_is_looked_at_in_time_while_entries_keep_coming(
    store: SqlStore, server: RedisServer, redis: Redis
) -> None:
    """Else a job whose entry is lost would wait for as long as there is load."""
    now = 0.0
    async with carried(store, server.url) as agent:
        agent.carrier._monotonic = lambda: now
        assert await agent.claim() == []
        await agent.publish("lost")
        await until(lambda: told(redis))
        redis.xtrim(SCORING, maxlen=0)

        await agent.publish("a")
        assert keys(await agent.claim()) == ["a"]
        now = CARRIER.sweep_seconds
        await agent.publish("b")

        assert keys(await agent.claim()) == ["lost", "b"]


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"queue\.redis\.url http://\S*\*\*\*@host is refused"):
        JobStreams("http://user:secret@host", NAME, "agent", STREAMS)
