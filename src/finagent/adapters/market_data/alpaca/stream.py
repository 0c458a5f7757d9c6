"""The SDK's data stream, with its hazards closed: messages are read by us, an error of one loses no other, every connection is
announced, and a socket that is connected and mute can be broken."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from alpaca.data.enums import DataFeed
from alpaca.data.live.stock import StockDataStream

from finagent.adapters.broker.alpaca.cancelling import cancellable
from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.adapters.broker.alpaca.policy import Keys

log = structlog.get_logger(__name__)
START_SECONDS = 15  # s until a connection that says nothing is given up; the SDK would wait for ever
BAR_TYPES = ("b", "u")
SOCKET = {"ping_interval": 10, "ping_timeout": 30, "max_queue": 1024, "close_timeout": 1}  # s; the SDK waits 180 for a pong
CHANNELS = ("bars", "updatedBars", "quotes", "statuses")


class MarketStream(StockDataStream):
    """Hands every message to `heard` and says `connected` after each connection; `trouble` is what the server last objected to.

    The SDK connects again by itself, 1 to 30 s later with jitter. `heard` may raise Unreadable: the message is counted and passed
    over.
    """

    def __init__(
        self,
        keys: Keys,
        url: str,
        feed: str,
        symbols: tuple[str, ...],
        heard: Callable[[dict[str, Any]], None],
        connected: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(
            keys.key_id,
            keys.secret_key,
            raw_data=True,
            feed=DataFeed(feed),
            websocket_params=SOCKET,
            url_override=f"{url}/v2/{feed}",
        )
        self._heard, self._connected = heard, connected
        self.trouble = ""
        self.unreadable = 0

        async def dispatched(_message: Any) -> None:
            """The SDK subscribes to what has a handler; `_dispatch` below is what is called."""

        for channel in CHANNELS:
            self._handlers[channel] = dict.fromkeys(symbols, dispatched)

    async def run_forever(self) -> None:
        """Until cancelled: the SDK's own `run` makes a loop of its own. The socket is given back: Alpaca allows one."""
        try:
            await cancellable(self._run_forever())
        finally:
            await self.break_off()

    async def break_off(self) -> None:
        """Close the socket, whatever it does: the SDK opens another."""
        if self._ws is not None:
            await self._ws.close()

    async def _start_ws(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await super()._start_ws()
        except (ValueError, TimeoutError) as error:
            self.trouble = str(error) or f"no answer within {START_SECONDS} s"
            raise
        self.trouble = ""
        await self._connected()

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        kind = msg.get("T")
        if kind == "error":
            self.trouble = f"{msg.get('code')} {msg.get('msg')}"
            log.error("market_stream_refused", code=msg.get("code"), message=msg.get("msg"))
            return
        try:
            self._heard(msg)
        except Unreadable as error:
            self.unreadable += 1
            log.warning("market_message_unreadable", kind=str(kind), symbol=str(msg.get("S")), error=str(error))
