"""Time that runs: it follows the monotonic clock, is corrected by whoever knows better, and never goes back."""

import asyncio
from datetime import UTC, datetime, timedelta

from finagent.adapters.clock import RunningClock

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Seconds:
    """A monotonic clock in the test's hand."""

    def __init__(self) -> None:
        self.value = 100.0

    def __call__(self) -> float:
        return self.value


def test_it_runs_at_its_pace_whatever_the_wall_clock_is_set_to() -> None:
    seconds = Seconds()
    clock = RunningClock(NOON, seconds, pace=60)
    seconds.value += 2.5
    assert clock.now() == NOON + timedelta(seconds=150)


def test_a_correction_back_makes_it_stand_until_the_time_is_reached_again() -> None:
    seconds = Seconds()
    clock = RunningClock(NOON, seconds)
    seconds.value += 10
    clock.correct(NOON + timedelta(seconds=4))
    told = [clock.now()]
    for _ in range(3):
        seconds.value += 3
        told.append(clock.now())
    assert told == [NOON + timedelta(seconds=second) for second in (10, 10, 10, 13)]


def test_a_correction_forward_counts_at_once() -> None:
    seconds = Seconds()
    clock = RunningClock(NOON, seconds)
    clock.correct(NOON + timedelta(hours=17))
    assert clock.now() == NOON + timedelta(hours=17)


async def test_whoever_waits_for_an_instant_sees_that_the_clock_was_corrected() -> None:
    clock = RunningClock(NOON, Seconds())
    waiting = asyncio.ensure_future(clock.until(NOON + timedelta(hours=17)))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.correct(NOON + timedelta(hours=17))
    async with asyncio.timeout(60):
        await waiting
