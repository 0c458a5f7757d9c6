"""Clocks: the market time of a replay, set by its driver; the mapping from wall time for a replay at a pace; time that runs."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from finagent.domain.errors import InvariantViolated
from finagent.domain.sessions import MINUTE, Session

AFTER_CLOSE_MINUTES = 5  # market minutes a session goes on after its close, for what the close leaves to do


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def seconds_since_boot() -> float:
    """A clock that never goes back and, where the kernel has one, counts the time that the machine was suspended: a lease runs
    out on another machine meanwhile."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class VirtualClock:
    """Time stands still until it is set; it never goes back."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The instant last set."""
        return self._now

    def set(self, now: datetime) -> None:
        """Move to `now`; raises InvariantViolated for a step back."""
        if now < self._now:
            raise InvariantViolated(f"market time would go back from {self._now} to {now}")
        self._now = now


class RunningClock:
    """Time that runs on from an instant by a monotonic clock (seconds), so that whoever sets the machine's clock does not move
    it; it never goes back. `pace` market seconds pass a wall second: more than one only at a simulated exchange."""

    def __init__(self, at: datetime, monotonic: Callable[[], float], pace: float = 1.0) -> None:
        self._at, self._monotonic, self.pace = at, monotonic, pace
        self._since = monotonic()
        self._told = at
        self._corrected = asyncio.Event()

    def now(self) -> datetime:
        self._told = max(self._told, self._present())
        return self._told

    def correct(self, at: datetime) -> None:
        """It is `at` now, as somebody says who knows better. Time that was told stands still until it is reached again."""
        self._told = self.now()
        self._at, self._since = at, self._monotonic()
        self._corrected.set()
        self._corrected = asyncio.Event()

    async def until(self, at: datetime) -> None:
        """Wait until it is `at`."""
        while (left := (at - self.now()).total_seconds()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left / self.pace):  # wait_for of Python 3.11 may lose a cancellation
                    await self._corrected.wait()

    async def pause(self, seconds: float) -> None:
        """Wait for wall seconds."""
        await asyncio.sleep(seconds)

    def wall_seconds(self) -> float:
        """Wall seconds since some instant; nobody sets them."""
        return self._monotonic()

    def _present(self) -> datetime:
        return self._at + timedelta(seconds=(self._monotonic() - self._since) * self.pace)


@dataclass(frozen=True, slots=True)
class PacedTime:
    """Trading time since `started_at` (wall) at `pace` market seconds a wall second; nights take no time."""

    sessions: tuple[Session, ...]
    started_at: datetime
    pace: float

    async def next_instant(self, after: datetime) -> datetime | None:
        """The latest bar-time by now, waiting for the first one later than `after`; None when the window is over."""
        instants = [
            session.opens_at + minute * MINUTE
            for session in self.sessions
            for minute in range(session.minutes + AFTER_CLOSE_MINUTES + 1)
        ]
        later = [number for number, instant in enumerate(instants) if instant > after]
        if not later:
            return None
        await self.pause((self._wall(later[0]) - wall_now()).total_seconds())
        reached = int((wall_now() - self.started_at).total_seconds() * self.pace / MINUTE.total_seconds())
        return instants[max(later[0], min(reached, len(instants) - 1))]

    async def pause(self, seconds: float) -> None:
        """Wait for wall seconds."""
        await asyncio.sleep(max(0.0, seconds))

    def _wall(self, number: int) -> datetime:
        return self.started_at + timedelta(seconds=number * MINUTE.total_seconds() / self.pace)
