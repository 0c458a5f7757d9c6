"""What trainings cost others: how late a loop beside them turns, and what a start costs with one copy of the rows."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog

from finagent.adapters.models.learners import specialist
from finagent.adapters.models.row_files import open_rows
from finagent.api.policies import watchdog_policy
from finagent.bootstrap.live import open_market
from finagent.bootstrap.training import ROWS, Order, Watcher, gather_rows, plan_trainings
from finagent.settings import load_settings
from finagent.telemetry.loop_watchdog import LoopWatchdog

BEAT_SECONDS = 0.005
WINDOW = ("market_data.first_session=2008-01-02", "market_data.last_session=2008-10-08", "model.training.first_test_days=120")
OWN_STARTS, SHARED_STARTS = 3, 20


@contextmanager
def loop_beside(told: dict[str, float]) -> Iterator[None]:
    """A process whose event loop only turns, as the agent's does beside a training; afterwards `told` has how late it was."""
    command = [sys.executable, "-m", "tests.benchmarks.beside_training"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()  # it turns
        try:
            yield
        finally:
            process.stdin.close()
            told.update(json.loads(process.stdout.readline()))


async def turn() -> None:
    """Until nobody listens any more."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is the answer's
    lags: list[float] = []
    watchdog = LoopWatchdog(replace(watchdog_policy(load_settings()), interval_seconds=BEAT_SECONDS), lags.append)
    task = asyncio.create_task(watchdog.run())
    sys.stdout.write("turning\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    task.cancel()
    p50, p99, most = (float(each) * 1000.0 for each in np.quantile(lags, (0.5, 0.99, 1.0)))
    sys.stdout.write(
        json.dumps({"beats": len(lags), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "most_ms": round(most, 3)})
    )
    sys.stdout.write("\n")


def starts(folder: Path) -> dict[str, float]:
    """Seconds from being asked to the first epoch, torch being there: where each training reads the market for itself, and where
    one has read it for all. The ratio is that of twenty trainings, the one reading included."""
    settings = load_settings(overrides=(f"storage.directory={folder}", *WINDOW))
    watcher = Watcher(lambda _: None, lambda *_: None)

    def order(name: str) -> Order:
        return Order("start", name, None, None, "of the proof", folder / "package")

    async def own(name: str) -> None:
        async with open_market(settings) as market:
            await gather_rows(settings, market, folder / "training" / name / ROWS, order(name), watcher)
        begin(name)

    def begin(name: str) -> None:
        rows = folder / "training" / name / ROWS
        final = plan_trainings(settings, order(name), name, open_rows(rows, verify=False)).final
        specialist(final.recipe, rows)

    alone = [timed(lambda name: asyncio.run(own(name)), str(number)) for number in range(OWN_STARTS + 1)][1:]
    shared = [timed(begin, "0") for _ in range(SHARED_STARTS)]
    own_seconds, shared_seconds = statistics.median(alone), statistics.median(shared)
    ratio = SHARED_STARTS * own_seconds / (own_seconds + SHARED_STARTS * shared_seconds)
    return {"own_seconds": own_seconds, "shared_seconds": shared_seconds, "faster": ratio}


def timed(call: Callable[[str], None], name: str) -> float:
    began = time.perf_counter()
    call(name)
    return time.perf_counter() - began


if __name__ == "__main__":
    asyncio.run(turn())
