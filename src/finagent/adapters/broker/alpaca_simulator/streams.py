"""The websockets: trade updates as JSON in binary frames, market data and news as JSON or msgpack."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgpack
from starlette.websockets import WebSocket, WebSocketDisconnect

from finagent.adapters.broker.alpaca_simulator.desk import Desk, present
from finagent.adapters.broker.alpaca_simulator.faults import FaultKind, FaultSource, break_off
from finagent.adapters.broker.alpaca_simulator.wire import amount, execution_uuid, order_json, time_text, uuid_of
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.changes import Changes
from finagent.adapters.broker.simulated.orders import Execution, LedgerOrder
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.orders import Leg, OrderState

BACKLOG_MAX = 10_000  # messages that a slow client may be behind
TRADE_UPDATES, MARKET_DATA = "trade_updates", "market_data"
NORMAL = 1000
EVENTS = {
    OrderState.CANCELLED: "canceled",
    OrderState.EXPIRED: "expired",
    OrderState.REJECTED: "rejected",
}
CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds", "news")
CHANNEL_OF = {"t": "trades", "q": "quotes", "b": "bars", "u": "updatedBars", "d": "dailyBars", "s": "statuses", "n": "news"}


@dataclass(slots=True, eq=False)
class Listener:
    """A connection that is told things, in order."""

    backlog: asyncio.Queue[Any] = field(default_factory=lambda: asyncio.Queue(maxsize=BACKLOG_MAX))
    held: list[Any] = field(default_factory=list)
    mute: bool = False
    broken: bool = False

    def tell(self, message: Any, fault: FaultKind | None, empty: Any) -> None:
        """Queue a message as its fault has it; `empty` is the frame that carries null."""
        if self.mute or self.broken or self.backlog.full():
            return
        match fault:
            case FaultKind.MISSING:
                return
            case FaultKind.REORDERED:
                self.held.append(message)
                return
            case FaultKind.MUTE:
                self.mute = True
                return
            case FaultKind.DROP:
                self.broken = True
                self.backlog.put_nowait(None)
                return
            case FaultKind.DUPLICATE:
                told = [message, message]
            case FaultKind.NULL_DATA:
                told = [empty, message]
            case _:
                told = [message]
        for each in [*told, *self.held]:
            if not self.backlog.full():
                self.backlog.put_nowait(each)
        self.held.clear()


class TradeUpdates:
    """/stream: what becomes of the account's orders."""

    def __init__(self, desk: Desk, source: FaultSource, keys: tuple[str, str]) -> None:
        self._desk = desk
        self._source = source
        self._keys = keys
        self._listeners: set[Listener] = set()
        self._last: dict[str, LedgerOrder] = {}
        desk.watchers.append(self._updates)
        desk.listeners.append(self._tell)

    @property
    def listeners(self) -> int:
        """Connections that listen to trade updates."""
        return len(self._listeners)

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, to its end: authenticate, listen, then updates."""
        await websocket.accept()
        listener = Listener()
        try:
            if await self._authenticated(websocket):
                await _converse(websocket, listener, lambda: self._heard(websocket, listener), websocket.send_bytes, _json_bytes)
        finally:
            self._listeners.discard(listener)

    async def _authenticated(self, websocket: WebSocket) -> bool:
        message = await _received(websocket)
        data = message.get("data") or {}
        key, secret = data.get("key_id", message.get("key")), data.get("secret_key", message.get("secret"))
        same = message.get("action") in ("authenticate", "auth") and (key, secret) == self._keys
        status = "authorized" if same else "unauthorized"
        answer = {"stream": "authorization", "data": {"status": status, "action": "authenticate"}}
        await websocket.send_bytes(_json_bytes(answer))
        if not same:
            await websocket.close(NORMAL)
        return same

    async def _heard(self, websocket: WebSocket, listener: Listener) -> None:
        """What the client asks for."""
        while True:
            message = await _received(websocket)
            if message.get("action") == "listen":
                streams = [name for name in (message.get("data") or {}).get("streams", []) if name == TRADE_UPDATES]
                listener.backlog.put_nowait({"stream": "listening", "data": {"streams": streams}})
                if streams:
                    self._listeners.add(listener)
                else:
                    self._listeners.discard(listener)

    def _tell(self, updates: list[Json]) -> None:
        for update in updates if self._listeners else ():
            fault = self._source.of_message(TRADE_UPDATES, update["execution_id"], update["timestamp"])
            for listener in self._listeners:
                message = {"stream": TRADE_UPDATES, "data": update}
                listener.tell(message, fault.kind if fault else None, {"stream": TRADE_UPDATES, "data": None})

    def _updates(self, broker: SimulatedBroker, changes: Changes) -> list[Json]:
        """The events of one commit, in the order in which they happened; on the broker's thread."""
        executions = {(each.broker_order_id, each.market_time): each for each in changes.executions}
        updates = []
        replaced = {each.replaced_id for each in changes.replaced}
        for order in changes.orders:
            before = self._last.get(order.broker_order_id)
            execution = executions.pop((order.broker_order_id, order.changed_at), None)
            event = "replaced" if order.broker_order_id in replaced else _event(order, before, execution)
            if order.status.live:
                self._last[order.broker_order_id] = order
            else:
                self._last.pop(order.broker_order_id, None)
            if event:
                updates.append(_update(broker, order, event, execution))
        return updates


def _event(order: LedgerOrder, before: LedgerOrder | None, execution: Execution | None) -> str | None:
    """The name of what happened to the order; None: nothing that is told."""
    if execution is not None:
        return "fill" if order.status is OrderState.FILLED else "partial_fill"
    if order.status is OrderState.ACCEPTED and (before is None or before.status is OrderState.HELD):
        return None if order.leg is Leg.STOP else "new"
    return EVENTS.get(order.status)


def _update(broker: SimulatedBroker, order: LedgerOrder, event: str, execution: Execution | None) -> Json:
    statement = broker.statement
    around = statement.surroundings(present(broker))
    first = order.broker_order_id == order.group_id
    legs = statement.group(order.group_id)[1:] if first else None
    reported = order_json(statement.listing(order), legs, around)
    name = (
        execution_uuid(execution) if execution else uuid_of("update", order.broker_order_id, event, time_text(order.changed_at))
    )
    update = {"event": event, "execution_id": name, "order": reported, "timestamp": time_text(order.changed_at)}
    if execution is not None:
        update |= {
            "price": amount(execution.price),
            "qty": str(execution.quantity),
            "position_qty": str(around.positions.get(order.symbol, 0)),
        }
    return update


class MarketStreams:
    """/v2/{feed} and /v1beta1/news: one connection of each at a time, as the free plan has it."""

    def __init__(self, source: FaultSource, keys: tuple[str, str]) -> None:
        self._source = source
        self._keys = keys
        self._listeners: dict[str, Listener] = {}
        self._wanted: dict[Listener, dict[str, set[str]]] = {}

    @property
    def listeners(self) -> int:
        """Connections that subscribed to something."""
        return sum(any(channels.values()) for channels in self._wanted.values())

    def wanted(self) -> set[str]:
        """The symbols that somebody listens to; `*` for all."""
        return {symbol for channels in self._wanted.values() for symbols in channels.values() for symbol in symbols}

    def tell(self, messages: Iterable[Json]) -> None:
        """Hand messages (`T`, `S` or `symbols`) to whoever subscribed to them."""
        for message in messages:
            symbols = {message["S"]} if "S" in message else set(message.get("symbols", ()))
            name, at = f"{message['T']} {sorted(symbols)}", message.get("t", message.get("created_at"))
            fault = self._source.of_message(MARKET_DATA, name, str(at)) if self._wanted else None
            for listener, channels in self._wanted.items():
                wanted = channels.get(CHANNEL_OF[message["T"]], set())
                if wanted & (symbols | {"*"}):
                    listener.tell([message], fault.kind if fault else None, None)

    async def serve(self, websocket: WebSocket, feed: str) -> None:
        """One connection, to its end."""
        packed = websocket.headers.get("content-type") == "application/msgpack"
        await websocket.accept()
        send = websocket.send_bytes if packed else _send_text(websocket)
        listener = Listener()
        try:
            await send(_encoded([{"T": "success", "msg": "connected"}], packed))
            if await self._admitted(websocket, feed, listener, lambda answer: send(_encoded(answer, packed))):
                await _converse(
                    websocket, listener, lambda: self._heard(websocket, listener), send, lambda batch: _encoded(batch, packed)
                )
        finally:
            if self._listeners.get(feed) is listener:
                del self._listeners[feed]
            self._wanted.pop(listener, None)

    async def _admitted(
        self, websocket: WebSocket, feed: str, listener: Listener, answer: Callable[[list[Json]], Awaitable[None]]
    ) -> bool:
        message = await _received(websocket)
        error = None
        if message.get("action") != "auth":
            error = {"T": "error", "code": 401, "msg": "not authenticated"}
        elif (message.get("key"), message.get("secret")) != self._keys:
            error = {"T": "error", "code": 402, "msg": "auth failed"}
        elif feed in self._listeners:
            error = {"T": "error", "code": 406, "msg": "connection limit exceeded"}
        await answer([error or {"T": "success", "msg": "authenticated"}])
        if error is None:
            self._listeners[feed] = listener
            self._wanted[listener] = {channel: set() for channel in CHANNELS}
            return True
        await websocket.close(NORMAL)
        return False

    async def _heard(self, websocket: WebSocket, listener: Listener) -> None:
        channels = self._wanted[listener]
        while True:
            message = await _received(websocket)
            action = message.get("action")
            if action not in ("subscribe", "unsubscribe"):
                code, text = (403, "already authenticated") if action == "auth" else (400, "invalid syntax")
                listener.backlog.put_nowait([{"T": "error", "code": code, "msg": text}])
                continue
            for channel in CHANNELS:
                named = set(message.get(channel) or ())
                channels[channel] = channels[channel] | named if action == "subscribe" else channels[channel] - named
            told = {channel: sorted(symbols) for channel, symbols in channels.items()}
            listener.backlog.put_nowait([{"T": "subscription", **told}])


async def _converse(
    websocket: WebSocket,
    listener: Listener,
    heard: Callable[[], Awaitable[None]],
    send: Callable[[Any], Awaitable[None]],
    encoded: Callable[[Any], Any],
) -> None:
    """Hear and tell at once, until one of both ends."""

    async def hear() -> None:
        with suppress(WebSocketDisconnect):
            await heard()
        raise _Over

    async def tell() -> None:
        while (message := await listener.backlog.get()) is not None:
            await send(encoded(message))
        break_off(websocket.scope["state"]["transport"])
        raise _Over

    with suppress(WebSocketDisconnect, RuntimeError):  # the client went while it was told something
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(hear())
                group.create_task(tell())
        except* _Over:
            pass


class _Over(Exception):
    """A conversation has ended."""


async def _received(websocket: WebSocket) -> Json:
    """The next message, text or bytes, JSON or msgpack; an empty one for what cannot be read."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", NORMAL))
    text, data = message.get("text"), message.get("bytes")
    try:
        read = json.loads(text) if text is not None else _unpacked(data or b"")
    except ValueError:
        read = {}
    return read if isinstance(read, dict) else {}


def _unpacked(data: bytes) -> Any:
    return json.loads(data) if data[:1] == b"{" else msgpack.unpackb(data)


def _json_bytes(message: Any) -> bytes:
    return json.dumps(message).encode()


def _encoded(message: Any, packed: bool) -> Any:
    """A batch: times are instants in msgpack and text in JSON."""
    if packed:
        return msgpack.packb(message, datetime=True)
    return json.dumps(message, default=_as_text)


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    raise TypeError(f"{value!r} has no JSON")


def _send_text(websocket: WebSocket) -> Callable[[Any], Awaitable[None]]:
    async def send(message: Any) -> None:
        await websocket.send_text(message)

    return send
