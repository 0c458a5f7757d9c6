"""What goes wrong between the broker and its client: by script (the n-th request of a kind) or by seed (keyed draws)."""

import asyncio
import fnmatch
import http
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from finagent.adapters.broker.alpaca_simulator.desk import Desk
from finagent.domain.chance import uniform
from finagent.domain.errors import BadInput
from finagent.domain.time import to_text

UNHEARD_OF = "unheard_of"
STORM_LIMIT = 200
LOOK_UP = "/v2/orders:by_client_order_id"
OF_ONE_ORDER = (LOOK_UP, "/v2/orders/")
ANSWER_BYTES = 400  # of an order's answer that a reset may let through
STREAM = "STREAM"
LINGER_NONE = struct.pack("ii", 1, 0)


class FaultKind(Enum):
    """The fate of a request. BEFORE: the broker never saw it; AFTER: it was applied."""

    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    RESET_AT_BYTE = "reset_at_byte"  # applied; so many bytes of the answer, then a reset
    TRUNCATED = "truncated"  # applied; a whole HTTP answer whose JSON is cut in the middle
    HTML_BEFORE = "html_before"  # `status` with an HTML page
    HTML_AFTER = "html_after"
    HANG_BEFORE = "hang_before"  # no answer while the client waits
    HANG_AFTER = "hang_after"
    DELAY = "delay"  # applied at once, answered after `seconds`
    RATE_LIMITED = "rate_limited"  # 429, not applied
    UNKNOWN_STATUS = "unknown_status"  # applied; its status is a word that no client knows
    HIDDEN = "hidden"  # applied; a look-up by client id finds nothing `look_ups` times
    LATE = "late"  # reset; applied `minutes` of market time later
    REJECTED = "rejected"  # taken, then rejected before the next minute trades
    CANCEL_LOST = "cancel_lost"  # 204, not applied
    CANCEL_LATE = "cancel_late"  # 204, applied `minutes` later than it would be: a fill may come first
    DUPLICATE = "duplicate"  # stream: told twice
    REORDERED = "reordered"  # stream: told after the next message
    MISSING = "missing"  # stream: never told
    NULL_DATA = "null_data"  # stream: a frame whose data is null comes before it
    MUTE = "mute"  # stream: nothing is told any more, the connection stays
    DROP = "drop"  # stream: the connection breaks (1006)


NOT_APPLIED = (FaultKind.RESET_BEFORE, FaultKind.HTML_BEFORE, FaultKind.HANG_BEFORE)
OF_STREAMS = (
    FaultKind.DUPLICATE,
    FaultKind.REORDERED,
    FaultKind.MISSING,
    FaultKind.NULL_DATA,
    FaultKind.MUTE,
    FaultKind.DROP,
)
# What a seed may draw: faults of any request, then those that need a cancel or an order.
DRAWN = (
    FaultKind.RESET_BEFORE,
    FaultKind.RESET_AFTER,
    FaultKind.RESET_AT_BYTE,
    FaultKind.TRUNCATED,
    FaultKind.HTML_BEFORE,
    FaultKind.HTML_AFTER,
    FaultKind.DELAY,
    FaultKind.RATE_LIMITED,
)
DRAWN_FOR_CANCELS = (FaultKind.CANCEL_LOST, FaultKind.CANCEL_LATE)
DRAWN_FOR_ORDERS = (FaultKind.UNKNOWN_STATUS, FaultKind.HIDDEN, FaultKind.LATE, FaultKind.REJECTED)


# Fates of an order whose sender does not learn what became of it.
SILENT = (
    *NOT_APPLIED,
    FaultKind.RESET_AFTER,
    FaultKind.RESET_AT_BYTE,
    FaultKind.TRUNCATED,
    FaultKind.HTML_AFTER,
    FaultKind.HANG_AFTER,
    FaultKind.RATE_LIMITED,
    FaultKind.UNKNOWN_STATUS,
    FaultKind.LATE,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fate with its measures: bytes, wall seconds, HTTP status, look-ups, market minutes."""

    kind: FaultKind
    byte: int = 20
    seconds: float = 0.05
    status: int = 502
    look_ups: int = 2
    minutes: int = 2


@dataclass(slots=True)
class ScriptedFault:
    """`fault` befalls the `nth` to `nth + times - 1`-th request of `method` whose path matches `path` (`*`: anything), counted
    from when it was scripted. A stream's messages have method STREAM and path `trade_updates` or `market_data`."""

    method: str
    path: str
    fault: Fault
    nth: int = 1
    times: int = 1
    seen: int = 0

    def meets(self, method: str, path: str) -> bool:
        """Count a request, and say whether it is one of those."""
        if method != self.method or not fnmatch.fnmatchcase(path, self.path):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass(slots=True)
class FaultSource:
    """Script first, then the seed. `rates`: chance of each kind in [0, 1], keyed by (seed, method, what is asked, instant), so
    the same request in the same instant meets the same fate. Without `reads` only orders, cancels and look-ups have one: in
    lock-step an instant is repeated until its reads are answered, and what is drawn would be drawn for ever."""

    seed: int = 0
    rates: Mapping[FaultKind, float] = field(default_factory=dict)
    reads: bool = True
    script: list[ScriptedFault] = field(default_factory=list)

    def scripted(self, method: str, path: str) -> Fault | None:
        """The fault that the script has for this request or message; each entry counts it."""
        met = [entry.fault for entry in self.script if entry.meets(method, path)]
        return met[0] if met else None

    def of_message(self, stream: str, name: str, at: str) -> Fault | None:
        """The fault of a stream's message, for every connection."""
        return (self.scripted(STREAM, stream) if self.script else None) or self.drawn(STREAM, stream, name, at)

    def drawn(self, method: str, path: str, name: str, at: str) -> Fault | None:
        """The fault that the seed has for this request or message."""
        kinds: tuple[FaultKind, ...] = DRAWN
        if method == "GET" and not self.reads and not path.startswith(OF_ONE_ORDER):
            return None
        if (method, path) == ("POST", "/v2/orders"):
            kinds += DRAWN_FOR_ORDERS
        elif method == "DELETE" and path.startswith("/v2/orders/"):
            kinds += DRAWN_FOR_CANCELS
        elif method == STREAM:
            kinds = OF_STREAMS
        draw = uniform(self.seed, "alpaca_fault", method, path, name, at)
        for kind in kinds:
            draw -= self.rates.get(kind, 0.0)
            if draw < 0:
                return Fault(kind, byte=int(uniform(self.seed, "byte", name, at) * ANSWER_BYTES))
        return None


def faults_from_json(entries: Sequence[Mapping[str, Any]]) -> list[ScriptedFault]:
    """A script as JSON: objects with `method`, `path` and `kind`, and optionally the other fields of ScriptedFault and Fault."""
    script = []
    for entry in entries:
        try:
            rest = {name: value for name, value in entry.items() if name not in ("method", "path", "kind", "nth", "times")}
            fault = Fault(FaultKind(entry["kind"]), **rest)
            script.append(
                ScriptedFault(entry["method"], entry["path"], fault, int(entry.get("nth", 1)), int(entry.get("times", 1)))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"scripted fault {dict(entry)}: {error!r}") from None
    return script


def _client_order_id(body: bytes) -> str:
    try:
        return str(json.loads(body).get("client_order_id"))
    except (ValueError, AttributeError):
        return ""


class ReachableTransport(H11Protocol):
    """Puts the connection's transport into the state of each request: faults are made of bytes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn itself has it
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


@dataclass(slots=True)
class _Answer:
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def take(self, message: Message) -> None:
        """As the ASGI `send` of the application."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")

    def with_body(self, body: bytes) -> "_Answer":
        kept = [(name, value) for name, value in self.headers if name.lower() != b"content-length"]
        return _Answer(self.status, [*kept, (b"content-length", str(len(body)).encode())], body)

    def raw(self) -> bytes:
        """The bytes on the wire."""
        lines = [f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}".encode()]
        return b"\r\n".join([*lines, *(name + b": " + value for name, value in self.headers), b"", self.body])

    async def give(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class FaultyConnection:
    """ASGI: the application behind a network and a gateway that fail. /control is never touched.

    In lock-step a look-up shares the fate of an order that came in its instant, and tells the truth of an id that never came:
    whether a process that died in between looks or sends must decide nothing.
    """

    def __init__(self, app: ASGIApp, source: FaultSource, desk: Desk) -> None:
        self._app = app
        self._source = source
        self._desk = desk
        self._came: dict[str, tuple[str, Fault | None]] = {}  # client_order_id: the instant of its last coming, and its fate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/control"):
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        fault = self._fault_of(scope, body)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        if fault is None:
            scope["state"]["fault"] = None
            await self._app(scope, again, send)
            return
        await self._fail(fault, scope, again, receive, send)

    def _fault_of(self, scope: Scope, body: bytes) -> Fault | None:
        method, path, source = scope["method"], scope["path"], self._source
        fault = source.scripted(method, path) if source.script else None
        if fault is not None or not source.rates:
            return fault
        now, name = to_text(self._desk.now), scope["query_string"].decode()
        if method == "POST":
            name = _client_order_id(body)
            fault = source.drawn(method, path, name, now)
            self._came[name] = (now, fault)
            return fault
        if path == LOOK_UP and not source.reads:
            looked_for = parse_qs(name).get("client_order_id", [""])[0]
            came_at, fate = self._came.get(looked_for, (now, None))
            if came_at == now:
                return Fault(FaultKind.RESET_BEFORE) if fate is not None and fate.kind in SILENT else None
        return source.drawn(method, path, name, now)

    async def _fail(self, fault: Fault, scope: Scope, again: Receive, receive: Receive, send: Send) -> None:
        kind, answer = fault.kind, _Answer()
        if kind is FaultKind.RATE_LIMITED:
            await rate_limited(STORM_LIMIT, int(self._desk.now.timestamp()) + 60).give(send)
            return
        if kind is FaultKind.CANCEL_LOST:
            await _Answer(204).give(send)
            return
        if kind not in NOT_APPLIED:
            scope["state"]["fault"] = fault
            await self._app(scope, again, answer.take)
        if kind in (FaultKind.RESET_BEFORE, FaultKind.RESET_AFTER, FaultKind.LATE, FaultKind.RESET_AT_BYTE):
            await reset(scope, receive, answer.raw()[: fault.byte] if kind is FaultKind.RESET_AT_BYTE else b"")
            return
        if kind in (FaultKind.HANG_BEFORE, FaultKind.HANG_AFTER):
            await _gone(receive)
            return
        if kind in (FaultKind.HTML_BEFORE, FaultKind.HTML_AFTER):
            answer = html(fault.status)
        elif kind is FaultKind.TRUNCATED:
            answer = answer.with_body(answer.body[: len(answer.body) // 2])
        elif kind is FaultKind.UNKNOWN_STATUS and answer.status == 200:
            answer = answer.with_body(json.dumps({**json.loads(answer.body), "status": UNHEARD_OF}).encode())
        elif kind is FaultKind.DELAY:
            await asyncio.sleep(fault.seconds)
        await answer.give(send)


def html(status: int) -> _Answer:
    """What a gateway says instead of the API."""
    phrase = http.HTTPStatus(status).phrase
    page = f"<html><head><title>{status} {phrase}</title></head><body><h1>{phrase}</h1></body></html>".encode()
    return _Answer(status, [(b"content-type", b"text/html")]).with_body(page)


def rate_limited(limit: int, reset_at: int) -> _Answer:
    """429 with Alpaca's headers; `reset_at` in epoch seconds."""
    body = json.dumps({"code": 42910000, "message": "rate limit exceeded."}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"x-ratelimit-limit", str(limit).encode()),
        (b"x-ratelimit-remaining", b"0"),
        (b"x-ratelimit-reset", str(reset_at).encode()),
    ]
    return _Answer(429, headers).with_body(body)


async def reset(scope: Scope, receive: Receive, sent: bytes = b"") -> None:
    """So many bytes, then a TCP reset."""
    transport = scope["state"]["transport"]
    if sent:
        transport.write(sent)
    break_off(transport)
    await _gone(receive)


def break_off(transport: Any) -> None:
    """End the connection by a reset, not by an orderly end; one that the client has ended is over."""
    if transport.is_closing():
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    transport.abort()


async def _gone(receive: Receive) -> None:
    """Wait until the client's connection is no more."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            return bytes(body)
