"""Open-loop load: requests come at random whether or not earlier ones were answered, and are timed from when they were due."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.telemetry.loop_watchdog import LoopWatchdog, WatchdogPolicy

LAG_SECONDS = 0.005  # between two looks at how late the loop is
STALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """`rate` requests a second for `seconds`; whoever has no answer `patience_seconds` after it was due has waited in vain."""

    rate: float
    seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Endured:
    """What a load saw. `latency_seconds` has one figure a request; one without an answer counts from when it was due to the end.
    `answered`: the fraction that had one in time."""

    latency_seconds: Floats
    answered: float
    loop_lag_seconds: Floats

    def latency_ms(self, quantile: float) -> float:
        return float(np.quantile(self.latency_seconds, quantile)) * 1e3

    @property
    def loop_lag_p99_ms(self) -> float:
        return float(np.quantile(self.loop_lag_seconds, 0.99)) * 1e3


async def endured(load: Load, ask: Callable[[int], Awaitable[bool]], seed: int) -> Endured:
    """Request number n is `ask(n)`, which says whether it was answered."""
    chance = np.random.Generator(np.random.Philox(key=seed))
    count = max(1, int(load.rate * load.seconds))
    due = np.cumsum(chance.exponential(1.0 / load.rate, count))
    taken, lags = np.full(count, np.nan), list[float]()

    async def request(number: int, at: float) -> None:
        if await ask(number):
            taken[number] = time.perf_counter() - at

    watchdog = LoopWatchdog(WatchdogPolicy(LAG_SECONDS, STALL_SECONDS, STALL_SECONDS, STALL_SECONDS), lags.append)
    watching = asyncio.create_task(watchdog.run())
    began = time.perf_counter()
    waiting = set[asyncio.Task[None]]()
    for number, offset in enumerate(due.tolist()):
        early = began + offset - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        task = asyncio.create_task(request(number, began + offset))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    if waiting:
        await asyncio.wait(waiting, timeout=load.patience_seconds)
    ended = time.perf_counter()
    for task in (*waiting, watching):
        task.cancel()
    await asyncio.gather(*waiting, watching, return_exceptions=True)
    in_time = float((taken <= load.patience_seconds).mean())
    return Endured(np.where(np.isnan(taken), ended - began - due, taken), in_time, np.asarray(lags or [0.0]))
