"""What trainings cost others: how late a loop beside them turns, and what a start costs with one copy of the rows."""

import asyncio
import contextlib
import json
import os
import signal
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
PHASE_SECONDS = 1.0
WINDOW = ("market_data.first_session=2008-01-02", "market_data.last_session=2008-10-08", "model.training.first_test_days=120")
OWN_STARTS, SHARED_STARTS = 3, 20


@contextmanager
def loop_beside(beats: list[tuple[float, float]]) -> Iterator[None]:
    """A process whose event loop only turns, as the agent's does beside a training; afterwards `beats` has when it turned and how
    late, in seconds of the machine's clock."""
    command = [sys.executable, "-m", "tests.benchmarks.beside_training"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()  # it turns
        try:
            yield
        finally:
            process.stdin.close()
            beats += json.loads(process.stdout.readline())


async def turn() -> None:
    """Until nobody listens any more."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is the answer's
    beats: list[tuple[float, float]] = []
    policy = replace(watchdog_policy(load_settings()), interval_seconds=BEAT_SECONDS)
    task = asyncio.create_task(LoopWatchdog(policy, lambda lag: beats.append((time.monotonic(), lag))).run())
    sys.stdout.write("turning\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    task.cancel()
    sys.stdout.write(json.dumps(beats) + "\n")


def lag_beside(command: list[str]) -> dict[str, dict[str, float]]:
    """How late a loop turns while the command runs and while it is held back, second by second in turn: whatever else the machine
    does, it does to both."""
    beats: list[tuple[float, float]] = []
    phases: list[tuple[bool, float, float]] = []
    with loop_beside(beats), subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        goes = True
        while process.poll() is None:
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PHASE_SECONDS)
            phases.append((goes, began, time.monotonic()))
            goes = not goes
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT if goes else signal.SIGSTOP)
    assert process.returncode == 0
    lags: dict[bool, list[float]] = {True: [], False: []}
    for at, lag in beats:
        for going, began, ended in phases:
            if began + lag <= at <= ended:
                lags[going].append(lag)
    return {"running": _lag(lags[True]), "held_back": _lag(lags[False])}


def _lag(lags: list[float]) -> dict[str, float]:
    quantiles = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "most_ms": 1.0}
    told = {name: round(float(np.quantile(lags, level)) * 1000.0, 3) for name, level in quantiles.items()}
    return {"beats": len(lags), **told}


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
