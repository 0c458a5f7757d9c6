"""The SDK's stream of trade updates: what it tells is received, and a sign to look. What happened is asked for over REST, which
is the truth: a message that is lost, told twice, late, empty or unreadable costs time, never a fill."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import structlog
from alpaca.trading.stream import TradingStream

from finagent.adapters.broker.alpaca.cancelling import cancellable
from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.adapters.broker.alpaca.policy import Keys
from finagent.adapters.broker.alpaca.wire import order_report, text
from finagent.domain.ports.order_execution import TradeUpdate

log = structlog.get_logger(__name__)
SOCKET = {"ping_interval": 10, "ping_timeout": 30, "max_queue": 1024, "close_timeout": 1}  # s; the SDK waits 180 for a pong
UPDATES = "trade_updates"
START_SECONDS = 15  # s until a connection that says nothing is given up; the SDK would wait for ever
TEXT_LENGTH_MAX = 4000  # of a message that cannot be read


class TradeUpdates(TradingStream):
    """Hands every update to `receive`, and calls `sign` after it and at every connection, since a stream tells nothing again. The
    SDK connects again by itself, up to 30 s later with jitter; `trouble` is what the last connection failed of."""

    def __init__(self, keys: Keys, url: str, receive: Callable[[TradeUpdate], Awaitable[None]], sign: Callable[[], None]) -> None:
        super().__init__(keys.key_id, keys.secret_key, raw_data=True, url_override=url, websocket_params=SOCKET)
        self._receive, self._sign = receive, sign
        self.trouble = ""

        async def dispatched(_message: Any) -> None:
            """The SDK listens where there is a handler; `_dispatch` below is what is called."""

        self.subscribe_trade_updates(dispatched)

    async def run_forever(self) -> None:
        """Until cancelled: the SDK's own `run` makes a loop of its own."""
        try:
            await cancellable(self._run_forever())  # type: ignore[no-untyped-call]  # the SDK has no types here
        finally:
            if self._ws is not None:
                await self._ws.close()

    async def _start_ws(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await super()._start_ws()  # type: ignore[no-untyped-call]  # the SDK has no types here
        except Exception as error:
            self.trouble = type(error).__name__ if not isinstance(error, ValueError) else str(error)
            log.warning("trade_updates_not_connected", trouble=self.trouble)
            raise
        self.trouble = ""
        self._sign()

    async def _dispatch(self, msg: Any) -> None:
        if not isinstance(msg, dict) or msg.get("stream") != UPDATES:
            return
        if msg.get("data") is not None:  # a frame without data tells nothing
            try:
                await self._receive(trade_update(msg["data"]))
            except Exception as error:
                log.exception("trade_update_not_received", error=f"{type(error).__name__}: {error}")
        self._sign()


def trade_update(data: Any) -> TradeUpdate:
    """One message of the stream; never raises for what is in it."""
    written = json.dumps(data, sort_keys=True, default=str)
    update_id = sha256(written.encode()).hexdigest()[:32]
    try:
        event, order = text(data, "event"), order_report(data.get("order"))
    except Unreadable as error:
        return TradeUpdate(update_id, text=f"{error}: {written}"[:TEXT_LENGTH_MAX])
    return TradeUpdate(update_id, event, order.broker_order_id, order.client_order_id, order.state, order.filled_quantity)
