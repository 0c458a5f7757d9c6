"""A connection between a process and its server that a test can cut."""

import asyncio
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit


class Wire:
    """What lies between a process and its server: it can be cut, and mended. On a loop of its own, since reads block."""

    def __init__(self, url: str) -> None:
        there = urlsplit(url)
        self._target = (there.hostname or "127.0.0.1", there.port or 5432)
        self._up, self._ends = True, set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(self._serve())
        who, _, _ = there.netloc.rpartition("@")
        self.url = there._replace(netloc=f"{who}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}").geturl()

    def cut(self) -> None:
        """Every connection ends, and no new one gets through."""
        self._up = False
        self._call(self._end())

    def mend(self) -> None:
        """New connections get through."""
        self._up = True

    def close(self) -> None:
        self.cut()
        self._server.close()
        self._call(asyncio.sleep(0.05))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._meet, "127.0.0.1", 0)

    async def _end(self) -> None:
        for end in tuple(self._ends):
            end.transport.abort()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(*self._target)
        self._ends |= {writer, back}
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        self._ends -= {writer, back}

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()
