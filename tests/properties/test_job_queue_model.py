"""The durable queue beside a model of forty lines: any sequence of calls and process ends gives the same answers."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.contract.stores import START, WRITER, DurableStore, InMemoryStore, PostgresStore, RedisStore, SqliteStore

from finagent.adapters.database.migrate import upgrade
from finagent.adapters.job_queue.in_memory import InMemoryJobQueue
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated
from finagent.domain.jobs import Job, JobStatus, Next
from finagent.services.failpoints import unarmed

T = TypeVar("T")
MEMORY_LIMIT = 4
SOLO_CRASHES = 2
POLICY = DurableQueuePolicy(MEMORY_LIMIT, SOLO_CRASHES, 5, 3, 30, 500, 2000, 5)
KEYS = st.sampled_from([f"key-{n}" for n in range(12)])
PRIORITIES = st.sampled_from([1, 50, 99])
DELAYS = st.sampled_from([None, -1, 0, 2, 5])


@dataclass
class ModelJob:
    """What should be true of one row."""

    key: str
    number: int
    priority: int
    run_at: datetime
    status: JobStatus
    attempts: int = 0
    crashes: int = 0
    solo_crashes: int = 0

    @property
    def place(self) -> tuple[int, datetime, int]:
        return self.priority, self.run_at, self.number

    @property
    def suspect(self) -> bool:
        return self.crashes >= 2


class Model:
    """The rules, with a list instead of a database."""

    def __init__(self) -> None:
        self.now = START
        self.jobs: dict[str, ModelJob] = {}

    def of(self, *statuses: JobStatus) -> list[ModelJob]:
        return sorted((job for job in self.jobs.values() if job.status in statuses), key=lambda job: job.place)

    def due(self) -> list[ModelJob]:
        return [
            job
            for job in self.of(JobStatus.READY, JobStatus.SCHEDULED)
            if job.status is JobStatus.READY or job.run_at <= self.now
        ]

    def publish(self, key: str, priority: int, delay: int | None) -> list[str]:
        if key in self.jobs:
            return []
        run_at = self.now if delay is None else self.now + timedelta(seconds=delay)
        job = ModelJob(key, len(self.jobs), priority, run_at, JobStatus.SCHEDULED)
        if run_at <= self.now:
            running = self.of(JobStatus.RUNNING)
            first = next((other for other in self.due() if other.suspect), None)
            room = len(running) < MEMORY_LIMIT and not any(other.suspect for other in running)
            handed_out = room and (first is None or job.place < first.place)
            job.status = JobStatus.RUNNING if handed_out else JobStatus.READY
        self.jobs[key] = job
        return [key] if job.status is JobStatus.RUNNING else []

    def claim(self, limit: int) -> list[str]:
        running = self.of(JobStatus.RUNNING)
        if any(job.suspect for job in running):
            return []
        claimed: list[ModelJob] = []
        for job in self.due()[:limit]:
            if job.suspect and (claimed or running):
                break
            claimed.append(job)
            if job.suspect:
                break
        for job in claimed:
            job.status = JobStatus.RUNNING
        return [job.key for job in claimed]

    def restart(self) -> list[str]:
        running = self.of(JobStatus.RUNNING)
        for job in running:
            alone = len(running) == 1 and job.suspect
            job.crashes += 1
            job.solo_crashes += alone
            job.status = JobStatus.DEAD if alone and job.solo_crashes >= SOLO_CRASHES else JobStatus.READY
        return [job.key for job in running if job.status is JobStatus.READY]


class DurableQueueMachine(RuleBasedStateMachine):
    """Each rule asks both and compares; a `held` job is one that somebody runs, a `stale` one somebody once ran."""

    held: Bundle[Job] = Bundle("held")
    stale: Bundle[Job] = Bundle("stale")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store, self.model = self.make_store(), Model()
        self.clock = self.store.clock
        self.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def make_store(self) -> DurableStore:
        """An empty store."""
        raise NotImplementedError

    @property
    def queue(self) -> SqlJobQueue | InMemoryJobQueue:
        return self.store.queue

    def close(self) -> None:
        self.run(self.store.close())

    def start(self) -> None:
        async def recover() -> list[Job]:
            self.store.open()
            return await self.queue.recover()

        self.rescued = [job.dedup_key for job in self.run(recover())]
        self.claims: dict[str, tuple[int, int]] = {}

    def teardown(self) -> None:
        self.close()
        self.runner.close()

    def ours(self, job: Job) -> bool:
        """Whether the model thinks that this very claim is still running."""
        running = self.model.jobs[job.dedup_key].status is JobStatus.RUNNING
        return running and self.claims.get(job.dedup_key) == (job.epoch, job.fence)

    def handed_out(self, jobs: list[Job]) -> Any:
        self.claims |= {job.dedup_key: (job.epoch, job.fence) for job in jobs}
        return multiple(*jobs)

    def submit(self, effect: Effect, job: Job | None = None) -> list[Job]:
        async def submitted() -> list[Job]:
            return await self.queue.submit(effect, job)

        return self.run(submitted())

    @rule(target=held, key=KEYS, priority=PRIORITIES, delay=DELAYS)
    def publish(self, key: str, priority: int, delay: int | None) -> Any:
        run_at = None if delay is None else self.model.now + timedelta(seconds=delay)
        jobs = self.submit(Effect(next=(Next("score", key, run_at=run_at, priority=priority),)))

        assert [job.dedup_key for job in jobs] == self.model.publish(key, priority, delay)
        return self.handed_out(jobs)

    @rule(target=held, limit=st.integers(1, 6))
    def claim(self, limit: int) -> Any:
        async def claimed() -> list[Job]:
            return await self.queue.claim(self.model.now, limit)

        jobs = self.run(claimed())

        assert [job.dedup_key for job in jobs] == self.model.claim(limit)
        return self.handed_out(jobs)

    @rule(target=stale, job=consumes(held), child=KEYS, priority=PRIORITIES)
    def acknowledge(self, job: Job, child: str, priority: int) -> Any:
        effect = Effect(next=(Next("score", child, run_at=self.model.now + timedelta(seconds=1), priority=priority),))
        if self.ours(job):
            assert self.submit(effect, job) == []
            self.model.jobs[job.dedup_key].status = JobStatus.DONE
            self.model.publish(child, priority, 1)
        else:
            with pytest.raises(InvariantViolated, match="fenced"):
                self.submit(effect, job)
        return job

    @rule(job=stale)
    def acknowledge_what_is_over(self, job: Job) -> None:
        if not self.ours(job):
            with pytest.raises(InvariantViolated, match="fenced"):
                self.submit(Effect(), job)

    @rule(target=stale, job=consumes(held), delay=st.sampled_from([None, 0, 3]))
    def fail(self, job: Job, delay: int | None) -> Any:
        retry_at = None if delay is None else self.model.now + timedelta(seconds=delay)

        async def failed() -> JobStatus:
            return await self.queue.fail(job, "error", retry_at)

        if self.ours(job):
            kept = self.model.jobs[job.dedup_key]
            kept.attempts += 1
            kept.status = JobStatus.DEAD if retry_at is None else JobStatus.SCHEDULED
            kept.run_at = retry_at or kept.run_at
            assert self.run(failed()) is kept.status
        else:
            with pytest.raises(InvariantViolated, match="fenced"):
                self.run(failed())
        return job

    @rule(target=stale, job=consumes(held))
    def release(self, job: Job) -> Any:
        async def released() -> None:
            await self.queue.release([job])

        if self.ours(job):
            self.model.jobs[job.dedup_key].status = JobStatus.READY
        self.run(released())
        return job

    @rule(seconds=st.integers(1, 4))
    def time_moves_on(self, seconds: int) -> None:
        self.model.now += timedelta(seconds=seconds)
        self.clock.set(self.model.now)

    @precondition(lambda self: self.model.of(JobStatus.RUNNING))
    @rule()
    def the_process_ends(self) -> None:
        self.close()
        self.start()

        assert self.rescued == self.model.restart()

    @invariant()
    def both_hold_the_same(self) -> None:
        expected = [(job.key, job.status.name, job.attempts, job.crashes) for job in self.model.jobs.values()]

        stored = [(row.dedup_key, row.status.name, row.attempts, row.crashes) for row in self.store.listed()]
        assert stored == expected
        waiting = self.model.of(JobStatus.READY, JobStatus.SCHEDULED)
        assert self.queue.next_due() == min((job.run_at for job in waiting), default=None)
        assert self.queue.counts() == {status.name: len(self.model.of(status)) for status in JobStatus}


class SqliteMachine(DurableQueueMachine):
    """On a file, a copy of one that was migrated."""

    template: ClassVar[Path]

    def make_store(self) -> DurableStore:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "finagent.db"
        shutil.copy(self.template, path)
        return SqliteStore(path, POLICY)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class RedisMachine(SqliteMachine):
    """On a file whose jobs a real Redis announces."""

    url: ClassVar[str]

    def make_store(self) -> DurableStore:
        table = super().make_store()
        assert isinstance(table, SqliteStore)
        return RedisStore(table, self.url)


class InMemoryMachine(DurableQueueMachine):
    """Over records that outlive each queue."""

    def make_store(self) -> DurableStore:
        return InMemoryStore(POLICY)


class PostgresMachine(DurableQueueMachine):
    """On a real server."""

    url: ClassVar[str]

    def make_store(self) -> DurableStore:
        return PostgresStore(self.url, POLICY)


@pytest.fixture(scope="module", autouse=True)
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One migrated store, copied for every example."""
    SqliteMachine.template = tmp_path_factory.mktemp("queue") / "finagent.db"
    upgrade(SqliteMachine.template, WRITER, unarmed)


def run_machine(machine: type[DurableQueueMachine], examples: int) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))


def test_sqlite() -> None:
    run_machine(SqliteMachine, 40)


def test_in_memory() -> None:
    run_machine(InMemoryMachine, 40)


def test_postgres(postgres_url: str) -> None:
    PostgresMachine.url = postgres_url
    run_machine(PostgresMachine, 8)


def test_redis(redis_url: str) -> None:
    RedisMachine.url = redis_url
    run_machine(RedisMachine, 20)
