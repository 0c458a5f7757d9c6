"""Quiet is when no token is held, and only then."""

import asyncio

from finagent.services.queue.quiet import Quiet


async def test_it_is_quiet_before_any_work() -> None:
    await asyncio.wait_for(Quiet().wait(), 1)


async def test_it_is_not_quiet_until_every_token_is_back() -> None:
    quiet = Quiet()
    quiet.enter()
    quiet.enter()
    waiting = asyncio.create_task(quiet.wait())
    quiet.leave()
    await asyncio.sleep(0)
    before = waiting.done()
    quiet.leave()
    await asyncio.wait_for(waiting, 1)

    assert not before


async def test_work_that_makes_work_keeps_it_from_being_quiet() -> None:
    """The consequence takes its token before the cause returns its own."""
    quiet = Quiet()
    quiet.enter()
    waiting = asyncio.create_task(quiet.wait())
    for _ in range(100):
        quiet.enter()
        quiet.leave()
        await asyncio.sleep(0)
        assert not waiting.done()
    quiet.leave()
    await asyncio.wait_for(waiting, 1)
