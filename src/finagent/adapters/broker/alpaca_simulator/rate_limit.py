"""So many requests a minute and key, told in headers, refused with 429."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finagent.adapters.broker.alpaca_simulator.faults import rate_limited

WINDOW_SECONDS = 60


class RateLimit:
    """ASGI: fixed windows of a minute, by the clock that `seconds` reads (wall or market). Trading paths only, as at Alpaca."""

    def __init__(self, app: ASGIApp, limit: int, seconds: Callable[[], float]) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds
        self._window, self._used = -1, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v2") or scope["path"].startswith("/v2/stocks"):
            await self._app(scope, receive, send)
            return
        window = int(self._seconds() // WINDOW_SECONDS)
        if window != self._window:
            self._window, self._used = window, 0
        reset_at = (window + 1) * WINDOW_SECONDS
        if self._used >= self._limit:
            await rate_limited(self._limit, reset_at).give(send)
            return
        self._used += 1
        told = [
            (b"x-ratelimit-limit", str(self._limit).encode()),
            (b"x-ratelimit-remaining", str(self._limit - self._used).encode()),
            (b"x-ratelimit-reset", str(reset_at).encode()),
        ]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        await self._app(scope, receive, with_headers)
