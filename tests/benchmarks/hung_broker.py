"""The event loop while the broker hangs on every thread, beside the same agent at a broker that answers.

`python -m tests.benchmarks.hung_broker 30` lives through half a minute of each, at a minute of the market a second, and ends with
3 where the loop's lag at p99.9 is more than 10 ms above that of the control.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.integration.test_live_day import at_alpaca
from tests.integration.test_simulate_broker import ended, started

from finagent.bootstrap import build_application
from finagent.domain.errors import Transient, Unavailable
from finagent.domain.ports.order_execution import OrderExecutionPort
from finagent.telemetry.logging import LoggingPolicy, configure

BEYOND_MILLISECONDS = 10.0
BEAT_SECONDS = 0.002
PACE = 60
ASKING = 8  # callers more than there are threads
HANGS = [{"method": method, "path": "*", "kind": "hang_before", "times": 10**9} for method in ("GET", "POST", "DELETE")]


@dataclass(frozen=True)
class Lag:
    """How much later than it wanted a beat came, in milliseconds."""

    beats: int
    p50: float
    p99: float
    p999: float
    most: float


async def beating(seconds: float) -> Lag:
    lags, until = [], time.monotonic() + seconds
    while (before := time.monotonic()) < until:
        await asyncio.sleep(BEAT_SECONDS)
        lags.append(1000 * (time.monotonic() - before - BEAT_SECONDS))
    lags.sort()
    p50, p99, p999 = (round(lags[int(share * (len(lags) - 1))], 3) for share in (0.5, 0.99, 0.999))
    return Lag(len(lags), p50, p99, p999, round(lags[-1], 3))


async def lived(folder: Path, url: str, seconds: float, *, hangs: bool) -> tuple[Lag, float]:
    """The loop of an agent at work; and the share of its requests that had no answer."""
    usual = ("wall_time.spacing_seconds=0.1", "queue.poll_seconds=0.05", "wall_time.clock_seconds=5", "alpaca.read_seconds=2")
    settings = at_alpaca(folder, url, f"wall_time.pace={PACE}", *usual, "broker.call_seconds=2")
    async with build_application(settings) as application, httpx.AsyncClient(base_url=url) as exchange:
        running = asyncio.create_task(application.run())
        await asyncio.sleep(3)  # it has started, and agreed with the broker
        if hangs:
            (await exchange.post("/control/faults", json={"script": HANGS})).raise_for_status()
            await asyncio.sleep(1)
        asking = [asyncio.create_task(_asks(application.parts.broker)) for _ in range(ASKING)]
        lag = await beating(seconds)
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        (await exchange.post("/control/faults", json={"script": []})).raise_for_status()
        application.stop()
        with suppress(Unavailable):
            await running
        return lag, _unanswered(application.parts.metrics.registry)


async def _asks(broker: OrderExecutionPort) -> None:
    """Keeps every thread busy: those for reads, and those for look-ups and cancels."""
    while True:
        await broker.look_up("fa-unknown")
        with suppress(Transient):
            await broker.positions()
        await asyncio.sleep(0.05)


def _unanswered(registry: Any) -> float:
    told = {
        sample.labels["outcome"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "finagent_api_requests_total" and sample.labels["target"] == "broker"
    }
    share: float = (told.get("timeout", 0) + told.get("unknown", 0)) / max(1.0, sum(told.values()))
    return round(share, 3)


def main(seconds: float) -> int:
    document: dict[str, Any] = {}
    configure(LoggingPolicy("ERROR", "json"))
    for name, hangs in (("control", False), ("hung", True)):
        with tempfile.TemporaryDirectory() as folder:
            pace = ("--set", f"alpaca_simulator.pace={PACE}", "--set", "market_data.first_session=2008-10-09")
            process, told = started(Path(folder) / "alpaca", *pace, "--set", "market_data.last_session=2008-10-10")
            os.environ.update(told["environment"])
            try:
                lag, unanswered = asyncio.run(lived(Path(folder) / "agent", told["url"], seconds, hangs=hangs))
            finally:
                ended(process)
            document[name] = {**vars(lag), "unanswered_share": unanswered}
    document["beyond_control_ms"] = round(document["hung"]["p999"] - document["control"]["p999"], 3)
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0 if document["beyond_control_ms"] <= BEYOND_MILLISECONDS else 3


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
