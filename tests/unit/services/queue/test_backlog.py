"""F-84: a long backlog at start. The oldest goes first, memory holds a bounded part of it, what is new does not wait for it."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from finagent.domain.effect import Effect
from finagent.domain.jobs import Job, Next
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.policies import queue_policy
from finagent.services.failpoints import unarmed
from finagent.services.queue.processor import JobProcessor
from finagent.settings import load_settings

WAITING = 6_000
MEMORY_LIMIT = 2000  # of the queue at this desk
POLLS = 4  # more than one worker keeps up with
SHUFFLE = Random(7)


def leave_behind(database: Path, desk: Any) -> list[str]:
    """Jobs of yesterday in no order of their ids; their keys from the oldest to the newest."""
    keys = [f"score:{n:05}" for n in range(WAITING)]
    yesterday = desk.clock.now() - timedelta(days=1)
    rows = [
        (1_000_000 + place, key, to_text(yesterday + timedelta(seconds=n)), to_text(yesterday))
        for place, (n, key) in enumerate(SHUFFLE.sample(list(enumerate(keys)), WAITING))
    ]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            "INSERT INTO job_queue (id, queue, type, payload, payload_version, status, priority, run_at, attempts, crashes, "
            "solo_crashes, max_attempts, epoch, fence, dedup_key, trace_id, created_at) "
            "VALUES (?1, 'scoring', 'score', '{}', 1, 'READY', 50, ?3, 0, 0, 0, 5, 0, 0, ?2, '', ?4)",
            rows,
        )
    return keys


class Watch:
    """Runs the jobs of the backlog as if each were too old, and notes what is asked of it."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk
        self.ran: list[str] = []
        self.running_most = 0
        self.published: dict[str, int] = {}  # how many had run by then
        self.passed_by: dict[str, int] = {}
        self.stirred = asyncio.Event()  # a batch has run
        self.policy = queue_policy(load_settings())
        self.processor = JobProcessor(
            queue=desk.queue,
            reads=desk.reads,
            clock=desk.clock,
            handlers={"score": self.score},
            policy=self.policy,
            seed=7,
            failpoints=unarmed,
            jitter=None,
            on_invariant=self.broken,
            lock_step=False,
            observer=self,
            monotonic=lambda: 0.0,
        )
        self.processor.queues(("scoring",))

    async def score(self, jobs: Sequence[Job], reads: Reads) -> list[Effect]:
        self.running_most = max(self.running_most, self.desk.queue.counts()["RUNNING"])
        begun = len(self.ran)
        self.passed_by |= {
            job.dedup_key: begun - self.published[job.dedup_key] for job in jobs if job.dedup_key in self.published
        }
        self.ran += [job.dedup_key for job in jobs]
        self.stirred.set()
        return [Effect() for _ in jobs]

    async def publish(self, key: str) -> None:
        """A signal of today, as an effect hands it on."""
        self.published[key] = len(self.ran)
        refused = self.processor.offer(await self.desk.queue.submit(Effect(next=(Next("score", key),))))
        await self.desk.queue.release(refused)

    async def broken(self, message: str) -> None:
        raise AssertionError(message)

    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None: ...

    def job_failed(self, job_type: str, status: object) -> None: ...


async def test_a_long_backlog_is_worked_off_oldest_first_while_new_signals_pass(desk: Any, database: Path) -> None:
    keys = leave_behind(database, desk)
    watch = Watch(desk)
    worker = asyncio.create_task(watch.processor.work("scoring"))
    turns = 0
    while len(watch.ran) < WAITING + turns:
        watch.stirred.clear()
        for _ in range(POLLS):
            await watch.processor.poll()
        await watch.publish(f"today:{turns:04}")  # a batch runs in the order of its keys
        turns += 1
        await watch.stirred.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)

    assert [key for key in watch.ran if key in watch.published] == list(watch.published)
    assert [key for key in watch.ran if key not in watch.published] == keys
    assert 0 < watch.running_most <= MEMORY_LIMIT
    assert turns > 3, "several signals came while the backlog was there"
    assert max(watch.passed_by.values()) <= watch.policy.capacity, "what is ahead in memory, and nothing of the table"
