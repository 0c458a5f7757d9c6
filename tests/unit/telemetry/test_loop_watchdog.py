"""A loop that stands still is seen, named and measured."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from finagent.domain.errors import BadInput
from finagent.telemetry.loop_watchdog import LoopWatchdog, WatchdogPolicy


async def test_a_blocked_loop_is_measured_and_its_stack_logged() -> None:
    """While a function blocks the loop, the other thread logs where; afterwards the lag is told."""
    lags: list[float] = []
    late = asyncio.Event()

    def observe(lag: float) -> None:
        lags.append(lag)
        if lag > 0.05:
            late.set()

    watchdog = LoopWatchdog(WatchdogPolicy(0.01, 0.05, 0.1, 60), observe)
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watchdog.run())
            await asyncio.sleep(0)
            blocking_function(logs)
            await asyncio.wait_for(late.wait(), 5)
            task.cancel()

    stuck = [line for line in logs if line["event"] == "loop_stuck"]
    assert len(stuck) == 1
    assert "blocking_function" in stuck[0]["exception"]
    assert any(line["event"] == "loop_stalled" for line in logs)
    assert not [thread for thread in threading.enumerate() if thread.name == "loop-watchdog"]


def blocking_function(logs: list[Any]) -> None:
    """Blocks the loop until the watchdog has seen it, at most 5 s."""
    deadline = time.monotonic() + 5
    while not any(line["event"] == "loop_stuck" for line in logs) and time.monotonic() < deadline:
        pass


async def test_a_loop_that_turns_is_not_reported() -> None:
    """Beats are observed; nothing is logged."""
    beats = asyncio.Event()
    watchdog = LoopWatchdog(WatchdogPolicy(0.01, 4, 4, 60), lambda lag: beats.set())
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watchdog.run())
            await asyncio.wait_for(beats.wait(), 5)
            assert watchdog.seconds_since_beat() < 4
            task.cancel()

    assert logs == []


async def test_a_loop_that_does_not_turn_again_is_given_up() -> None:
    """F-27: the stack of the culprit is in the log by then."""
    given_up = threading.Event()
    watchdog = LoopWatchdog(WatchdogPolicy(0.01, 0.01, 0.02, 0.2), lambda lag: None, given_up.set)
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watchdog.run())
            await asyncio.sleep(0)
            assert given_up.wait(10)
            task.cancel()

    assert [line["event"] for line in logs if line["log_level"] in ("error", "critical")] == ["loop_stuck", "loop_given_up"]


STOPPED = """
import asyncio, os, sys
from finagent.telemetry.loop_watchdog import LoopWatchdog, WatchdogPolicy
async def main():
    beats = asyncio.Event()
    watchdog = LoopWatchdog(WatchdogPolicy(0.02, 0.02, 0.02, float(sys.argv[1])), lambda lag: beats.set())
    watching = asyncio.create_task(watchdog.run())
    await beats.wait()
    os.kill(os.getpid(), int(sys.argv[2]))
    beats.clear()
    await beats.wait()
    watching.cancel()
asyncio.run(main())
"""


def test_a_process_that_was_stopped_from_outside_is_not_given_up() -> None:
    """F-06: wall time went on, the loop was not allowed to turn."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, "0.5", str(int(signal.SIGSTOP))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    time.sleep(1.5)  # three times what it may stand: that is what is tested

    process.send_signal(signal.SIGCONT)

    assert process.wait(30) == 0


def test_a_policy_out_of_order_is_refused() -> None:
    """A dump before a stall makes no sense."""
    with pytest.raises(BadInput, match="dump_seconds"):
        WatchdogPolicy(0.1, 0.5, 0.2, 60)
