"""NewsPort at the simulated Alpaca, through the SDK: every article of the span once, and no answer is not no news."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.contract.test_alpaca_market import Exchange, exchange
from tests.unit.adapters.broker.alpaca.scripted_alpaca import REST, Answer, scripted_alpaca

from finagent.adapters.broker.alpaca.policy import DATA_URL, Keys
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.market_data.alpaca.market import data_client
from finagent.adapters.news.alpaca import AlpacaNews
from finagent.domain.errors import Transient


@asynccontextmanager
async def news_of(url: str) -> AsyncIterator[AlpacaNews]:
    policy = replace(REST, url=url, official_url=DATA_URL, read_attempts=1)
    rest = AlpacaRest(policy, Keys("PKSIMULATOR", "simulator"), time.monotonic, client=data_client, target="news")
    try:
        yield AlpacaNews(rest)
    finally:
        await rest.close()


async def asked(there: Exchange, news: AlpacaNews, minutes: float) -> list[str]:
    opened, symbols = there.session.opens_at, there.source.symbols
    found = await news.articles(symbols, opened - timedelta(days=1), opened + timedelta(minutes=minutes))
    return [f"{(article.at - opened).total_seconds() / 60:g} {article.symbols[0]} {article.headline}" for article in found]


async def test_gaps_are_news_once_their_first_bar_is_complete(tmp_path: Path) -> None:
    async with exchange(tmp_path) as there, news_of(there.url) as news:
        assert await asked(there, news, 30) == []
        await there.to(5)
        facts, bars = await there.source.prior_facts(there.session, ()), await there.source.session_bars(there.session)
        gaps = bars.open[0] / facts.previous_close - 1
        named = {symbol for symbol, gap in zip(there.source.symbols, gaps, strict=True) if abs(gap) >= 0.02}
        found = await asked(there, news, 30)

        assert {line.split()[1] for line in found} == named != set()
        assert all(line.startswith("1 ") and "previous close" in line for line in found)
        assert await asked(there, news, 0.5) == [], "what was published later is not told"


async def test_a_snapshot_has_the_last_trade_and_quote(tmp_path: Path) -> None:
    async with exchange(tmp_path) as there:
        assert await there.market.snapshots() == {}
        await there.to(5)
        bars, found = await there.truth(5), await there.market.snapshots()

        for column, symbol in enumerate(there.source.symbols):
            told = found[symbol]
            assert told.price == bars.close[4, column]
            assert told.quote is not None
            assert told.quote.bid <= told.price <= told.quote.ask


ARTICLE = {
    "id": 1,
    "headline": "IBM opens",
    "created_at": "2026-11-24T14:00:00Z",
    "source": "wire",
    "symbols": ["IBM"],
    "url": None,
}


def page(*articles: Any, token: str | None = None) -> Any:
    return {"news": list(articles), "next_page_token": token}


async def test_pages_are_read_to_the_end_and_an_article_counts_once() -> None:
    async with scripted_alpaca() as desk, news_of(desk.script.url) as news:
        second = {**ARTICLE, "id": 2, "created_at": "2026-11-24T13:00:00Z"}
        desk.script.says("GET /v1beta1/news", page(ARTICLE, token="more"), page(ARTICLE, second))
        found = await news.articles(("IBM",), desk.time - timedelta(days=1), desk.time)

        assert [(article.article_id, article.url) for article in found] == [("2", ""), ("1", "")]
        assert [request.query.get("page_token") for request in desk.script.requests("GET /v1beta1/news")] == [None, "more"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(502, "<html>"),
        page({**ARTICLE, "id": True}),
        page({**ARTICLE, "created_at": "yesterday"}),
        page({**ARTICLE, "symbols": None}),
        {"news": None},
        [],
    ],
)
async def test_an_answer_that_cannot_be_read_is_not_no_news(answer: Any) -> None:
    async with scripted_alpaca() as desk, news_of(desk.script.url) as news:
        desk.script.says("GET /v1beta1/news", answer)
        with pytest.raises(Transient):
            await news.articles(("IBM",), desk.time - timedelta(days=1), desk.time)
