"""Alpaca's answers in pages: every page, or no answer at all."""

from collections.abc import Callable
from typing import Any

from finagent.adapters.broker.alpaca.errors import Unanswered, Unreadable
from finagent.adapters.broker.alpaca.rest import AlpacaRest, Purpose
from finagent.adapters.broker.alpaca.threads import Request
from finagent.domain.errors import Transient

PAGES_MAX = 1000


class AlpacaPages:
    """Reads of one host. Each raises Transient without a usable answer."""

    def __init__(self, rest: AlpacaRest) -> None:
        self._rest = rest

    async def all(self, path: str, query: dict[str, Any], parse: Any, **options: str) -> list[Any]:
        """What `parse` makes of each page: its rows, and the token of the next one or None."""
        found: list[Any] = []
        token: str | None = None
        for _ in range(PAGES_MAX):
            page, token = await self.one(path, query | ({"page_token": token} if token else {}), parse, **options)
            found += page
            if token is None:
                return found
        raise Transient(f"market data: more than {PAGES_MAX} pages of {path}")

    async def one(self, path: str, query: dict[str, Any], parse: Callable[[Any], Any], **options: str) -> Any:
        """What `parse` makes of one answer."""
        answer = await self._rest.call(Purpose.READ, _parsed(path, query, options, parse))
        if isinstance(answer, Unreadable):
            raise Unanswered(f"market data: an answer that cannot be read: {answer}")
        return answer


def next_token(body: Any) -> str | None:
    """The token of the next page; None on the last."""
    token = body.get("next_page_token")
    if token is not None and not isinstance(token, str):
        raise Unreadable(f"next_page_token is {token!r}")
    return token or None


def _parsed(path: str, query: dict[str, Any], options: dict[str, str], parse: Callable[[Any], Any]) -> Request:
    """Asks, and reads the answer on the same thread: ten thousand bars would hold the loop up."""

    def ask(sdk: Any) -> Any:
        body = sdk.get(path, query, **options)
        try:
            return parse(body)
        except Unreadable as error:
            return error

    return ask
