"""The contract of MarketDataPort, for every source: a new source is one more entry in SOURCES."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bridge import MinuteBridge
from finagent.adapters.market_data.bridged_market import BridgedMarket, BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import DailyPanel, HistoryPolicy, KnownPanels
from finagent.adapters.market_data.sample import sample_market
from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.ports.market_data import MarketDataPort

POLICY = BridgedMarketPolicy(HistoryPolicy(mean_sessions=5, hole_sessions_max=2), cached_sessions_max=2)
FIRST, LAST = date(2008, 11, 20), date(2008, 12, 2)  # a half day and a weekend within
MINUTES = (5, 15, 210, 390)


def sample(seed: int) -> MarketDataPort:
    return sample_market(NewYorkCalendar(), seed=seed, first=FIRST, last=LAST, policy=POLICY)


def broken_daily_bars(seed: int) -> MarketDataPort:
    """Daily bars with a refused bar, a hole and a split, and minutes with a halt."""
    sessions = NewYorkCalendar().sessions(date(2008, 11, 3), date(2008, 12, 5))
    shape = (len(sessions), 3)
    close = 30.0 + np.arange(shape[0])[:, None] * 0.1 + np.arange(shape[1]) * 7.0
    bars = {"open": close - 0.1, "high": close + 0.4, "low": close - 0.6, "close": close, "volume": np.full(shape, 70_001.0)}
    bars["low"][14, 0] = 99.0
    for column in bars.values():
        column[15:18, 1] = np.nan
    split = np.ones(shape)
    split[16, 2] = 1.5

    def halt(bars: SessionBars) -> SessionBars:
        quality = bars.quality.copy()
        quality[10:15, 2] = BarQuality.HALTED
        columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
        for column in columns.values():
            column[10:15, 2] = np.nan
        return replace(bars, **columns, quality=quality)

    return BridgedMarket(
        KnownPanels.fixed(DailyPanel.checked(("A", "B", "C"), sessions, bars, split)),
        MinuteBridge(seed),
        first=FIRST,
        last=LAST,
        source_id=f"broken:{seed}",
        notice="made up",
        policy=POLICY,
        defects=halt,
    )


SOURCES = {"sample": sample, "broken daily bars": broken_daily_bars}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Callable[[int], MarketDataPort]:
    """Makes the source under a seed."""
    return SOURCES[request.param]


def test_sessions_are_those_of_the_window_in_order(source: Callable[[int], MarketDataPort]) -> None:
    assert source(1).sessions() == NewYorkCalendar().sessions(FIRST, LAST)


def test_the_source_names_itself(source: Callable[[int], MarketDataPort]) -> None:
    assert source(1).source_id == source(1).source_id
    assert source(1).source_id != source(2).source_id
    assert source(1).notice


async def test_the_days_before_a_session_are_raw_and_end_with_the_one_before(source: Callable[[int], MarketDataPort]) -> None:
    """What a later session knows of them is the same, and they are as many as there are, however far back one asks."""
    market = source(1)
    sessions = market.sessions()
    early, late = [await market.daily_history(each, date(2008, 11, 10)) for each in (sessions[1], sessions[-1])]
    whole = await market.daily_history(sessions[-1], date(1990, 1, 1))

    assert early.sessions[-1] == sessions[0].date
    assert late.sessions[-1] == sessions[-2].date
    assert early.sessions[0] == late.sessions[0] >= date(2008, 11, 10)
    assert whole.sessions[-len(late.sessions) :] == late.sessions
    assert early.symbols == market.symbols
    for name in ("open", "high", "low", "close", "volume", "split"):
        known = getattr(early, name)
        np.testing.assert_array_equal(getattr(late, name)[: len(known)], known)
    prior = await market.prior_facts(sessions[1], (5,))
    believed = np.isfinite(early.close[-1])
    np.testing.assert_array_equal(
        (early.close[-1] / (await market.daily_history(sessions[2], sessions[1].date)).split[0])[believed],
        prior.previous_close[believed],
    )


async def test_columns_are_the_symbols_in_every_array(source: Callable[[int], MarketDataPort]) -> None:
    market = source(1)
    width = len(market.symbols)
    assert width > 0
    for session in market.sessions():
        facts = await market.prior_facts(session, MINUTES)
        bars = await market.session_bars(session)
        assert facts.session == bars.session == session
        assert facts.symbols == bars.symbols == market.symbols
        assert facts.previous_close.shape == facts.dollar_volume_mean.shape == (width,)
        assert facts.cumulative_volume_mean.shape == (len(MINUTES), width)
        assert set(facts.excluded) <= set(market.symbols)
        assert bars.close.shape == (session.minutes, width)


async def test_good_bars_are_sound_and_others_are_not_a_number(source: Callable[[int], MarketDataPort]) -> None:
    market = source(1)
    for session in market.sessions():
        bars = await market.session_bars(session)
        good = np.isin(bars.quality, (BarQuality.OK, BarQuality.FILLED))
        prices = np.stack([bars.open, bars.high, bars.low, bars.close])

        assert good.any()
        assert np.isfinite(prices[:, good]).all()
        assert (bars.low[good] <= prices[:, good].min(axis=0)).all()
        assert (bars.high[good] >= prices[:, good].max(axis=0)).all()
        assert (bars.volume[good] >= 0).all()
        assert np.isnan(prices[:, ~good]).all()


async def test_volume_known_at_a_later_minute_is_never_less(source: Callable[[int], MarketDataPort]) -> None:
    market = source(1)
    for session in market.sessions():
        means = (await market.prior_facts(session, MINUTES)).cumulative_volume_mean
        known = np.isfinite(means[0])

        assert known.any()
        assert (np.diff(means[:, known], axis=0) >= 0).all()


async def test_another_instance_asked_in_another_order_gives_the_same(source: Callable[[int], MarketDataPort]) -> None:
    one, other = source(7), source(7)
    facts = [await one.prior_facts(session, MINUTES) for session in one.sessions()]
    bars = [await one.session_bars(session) for session in one.sessions()]

    backward = tuple(reversed(other.sessions()))
    bars_again = await asyncio.gather(*(other.session_bars(session) for session in backward))
    facts_again = await asyncio.gather(*(other.prior_facts(session, MINUTES) for session in backward))

    for before, after in zip(bars, reversed(bars_again), strict=True):
        for name in ("open", "high", "low", "close", "volume", "quality"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    for known, known_again in zip(facts, reversed(facts_again), strict=True):
        assert known.excluded == known_again.excluded
        for name in ("previous_close", "dollar_volume_mean", "cumulative_volume_mean"):
            np.testing.assert_array_equal(getattr(known, name), getattr(known_again, name))


async def test_another_seed_gives_another_path(source: Callable[[int], MarketDataPort]) -> None:
    session = source(1).sessions()[0]

    assert (await source(1).session_bars(session)).close.tobytes() != (await source(2).session_bars(session)).close.tobytes()
