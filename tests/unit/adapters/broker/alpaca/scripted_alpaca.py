"""A server that says what it is told to, byte by byte, and keeps what it was asked."""

import asyncio
import json
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from finagent.adapters.broker.alpaca.client import AlpacaClient
from finagent.adapters.broker.alpaca.policy import AlpacaPolicy, HttpPolicy, Keys, RestPolicy
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.domain.orders import OrderClass, OrderType, Side, TimeInForce
from finagent.domain.ports.order_execution import OrderRequest

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
ORDER_ID = "61e69015-8549-4bfd-b9c3-01e75843f47d"


@dataclass(frozen=True)
class Answer:
    """What goes over the wire: `cut` bytes of it and then a reset; `hang`: nothing until the script ends."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: bool = False
    drip_seconds: float = 0

    def data(self) -> bytes:
        body = self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json", **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} X\r\n{head}\r\n".encode() + body


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Script:
    """Answers by "METHOD /path": the next of a list, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.arrived = asyncio.Condition()
        self.release = asyncio.Event()
        self.url = ""
        self.connections: set[asyncio.Task[None]] = set()

    def says(self, route: str, *answers: Answer | Any) -> None:
        self.answers[route] = [answer if isinstance(answer, Answer) else Answer(body=answer) for answer in answers]

    def requests(self, route: str) -> list[Asked]:
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == route]

    async def until_asked(self, route: str, count: int) -> None:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests(route)) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        async with self.arrived:
            self.asked.append(Asked(method, parts.path, query, json.loads(data) if data else None, headers))
            self.arrived.notify_all()
        answers = self.answers[f"{method} {parts.path}"]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer.hang:
            await self.release.wait()
        await self._write(answer, writer)

    async def _write(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        data = answer.data()
        if answer.drip_seconds:
            for byte in data:
                writer.write(bytes([byte]))
                await asyncio.sleep(answer.drip_seconds)
            return
        writer.write(data[: answer.cut])
        await writer.drain()
        if answer.cut is not None:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            raise ConnectionResetError


@dataclass
class Desk:
    """A client and the server it talks to; `seconds` is its monotonic time, `now` its clock's."""

    script: Script
    seconds: float = 1000.0
    time: datetime = NOW
    outcomes: list[str] = field(default_factory=list)
    client: AlpacaClient = field(init=False)
    rest: AlpacaRest = field(init=False)

    def now(self) -> datetime:
        return self.time


POLICY = AlpacaPolicy("PA1", live=False, deduplicates_forever=True, settle_seconds=300, lookback_hours=96)
HTTP = HttpPolicy(connect_seconds=2, read_seconds=5, deadline_seconds=10, answer_bytes_max=1_000_000)
REST = RestPolicy(
    url="http://127.0.0.1:1",
    live=False,
    official_url="https://paper-api.alpaca.markets",
    http=HTTP,
    threads=2,
    reserved_threads=1,
    requests_per_minute=6000,
    share=0.8,
    reserved_requests=20,
    read_attempts=3,
    retry_wait_seconds=0.001,
    breaker_failures=5,
    breaker_seconds=15,
)


@asynccontextmanager
async def scripted_alpaca(*, pinned: bool = True, deadline_seconds: float = 10, **rest: Any) -> AsyncIterator[Desk]:
    """A client with a scripted server, its account already named."""
    script = Script()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    script.says("GET /v2/account", account())
    desk = Desk(script)
    http = replace(HTTP, deadline_seconds=deadline_seconds)
    policy = replace(REST, **{"url": script.url, "http": http, **rest})
    desk.rest = AlpacaRest(policy, Keys("PKTEST", "planted-secret"), lambda: desk.seconds, lambda _t, o: desk.outcomes.append(o))
    desk.client = AlpacaClient(desk.rest, desk, POLICY)
    try:
        if pinned:
            await desk.client.account()
            script.asked.clear()
        yield desk
    finally:
        script.release.set()
        await desk.client.close()
        server.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*script.connections)


def account(**fields: Any) -> dict[str, Any]:
    return {"id": "u", "account_number": "PA1", "cash": "100000.5", "buying_power": "400002", "status": "ACTIVE", **fields}


def an_order(**fields: Any) -> dict[str, Any]:
    """An order as Alpaca tells it."""
    return {
        "id": ORDER_ID,
        "client_order_id": "fa-1",
        "created_at": "2026-11-24T14:59:00.123456789Z",
        "updated_at": "2026-11-24T09:59:00.123456789-05:00",
        "submitted_at": "2026-11-24T14:59:00.123456789Z",
        "symbol": "IBM",
        "qty": "10",
        "notional": None,
        "filled_qty": "0",
        "filled_avg_price": None,
        "order_class": "",
        "type": "limit",
        "side": "buy",
        "time_in_force": "day",
        "limit_price": "100.25",
        "stop_price": None,
        "status": "new",
        "legs": None,
        "a_field_of_tomorrow": {"x": 1},
        **fields,
    }


def a_request(**fields: Any) -> OrderRequest:
    """A limit order."""
    values: dict[str, Any] = {
        "client_order_id": "fa-1",
        "symbol": "IBM",
        "side": Side.BUY,
        "quantity": 10,
        "type": OrderType.LIMIT,
        "limit_price": Decimal("100.25"),
        "stop_price": None,
        "order_class": OrderClass.SIMPLE,
        "time_in_force": TimeInForce.DAY,
    }
    return OrderRequest(**(values | fields))
