"""What the queue is made to do, measured; each load runs in a process of its own: `python -m finagent.bench.queue_loads LOAD`.

LOAD is one JSON object: `load` names a coroutine of LOADS, the rest are its arguments beside the store. The answer is a JSON
object of figures. The store is the agent's own, in a folder that is thrown away, with the settings that are in force.
"""

import asyncio
import json
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from finagent.adapters.clock import VirtualClock, wall_now
from finagent.adapters.job_queue.shared import Role
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.bench.queue_store import Store, payload, relax_writer
from finagent.bootstrap import build_shared_queue
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job, Next
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.policies import queue_policy
from finagent.services.failpoints import unarmed
from finagent.services.queue.processor import JobProcessor
from finagent.services.queue.worker import Worker
from finagent.settings import Settings
from finagent.telemetry.metrics import Metrics

CALLERS = 64
WORKERS = 64
Figures = dict[str, float]


def _publish(numbers: Iterable[int]) -> Effect:
    return Effect(next=tuple(Next("score", f"job-{number}", payload(number)) for number in numbers))


class Workers:
    """Callers that take a job and acknowledge it, each in a commit that it awaits; `waiting` jobs are claimed as room is made."""

    def __init__(self, queue: SqlJobQueue, jobs: int, claim_limit: int) -> None:
        self._queue, self._left, self._claim_limit = queue, jobs, claim_limit
        self._ready: asyncio.Queue[Job] = asyncio.Queue(maxsize=jobs)
        self._claiming = False
        self._finished = asyncio.Event()
        self.waiting = 0

    def offer(self, jobs: Sequence[Job]) -> None:
        """Jobs that are RUNNING in our name."""
        for job in jobs:
            self._ready.put_nowait(job)

    async def run(self) -> None:
        """Until every job is acknowledged."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work()) for _ in range(WORKERS)]
            await self._finished.wait()
            for task in tasks:
                task.cancel()

    async def _work(self) -> None:
        while True:
            if self.waiting and not self._claiming:
                await self._refill()
            await self._queue.submit(Effect(), await self._ready.get())
            self._left -= 1
            if self._left == 0:
                self._finished.set()

    async def _refill(self) -> None:
        if self._ready.qsize() < self._claim_limit // 2:
            self._claiming = True
            claimed = await self._queue.claim(wall_now(), self._claim_limit)
            self._claiming = False
            self.waiting -= len(claimed)
            self.offer(claimed)


async def drain(store: Store, jobs: int, finished: int = 0) -> Figures:
    """64 callers publish while 64 others acknowledge; every operation awaits its own commit."""
    store.migrate()
    if finished:
        store.seed(finished, "DONE")
    async with store.queue() as (queue, _reads):
        groups = 0

        def count(_size: int, _seconds: float) -> None:
            nonlocal groups
            groups += 1

        queue.on_group.append(count)
        workers = Workers(queue, jobs, store.settings.queue.claim_limit)
        numbers = iter(range(jobs))

        async def produce() -> None:
            for number in numbers:
                handed_out = await queue.submit(_publish([number]))
                workers.offer(handed_out)
                workers.waiting += not handed_out

        started, busy = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(produce())
            group.create_task(workers.run())
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return {"jobs_per_s": jobs / seconds, "cpu_us": busy / jobs * 1e6, "operations_per_commit": 2 * jobs / groups}


async def two_phase(store: Store, jobs: int, callers: int) -> Figures:
    """What the peers' scripts do: enqueue everything, one job a call, then start the workers and process it to the end."""
    store.migrate()
    waiting = replace(store, overrides=(*store.overrides, "queue.memory_limit=0"))
    async with waiting.queue() as (queue, _reads):
        numbers = iter(range(jobs))

        async def enqueue() -> None:
            for number in numbers:
                await queue.submit(_publish([number]))

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(enqueue())
        enqueuing = time.perf_counter() - started
    async with store.queue() as (queue, _reads):
        started = time.perf_counter()  # as with the peers, the store is open; see `start` for how long that takes
        workers = Workers(queue, jobs, store.settings.queue.claim_limit)
        workers.waiting = jobs
        await workers.run()
        processing = time.perf_counter() - started
    return {"enqueue": jobs / enqueuing, "process": jobs / processing, "e2e": jobs / (enqueuing + processing)}


async def open_loop(store: Store, rate: int, seconds: float) -> Figures:
    """Milliseconds from the instant a job was meant to be sent to the start of its handler, at a fixed rate of arrival."""
    store.migrate()
    jobs = int(rate * seconds)
    waits: list[float] = []
    begins = 0.0
    all_started = asyncio.Event()

    async def handle(batch: Sequence[Job], _reads: Reads) -> Sequence[Effect]:
        now = time.perf_counter()
        waits.extend(now - begins - job.payload["id"] / rate for job in batch)
        if len(waits) == jobs:
            all_started.set()
        return [Effect()] * len(batch)

    async with store.queue() as (queue, reads):
        processor = _processor(store.settings, queue, reads, handle)

        async def send(number: int) -> None:
            processor.offer(await queue.submit(_publish([number])))

        async with asyncio.TaskGroup() as group:
            worker = group.create_task(processor.work("scoring"))
            begins = time.perf_counter() + 0.05
            for number in range(jobs):
                delay = begins + number / rate - time.perf_counter()
                if delay > 0:
                    await asyncio.sleep(delay)
                group.create_task(send(number))
            await all_started.wait()
            await processor.quiet.wait()
            worker.cancel()
    waits.sort()
    return {f"p{part}_ms": waits[min(jobs - 1, jobs * part // 100)] * 1e3 for part in (50, 95, 99)}


def _processor(settings: Settings, queue: SqlJobQueue, reads: Reads, handle: Callable[..., Any]) -> JobProcessor:
    async def fail(message: str) -> None:
        raise RuntimeError(message)

    processor = JobProcessor(
        queue=queue,
        reads=reads,
        clock=VirtualClock(wall_now()),
        handlers={"score": handle},
        policy=queue_policy(settings),
        seed=0,
        failpoints=unarmed,
        jitter=None,
        on_invariant=fail,
        lock_step=False,
        observer=Metrics(),
        monotonic=time.monotonic,
    )
    processor.queues(("scoring",))
    return processor


class _Announcements(Metrics):
    """Keeps how long each took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def announced(self, duration_seconds: float) -> None:
        self.seconds.append(duration_seconds)


async def carried(store: Store, rate: int, seconds: float) -> Figures:
    """Milliseconds that an announcement takes, and from a commit to the start of the handler in another process."""
    store.migrate()
    jobs, metrics = int(rate * seconds), _Announcements()
    committed: list[float] = []
    async with store.queue(metrics) as (queue, _reads):
        wanted = {"load": "taken", "overrides": store.overrides, "jobs": jobs}
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "finagent.bench.queue_loads", json.dumps(wanted), stdout=asyncio.subprocess.PIPE
        )
        while "scoring" in queue.services():  # noqa: ASYNC110 - the heartbeat finds the worker
            await asyncio.sleep(0.05)
        begins = time.perf_counter()
        for number in range(jobs):
            await asyncio.sleep(max(0.0, begins + number / rate - time.perf_counter()))
            await queue.submit(_publish([number]))
            committed.append(time.perf_counter())
        answer, _ = await worker.communicate()
    begun = json.loads(answer)
    waits = sorted(begun[str(number)] - at for number, at in enumerate(committed))
    announcements = sorted(metrics.seconds)
    return {"p95_ms": waits[jobs * 95 // 100] * 1e3, "announce_p95_ms": announcements[len(announcements) * 95 // 100] * 1e3}


async def taken(store: Store, jobs: int) -> Figures:
    """The other process: when the handler of each job began, on the clock that all processes share."""
    begun: Figures = {}

    async def handle(batch: Sequence[Job], _reads: Reads) -> Sequence[Effect]:
        begun.update((str(job.payload["id"]), time.perf_counter()) for job in batch)
        return [Effect()] * len(batch)

    reads, clock = store.open_reads(), VirtualClock(wall_now())
    role = Role(leader=False, services=frozenset({"scoring"}))
    queue = build_shared_queue(store.settings, reads, clock, unarmed, role, Metrics())
    try:
        await queue.recover()
        processor = _processor(store.settings, queue, reads, handle)
        await Worker(clock, reads, processor, ("scoring",), queue.changed, lambda: len(begun) == jobs, Counter()).run()
    finally:
        await queue.close()
        reads.close()
    return begun


async def start(store: Store, waiting: int) -> Figures:
    """Seconds from opening the store to the first claimed jobs, and the largest memory of the process."""
    store.migrate()
    if waiting:
        store.seed(waiting, "READY")
    started = time.perf_counter()
    async with store.queue() as (queue, _reads):
        await queue.claim(wall_now(), store.settings.queue.claim_limit)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def raw(store: Store, jobs: int) -> Figures:
    """The limit: SQLite alone on the same table, one thread, nobody waits, everything as text beforehand."""
    store.migrate()
    now, text = to_text(wall_now()), json.dumps(payload(0))
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute(f"PRAGMA synchronous={store.synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint={store.settings.database.wal_autocheckpoint_pages}")
    connection.execute("PRAGMA foreign_keys=ON")

    def insert(ids: Sequence[int]) -> None:
        values = [(id_, text, "RUNNING", now, 1, f"raw-{id_}", now) for id_ in ids]
        connection.executemany(
            "INSERT INTO job_queue (id, queue, type, payload, payload_version, status, priority, run_at, attempts, crashes, "
            "solo_crashes, max_attempts, epoch, fence, dedup_key, trace_id, created_at) "
            "VALUES (?, 'scoring', 'score', ?, 1, ?, 50, ?, 0, 0, 0, 5, ?, 1, ?, '', ?)",
            values,
        )

    def finish(ids: Sequence[int]) -> None:
        connection.executemany(
            "UPDATE job_queue SET status = 'DONE', finished_at = ? "
            "WHERE id = ? AND epoch = 1 AND attempts = 0 AND status = 'RUNNING'",
            [(now, id_) for id_ in ids],
        )

    def commits(first: int, size: int, *acts: Callable[[Sequence[int]], None]) -> float:
        started = time.perf_counter()
        for low in range(first, first + jobs, size):
            connection.execute("BEGIN IMMEDIATE")
            for act in acts:
                act(range(low, min(low + size, first + jobs)))
            connection.execute("COMMIT")
        return time.perf_counter() - started

    busy = time.process_time()
    grouped = commits(1, CALLERS, insert, finish)
    busy = time.process_time() - busy
    alone = commits(1 + jobs, 1, insert)
    eight = commits(1 + 2 * jobs, 8, insert)
    processing = commits(1 + jobs, WORKERS, finish)
    connection.close()
    return {
        "jobs_per_s": jobs / grouped,
        "cpu_us": busy / jobs * 1e6,
        "process": jobs / processing,
        "alone": jobs / (alone + processing),
        "eight": jobs / (eight + processing),
        "commit_ms": alone / jobs * 1e3,
    }


LOADS: dict[str, Callable[..., Awaitable[Figures]]] = {
    load.__name__: load for load in (drain, two_phase, open_loop, carried, taken, start, raw)
}


async def run(load: str, overrides: Sequence[str] = (), synchronous: str = "FULL", **arguments: Any) -> Figures:
    """One load on a store of its own."""
    with tempfile.TemporaryDirectory(prefix="finagent-bench-") as folder:
        return await LOADS[load](Store((*overrides, f"storage.directory={folder}"), synchronous), **arguments)


def main(argument: str) -> None:
    """The child's whole life: measure, answer."""
    wanted = json.loads(argument)
    if wanted.get("synchronous", "FULL") != "FULL":
        relax_writer(wanted["synchronous"])
    sys.stdout.write(json.dumps(asyncio.run(run(**wanted))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
