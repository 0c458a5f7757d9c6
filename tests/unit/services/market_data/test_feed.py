"""The feed: bars go in once and in order, prices have an age, an unknown price is no price."""

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from finagent.domain.bars import BarQuality, DailyHistory, no_history
from finagent.domain.errors import InvariantViolated, Transient
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.market_data.daily_features import DailyFeatures
from finagent.services.market_data.feed import Feed


@pytest.fixture
def feed(desk: Any, market: Any) -> Feed:
    return Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), DailyFeatures(market, 5, asyncio.to_thread))


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
    feed = Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), DailyFeatures(market, 5, asyncio.to_thread))
    await feed.open_session(desk.session, (5, 15, 30))
    feed.advance()
    (row,) = await feed.candidate_rows(feed.scan())
    assert row[CANDIDATE.columns["gap"]] == pytest.approx(0.04)
    assert np.isnan(row[CANDIDATE.columns["rsi_14"]])
    assert failures == []
    assert np.isnan(await feed.daily_features()).all()
