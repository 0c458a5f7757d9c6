"""Two ways to reach the broker: a thread of this process, or a socket. Frames go one at a time, each is answered."""

import asyncio
import functools
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.errors import BadInput, Transient

LENGTH = struct.Struct(">I")
FRAME_BYTES_MAX = 64 * 1024 * 1024
UNIX_PATH_BYTES_MAX = 100


class Transport(Protocol):
    """Carries a frame to the broker and its answer back. Raises Transient when there is no answer within the deadline, which
    says nothing about whether the broker got the frame. A `repeatable` frame may be carried again on a new connection."""

    async def call(self, frame: Json, deadline_seconds: float, *, repeatable: bool) -> Json: ...

    async def close(self) -> None: ...


class InProcessBroker:
    """The broker on a thread of its own: the loop never waits for its disk or its market. Owns the broker."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self._broker = broker
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-simulator")

    async def call(self, frame: Json, deadline_seconds: float, *, repeatable: bool) -> Json:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_seconds):
                return await loop.run_in_executor(self._thread, functools.partial(self._broker.handle, frame))
        except TimeoutError as error:
            raise Transient(f"broker: no answer to {frame['method']} within {deadline_seconds} s") from error

    async def close(self) -> None:
        """End the thread after what it is doing, then the broker."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._broker.close)
        self._thread.shutdown()


class BrokerSocket:
    """The broker behind `unix:PATH` or `tcp:HOST:PORT`. A connection that failed or was left without an answer is dropped; the
    next call makes a new one, which the broker serves after it has ended the old."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        parse_address(address)

    async def call(self, frame: Json, deadline_seconds: float, *, repeatable: bool) -> Json:
        try:
            async with asyncio.timeout(deadline_seconds), self._turn:
                connected_before = self._streams is not None
                try:
                    return await self._exchange(frame)
                except (OSError, EOFError):
                    if not (repeatable and connected_before):  # else the broker may have been started again since the last call
                        raise
                    return await self._exchange(frame)
        except TimeoutError as error:
            raise Transient(f"broker {self._address}: no answer to {frame['method']} within {deadline_seconds} s") from error
        except (OSError, EOFError, ValueError) as error:
            raise Transient(f"broker {self._address}: {frame['method']}: {error!r}") from error

    async def close(self) -> None:
        await self._drop()

    async def _exchange(self, frame: Json) -> Json:
        if self._streams is not None and self._streams[0].at_eof():
            await self._drop()
        if self._streams is None:
            self._streams = await self._connect()
        reader, writer = self._streams
        answered = False
        try:
            writer.write(to_frame(frame))
            await writer.drain()
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            answer: Json = json.loads(await reader.readexactly(length))
            answered = True
            return answer
        finally:
            if not answered:
                await self._drop()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        kind, place = parse_address(self._address)
        if kind == "unix":
            return await asyncio.open_unix_connection(place[0])
        return await asyncio.open_connection(place[0], int(place[1]))

    async def _drop(self) -> None:
        if self._streams is not None:
            (_, writer), self._streams = self._streams, None
            writer.transport.abort()


def to_frame(message: Any) -> bytes:
    """Length (4 bytes, big-endian) and JSON."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def parse_address(address: str) -> tuple[str, tuple[str, ...]]:
    """`unix:PATH` or `tcp:HOST:PORT`, taken apart; BadInput for anything else."""
    kind, _, place = address.partition(":")
    if kind == "unix" and place:
        if len(place.encode()) > UNIX_PATH_BYTES_MAX:
            raise BadInput(f"broker socket path has more than {UNIX_PATH_BYTES_MAX} bytes: {place}; choose a shorter folder")
        return kind, (place,)
    host, _, port = place.rpartition(":")
    if kind == "tcp" and host and port.isdecimal():
        return kind, (host, port)
    raise BadInput(f"broker address {address!r}: not unix:PATH or tcp:HOST:PORT")
