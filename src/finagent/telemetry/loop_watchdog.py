"""A watch over the event loop: how late it turns, and what it was doing when it stood still."""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from finagent.domain.errors import BadInput

EXIT_CODE_STUCK = 1
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchdogPolicy:
    """`interval_seconds` between beats; a beat later than `stall_seconds` is logged; after `dump_seconds` without one the stack
    of the loop's thread is logged from another thread, while it still stands; after `exit_seconds` the process ends."""

    interval_seconds: float
    stall_seconds: float
    dump_seconds: float
    exit_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.interval_seconds <= self.stall_seconds <= self.dump_seconds <= self.exit_seconds:
            raise BadInput("watchdog: 0 < interval_seconds <= stall_seconds <= dump_seconds <= exit_seconds does not hold")


def end_process() -> NoReturn:
    """A loop that stands will not turn again, and nobody can be asked to clean up: as safe as a kill."""
    os._exit(EXIT_CODE_STUCK)


class LoopWatchdog:
    """`run` is a task of the watched loop; `observe(lag_seconds)` is told of each beat. Holds no token of work in flight."""

    def __init__(
        self, policy: WatchdogPolicy, observe: Callable[[float], None], give_up: Callable[[], None] = end_process
    ) -> None:
        self._policy, self._give_up = policy, give_up
        self._observe = observe
        self._beat = time.monotonic()
        self._stop = threading.Event()
        self._thread_id = 0
        self.lag_seconds = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        self._thread_id = threading.get_ident()
        self._beat = time.monotonic()
        self._stop.clear()
        watcher = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        watcher.start()
        try:
            while True:
                before = time.monotonic()
                await asyncio.sleep(self._policy.interval_seconds)
                self._beat = time.monotonic()
                self._measured(max(0.0, self._beat - before - self._policy.interval_seconds))
        finally:
            self._stop.set()
            watcher.join()

    def seconds_since_beat(self) -> float:
        """How long the loop has not turned; may be asked from any thread."""
        return time.monotonic() - self._beat

    def _measured(self, lag: float) -> None:
        self.lag_seconds = lag
        self._observe(lag)
        if lag > self._policy.stall_seconds:
            log.warning("loop_stalled", lag_seconds=round(lag, 3))

    def _watch(self) -> None:
        dumped_for, seen, standing = 0.0, self._beat, 0.0
        while not self._stop.wait(self._policy.interval_seconds):
            beat = self._beat
            # Counted in looks, not by the clock: a process that was stopped from outside has not stood still.
            standing = standing + self._policy.interval_seconds if beat == seen else 0.0
            seen = beat
            if standing >= self._policy.exit_seconds:
                log.critical("loop_given_up", seconds=round(standing, 3))
                self._give_up()
                return
            if self.seconds_since_beat() < self._policy.dump_seconds or beat == dumped_for:
                continue
            dumped_for = beat
            frame = sys._current_frames().get(self._thread_id)
            stack = "".join(traceback.format_stack(frame)) if frame else ""
            log.error("loop_stuck", seconds=round(self.seconds_since_beat(), 3), exception=stack)
