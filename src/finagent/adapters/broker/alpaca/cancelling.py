"""Ending what the SDK runs."""

import asyncio
from collections.abc import Coroutine
from typing import Any

AGAIN_SECONDS = 0.1  # of wall time


async def cancellable(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run it to its end or until cancelled. The SDK waits with asyncio.wait_for, which in Python 3.11 loses a cancellation
    that comes together with a message: it is repeated until it is heard."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait({task})
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=AGAIN_SECONDS)
    task.result()
