"""One counter of work in flight: when it is zero, nothing can happen until time moves on."""

import asyncio


class Quiet:
    """A token is taken before a piece of work exists and returned after its consequences were offered; touched only on the
    loop. ("Queues empty and no commit pending" is a race; this is not.)"""

    def __init__(self) -> None:
        self._tokens = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def enter(self) -> None:
        """Take a token: before the work is handed out."""
        self._tokens += 1
        self._quiet.clear()

    def leave(self) -> None:
        """Return a token: after the work's consequences were offered."""
        self._tokens -= 1
        if self._tokens == 0:
            self._quiet.set()

    async def wait(self) -> None:
        """Until no token is held."""
        await self._quiet.wait()
