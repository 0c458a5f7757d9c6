"""The market made of daily bars and the minute bridge."""

import asyncio
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bridge import MinuteBridge
from finagent.adapters.market_data.bridged_market import BridgedMarket, BridgedMarketPolicy, Defects
from finagent.adapters.market_data.daily_panel import DailyPanel, HistoryPolicy, KnownPanels
from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.errors import BadInput

# The window holds one half day, 28 November 2008.
SESSIONS = NewYorkCalendar().sessions(date(2008, 11, 3), date(2008, 12, 5))
HALF_DAY = next(session for session in SESSIONS if session.minutes == 210)
POLICY = BridgedMarketPolicy(HistoryPolicy(mean_sessions=3, hole_sessions_max=1), cached_sessions_max=2)
SYMBOLS = ("A", "B", "C")


def panel() -> DailyPanel:
    shape = (len(SESSIONS), len(SYMBOLS))
    close = 40.0 + np.arange(shape[0])[:, None] * 0.25 + np.arange(shape[1]) * 10.0
    bars = {"open": close - 0.5, "high": close + 0.75, "low": close - 1.25, "close": close, "volume": np.full(shape, 900.0)}
    bars["high"][5, 1] = 1.0
    for column in bars.values():
        column[6, 2] = np.nan
    return DailyPanel.checked(SYMBOLS, SESSIONS, bars, np.ones(shape))


def market(seed: int = 1, policy: BridgedMarketPolicy = POLICY, defects: Defects | None = None) -> BridgedMarket:
    return BridgedMarket(
        KnownPanels.fixed(panel()),
        MinuteBridge(seed),
        first=SESSIONS[4].date,
        last=SESSIONS[-1].date,
        source_id="test:1",
        notice="made up",
        policy=policy,
        defects=defects,
    )


async def test_good_bars_are_bridged_refused_ones_marked_bad_absent_ones_missing() -> None:
    bars = await market().session_bars(SESSIONS[5])
    next_day = await market().session_bars(SESSIONS[6])

    assert bars.quality[0].tolist() == [BarQuality.OK, BarQuality.BAD, BarQuality.OK]
    assert next_day.quality[-1].tolist() == [BarQuality.OK, BarQuality.OK, BarQuality.MISSING]
    assert np.isnan(bars.close[:, 1]).all()
    assert np.isnan(next_day.volume[:, 2]).all()
    assert bars.high.max(axis=0)[0] == panel().high[5, 0]
    assert bars.volume.sum(axis=0)[2] == 900.0


async def test_a_neighbours_bad_bar_does_not_change_a_symbols_minutes() -> None:
    whole = await market().session_bars(SESSIONS[5])
    alone = BridgedMarket(
        KnownPanels.fixed(panel().of_symbols(("C",))),
        MinuteBridge(1),
        first=SESSIONS[0].date,
        last=SESSIONS[-1].date,
        source_id="x",
        notice="x",
        policy=POLICY,
    )

    np.testing.assert_array_equal(whole.close[:, [2]], (await alone.session_bars(SESSIONS[5])).close)


async def test_a_half_day_has_210_minutes_and_a_history_minute_past_its_end_counts_as_its_end() -> None:
    after = SESSIONS[SESSIONS.index(HALF_DAY) + 1]
    short = BridgedMarketPolicy(HistoryPolicy(mean_sessions=1, hole_sessions_max=0), cached_sessions_max=1)

    bars = await market().session_bars(HALF_DAY)
    facts = await market(policy=short).prior_facts(after, (0, 5, 210, 380))

    assert bars.close.shape == (210, 3)
    np.testing.assert_array_equal(facts.cumulative_volume_mean[0], 0.0)
    np.testing.assert_array_equal(facts.cumulative_volume_mean[2:], 900.0)
    np.testing.assert_allclose(facts.cumulative_volume_mean[1], bars.volume[:5].sum(axis=0), atol=0.5)


async def test_calls_in_any_order_and_at_once_give_the_same_numbers() -> None:
    forward, backward = market(), market(policy=replace(POLICY, cached_sessions_max=1))
    sessions = forward.sessions()[:6]
    first = [await forward.session_bars(session) for session in sessions]
    facts = [await forward.prior_facts(session, (5, 30)) for session in sessions]

    again = await asyncio.gather(*(backward.session_bars(session) for session in reversed(sessions)))
    facts_again = await asyncio.gather(*(backward.prior_facts(session, (5, 30)) for session in reversed(sessions)))

    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one.close, other.close)
        np.testing.assert_array_equal(one.volume, other.volume)
    for one_fact, other_fact in zip(facts, reversed(facts_again), strict=True):
        np.testing.assert_array_equal(one_fact.cumulative_volume_mean, other_fact.cumulative_volume_mean)


async def test_bars_of_recent_sessions_are_kept_and_older_ones_let_go() -> None:
    source = market(policy=replace(POLICY, cached_sessions_max=2))
    one, two, three = source.sessions()[:3]
    kept = await source.session_bars(one)

    await source.session_bars(two)
    assert await source.session_bars(one) is kept
    await source.session_bars(three)
    assert await source.session_bars(one) is kept
    await source.session_bars(two)
    await source.session_bars(three)
    assert await source.session_bars(one) is not kept


async def test_defects_are_laid_over_good_bars() -> None:
    def halted_from_noon(bars: SessionBars) -> SessionBars:
        quality = bars.quality.copy()
        quality[150:, 0] = BarQuality.HALTED
        return replace(bars, quality=quality)

    bars = await market(defects=halted_from_noon).session_bars(SESSIONS[4])

    assert (bars.quality[150:, 0] == BarQuality.HALTED).all()
    assert (bars.quality[:150] == BarQuality.OK).all()


def test_the_window_bounds_the_sessions_but_not_the_history() -> None:
    assert market().sessions() == SESSIONS[4:]
    assert market().symbols == SYMBOLS
    assert (market().source_id, market().notice) == ("test:1", "made up")


@pytest.mark.parametrize("keep", [0, -1])
def test_a_cache_without_room_for_one_session_is_refused(keep: int) -> None:
    with pytest.raises(BadInput, match="cached_sessions_max"):
        replace(POLICY, cached_sessions_max=keep)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(BadInput, match="no session from 2009-01-01 to 2009-02-01"):
        BridgedMarket(
            KnownPanels.fixed(panel()),
            MinuteBridge(1),
            first=date(2009, 1, 1),
            last=date(2009, 2, 1),
            source_id="x",
            notice="x",
            policy=POLICY,
        )
