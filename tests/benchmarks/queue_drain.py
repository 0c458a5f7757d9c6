"""Jobs a second through the durable queue on this disk: every publication and acknowledgement waits for its own commit.

`python tests/benchmarks/queue_drain.py [JOBS] [CALLERS] [REPEATS]` prints the median of the repeats, the commits that they took
and the microseconds of a read by key.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.effect import Effect
from finagent.domain.jobs import Next
from finagent.domain.portfolio import Position
from finagent.services.failpoints import unarmed

NOW = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
PAYLOAD = {"decision_id": "dec-0123456789abcdef0123", "note": "x" * 240}


async def drain(folder: Path, jobs: int, callers: int) -> tuple[float, int, float]:
    """Jobs a second, commits, microseconds a read."""
    path = folder / "finagent.db"
    writer_policy = WriterPolicy(5, 1000, group_operations_max=500, database_bytes_max=0, probe_bytes=65536)
    upgrade(path, writer_policy, unarmed)
    reads = SqliteReads(path)
    queue = SqliteJobQueue(
        path,
        reads=reads,
        clock=VirtualClock(NOW),
        policy=DurableQueuePolicy(1000, 10, 5, 1000, 30, 500, 2000),
        writer_policy=writer_policy,
        failpoints=unarmed,
        build_hash="",
        settings_hash="",
        worker_id="",
        carries_market_clock=False,
    )
    commits = 0

    def count(_size: int, _seconds: float) -> None:
        nonlocal commits
        commits += 1

    queue.on_group.append(count)
    await queue.recover()

    async def call(caller: int) -> None:
        for number in range(jobs // callers):
            (job,) = await queue.submit(Effect(next=(Next("score", f"{caller}-{number}", PAYLOAD),)))
            await queue.submit(Effect(), job)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for caller in range(callers):
            group.create_task(call(caller))
    rate = jobs / (time.perf_counter() - started)

    await queue.submit(Effect(records=(Position("IBM", 1, Decimal("1.5"), Decimal(0), NOW),)))
    started = time.perf_counter()
    for _ in range(2000):
        reads.get(Position, "IBM")
    read_us = (time.perf_counter() - started) / 2000 * 1e6
    await queue.close()
    reads.close()
    return rate, commits, read_us


def main() -> None:
    jobs, callers, repeats = (int(text) for text in (sys.argv[1:] + ["10000", "64", "5"][len(sys.argv) - 1 :]))
    results = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            results.append(asyncio.run(drain(Path(folder), jobs, callers)))
    rate, commits, read_us = (statistics.median(column) for column in zip(*results, strict=True))
    print(
        f"{rate:,.0f} jobs/s drained by {callers} callers; {jobs} jobs in {commits:,.0f} commits; {read_us:.1f} us a read by key"
    )


if __name__ == "__main__":
    main()
