"""The feed: bars go in once and in order, prices have an age, an unknown price is no price."""

import asyncio
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.unit.services.conftest import features_of

from finagent.adapters.news.lexicon import LexiconScorer
from finagent.domain.bars import BarQuality, DailyHistory, Quotes, no_history, no_quotes
from finagent.domain.errors import InvariantViolated, Transient
from finagent.domain.ports.news import Article
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.market_data.feed import Feed
from finagent.services.market_data.news import NewsFeatures


@pytest.fixture
def feed(desk: Any, market: Any) -> Feed:
    return Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))


async def test_before_a_session_is_open_nothing_is_known(desk: Any, feed: Feed) -> None:
    assert feed.advance() is None
    assert feed.last_price("IBM") == (None, float("inf"))
    assert feed.mark("IBM") is None
    assert feed.exclusions() == {}
    with pytest.raises(InvariantViolated, match="no session"):
        _ = feed.session
    with pytest.raises(InvariantViolated, match="no session"):
        feed.scan()


async def test_all_bars_complete_by_now_are_taken_in_once(desk: Any, market: Any, feed: Feed) -> None:
    market.bars.close[:, 2] = np.arange(390) / 100 + 101
    market.bars.high[:, 2] = market.bars.close[:, 2]
    await feed.open_session(desk.session, (5,))
    block = feed.advance()
    again = feed.advance()
    price, age = feed.last_price("IBM")

    assert block is not None
    assert block.at == desk.minute(5)
    assert again is None
    assert (price, age) == (Decimal("101.04"), 0.0)


async def test_a_price_ages_while_no_bar_comes(desk: Any, market: Any, feed: Feed) -> None:
    market.bars.quality[5:, 2] = BarQuality.MISSING
    await feed.open_session(desk.session, (5,))
    feed.advance()
    desk.clock.set(desk.minute(8.5))
    feed.advance()

    assert feed.last_price("IBM") == (Decimal("100.0"), 210.0)
    assert feed.last_price("AAPL") == (Decimal("100.0"), 30.0)


async def test_a_symbol_without_a_bar_or_a_name_has_no_price(desk: Any, market: Any, feed: Feed) -> None:
    market.bars.quality[:, 2] = BarQuality.MISSING
    market.previous_close[1] = np.nan
    market.bars.quality[:, 1] = BarQuality.MISSING
    await feed.open_session(desk.session, (5,))
    feed.advance()

    assert feed.last_price("IBM") == (None, float("inf"))
    assert feed.mark("IBM") == Decimal("100.0")  # its previous close
    assert feed.mark("GOOG") is None
    assert feed.mark("AAPL") == Decimal("100.0")
    assert feed.last_price("XOM") == (None, float("inf"))
    assert feed.mark("XOM") is None


async def test_opening_the_same_session_again_forgets_nothing(desk: Any, feed: Feed) -> None:
    await feed.open_session(desk.session, (5,))
    feed.advance()
    await feed.open_session(desk.session, (5,))

    assert feed.last_price("IBM")[0] == Decimal("100.0")


async def test_another_session_starts_with_nothing_known(desk: Any, feed: Feed) -> None:
    await feed.open_session(desk.session, (5,))
    feed.advance()
    desk.clock.set(desk.next_session.opens_at)
    await feed.open_session(desk.next_session, (5,))

    assert feed.session == desk.next_session
    assert feed.last_price("IBM")[0] is None


async def test_a_source_that_fails_leaves_the_session_as_it_was(desk: Any, market: Any, feed: Feed) -> None:
    await feed.open_session(desk.session, (5,))
    feed.advance()
    market.failures = [Transient("time-out")]
    with pytest.raises(Transient):
        await feed.open_session(desk.next_session, (5,))

    assert feed.session == desk.session
    assert feed.scan().minute == 5


async def test_without_a_history_of_days_a_candidate_is_known_by_its_session(desk: Any, market: Any) -> None:
    """And the next scan asks again."""
    failures = [Transient("no answer")]

    async def daily_history(session: Session, first: date) -> DailyHistory:
        if failures:
            raise failures.pop()
        return no_history(market.symbols)

    market.daily_history = daily_history
    market.gap("IBM", 0.04)
    feed = Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))
    await feed.open_session(desk.session, (5, 15, 30))
    feed.advance()
    (row,) = await feed.candidate_rows(feed.scan())
    assert row[CANDIDATE.columns["gap"]] == pytest.approx(0.04)
    assert np.isnan(row[CANDIDATE.columns["rsi_14"]])
    assert failures == []
    assert np.isnan(await feed.daily_features()).all()


@dataclass
class Beside:
    """Quotes and news as a test has them; the first question of each is not answered."""

    articles_: tuple[Article, ...]
    failures: int = 0

    async def quotes(self, at: datetime) -> Quotes:
        self._fail()
        quotes = no_quotes(4)
        quotes.bid[2], quotes.ask[2], quotes.age_seconds[2] = 103.9, 104.1, 5.0
        return quotes

    async def articles(self, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        self._fail()
        assert (symbols, until - since) == (("IBM",), timedelta(hours=24))
        return self.articles_

    def _fail(self) -> None:
        self.failures += 1
        if self.failures <= 2:
            raise Transient("no answer")


async def test_quotes_and_news_stand_beside_the_bars_and_nothing_waits_for_them(desk: Any, market: Any) -> None:
    market.gap("IBM", 0.04)
    at = desk.clock.now() - timedelta(hours=2)
    beside = Beside((Article("1", at, at, "IBM beats estimates", "wire", ("IBM",), ""),))
    rules, days = ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market)
    feed = Feed(market, desk.clock, rules, days, NewsFeatures(beside, LexiconScorer(), asyncio.to_thread), beside)
    await feed.open_session(desk.session, (5, 15, 30))
    feed.advance()
    (unanswered,), (answered,) = [await feed.candidate_rows(feed.scan()) for _ in range(2)]
    names = ("spread_bps", "news_count_24h", "news_age", "news_sentiment_24h")
    first, second = [[row[CANDIDATE.columns[name]] for name in names] for row in (unanswered, answered)]
    assert np.isnan(first).all()
    assert second[:3] == pytest.approx([0.2 / 104 * 1e4, 1.0, 2.0])
    assert second[3] > 0
