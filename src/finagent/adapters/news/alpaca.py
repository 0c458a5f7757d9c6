"""NewsPort at Alpaca: its archive of articles over REST."""

from datetime import datetime
from typing import Any

from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.broker.alpaca.wire import instant, rows, text
from finagent.adapters.market_data.alpaca.pages import AlpacaPages, next_token
from finagent.domain.ports.news import Article, legible
from finagent.domain.time import to_text

ARTICLES_PER_PAGE = 50  # the most that Alpaca gives


class AlpacaNews:
    """Articles as Alpaca keeps them; the body of an article is not asked for."""

    def __init__(self, rest: AlpacaRest) -> None:
        self._rest, self._pages = rest, AlpacaPages(rest)

    async def close(self) -> None:
        """Give the connections back."""
        await self._rest.close()

    async def articles(self, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        query = {
            "symbols": ",".join(symbols),
            "start": to_text(since),
            "end": to_text(until),
            "limit": ARTICLES_PER_PAGE,
            "sort": "asc",
        }
        found: list[Article] = await self._pages.all("/news", query, page_of_articles, api_version="v1beta1")
        within = {article.article_id: article for article in found if since <= article.at and article.known_at <= until}
        return tuple(sorted(within.values(), key=lambda article: (article.at, article.article_id)))


def page_of_articles(body: Any) -> tuple[list[Article], str | None]:
    """The articles of a page and the token of the next one. Raises Unreadable for what is none."""
    told = body.get("news") if isinstance(body, dict) else None
    return [_article(row) for row in rows(told)], next_token(body)


def _article(row: Any) -> Article:
    number = row.get("id") if isinstance(row, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise Unreadable(f"an article of id {number!r}")
    symbols, published = rows(row.get("symbols")), instant(text(row, "created_at"))
    return Article(
        str(number),
        published,
        max(published, instant(text(row, "updated_at"))) if row.get("updated_at") else published,
        legible(text(row, "headline")),
        legible(text(row, "source")),
        tuple(str(symbol) for symbol in symbols),
        legible(str(row.get("url") or "")),
    )
