"""The drill's side of the fork server: spawn a child, wait for its end."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from finagent.domain.errors import BadInput, Unavailable

# One computing thread: a numeric library's thread pool would make the server unfit to be forked.
_SINGLE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
_NO_PURGER = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pandas, which Alpaca's SDK imports, brings Arrow's allocator
_END_SECONDS = 20.0
_BAD_INPUT = 2
GONE = "the fork server ended; its reason is on stderr"


class ForkServer:
    """A running server. Children are known by pid; a child's status is its exit code, or minus the signal that ended it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._spawned: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._requests = 0
        self._closed = False

    async def spawn(self, request: dict[str, Any]) -> int:
        """Fork a child for the request and say its pid. Raises Unavailable when the server is gone."""
        if self._closed:
            raise Unavailable(GONE)
        self._requests += 1
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._spawned[self._requests] = answer
        self._writer.write(json.dumps({**request, "spawn": self._requests}).encode() + b"\n")
        await self._writer.drain()
        return await answer

    async def ended(self, pid: int) -> int:
        """The status of the child, once it has ended."""
        return await asyncio.shield(self._ended[pid])  # who stops waiting does not take the answer away

    def has_ended(self, pid: int) -> bool:
        """Whether the child is gone, as far as the server has said."""
        return self._ended[pid].done()

    async def listen(self) -> None:
        """Hand the server's answers to who waits for them, until it closes."""
        async for line in self._reader:
            message = json.loads(line)
            if "pid" in message:
                self._ended[message["pid"]] = asyncio.get_running_loop().create_future()  # a pid may come round again
                self._spawned.pop(message["spawned"]).set_result(message["pid"])
            else:
                self._ended[message["ended"]].set_result(message["status"])
        self._closed = True
        for answer in (*self._spawned.values(), *self._ended.values()):
            if not answer.done():
                answer.set_exception(Unavailable(GONE))
                answer.exception()  # who still waits gets it; who does not is not to be told again


@asynccontextmanager
async def fork_server(arguments: Sequence[str], under: Sequence[str] = ()) -> AsyncIterator[ForkServer]:
    """Start `python -m finagent.drill.children serve` with the arguments, `under` a command such as a tracer; its children end
    with it.

    Raises BadInput when it refuses what it was told (it says why on stderr), Unavailable when it does not start.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *under, sys.executable, "-m", "finagent.drill.children", "serve", "--connection", str(theirs.fileno()), *arguments,
            pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, **_SINGLE_THREAD, **_NO_PURGER},
        )  # fmt: skip
    reader, writer = await asyncio.open_connection(sock=ours)
    if not await reader.readline():
        writer.close()
        raise (BadInput if await process.wait() == _BAD_INPUT else Unavailable)(GONE)
    server = ForkServer(reader, writer)
    listening = asyncio.create_task(server.listen(), name="fork_server_answers")
    try:
        yield server
    finally:
        writer.close()
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        try:
            await asyncio.wait_for(process.wait(), _END_SECONDS)
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            await process.wait()
