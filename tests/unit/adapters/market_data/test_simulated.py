"""The simulated market: a pure function of seed, symbol and date, with every kind of defect."""

import time
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.simulated import SimulatedPolicy, simulated_market
from finagent.adapters.market_data.simulated_daily import DailyProcessPolicy, simulated_days
from finagent.adapters.market_data.simulated_defects import DefectPolicy, SimulatedDefects
from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.quant.features.bar_soundness import sound_bars
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanResult, ScanRules, scan

CALENDAR = NewYorkCalendar()
DAY = date(2021, 3, 5)
CLEAN_DAILY = DailyProcessPolicy(
    splits_per_symbol_year=0.05,
    bad_ticks_per_bar=0.0,
    null_bars_per_bar=0.0,
    clustered_gap_date=None,
    clustered_gap_fraction=0.03,
)
CLEAN_MINUTES = DefectPolicy(
    missing_per_minute=0.0,
    null_bars_per_minute=0.0,
    bad_ticks_per_minute=0.0,
    halts_per_symbol_session=0.0,
    halt_move_fraction=0.05,
    halt_minutes=5,
)
POLICY = SimulatedPolicy(
    origin=date(2020, 1, 2),
    history_sessions=60,
    market=BridgedMarketPolicy(HistoryPolicy(mean_sessions=20, hole_sessions_max=2), cached_sessions_max=2),
    gaps=GapPolicy(hole_minutes_max=5),
    daily=CLEAN_DAILY,
    defects=replace(CLEAN_MINUTES, missing_per_minute=0.002, null_bars_per_minute=1e-4, bad_ticks_per_minute=1e-4),
)
RULES = ScanRules(
    gap_fraction_min=0.04,
    price_usd_min=5.0,
    dollar_volume_usd_min=5e6,
    relative_volume_min=1.5,
    price_age_minutes_max=2,
    bad_bars_max=0,
    candidates_max=500,
)


def market(
    symbols: int = 20, seed: int = 1, first: date = DAY, last: date = DAY, policy: SimulatedPolicy = POLICY
) -> MarketDataPort:
    return simulated_market(CALENDAR, symbols_count=symbols, seed=seed, first=first, last=last, policy=policy)


async def scanned(source: MarketDataPort, minute: int) -> ScanResult:
    session = source.sessions()[0]
    prior, bars = await source.prior_facts(session, (minute,)), await source.session_bars(session)
    state = FeatureState(source.symbols)
    state.reset(session)
    for number in range(1, minute + 1):
        state.update(bars.block(number))
    return scan(state, prior, minute, RULES)


def assert_same(one: SessionBars, other: SessionBars, columns: slice) -> None:
    for name in ("open", "high", "low", "close", "volume", "quality"):
        np.testing.assert_array_equal(getattr(one, name)[:, columns], getattr(other, name)[:, columns])


async def test_a_symbol_day_depends_on_neither_universe_nor_window() -> None:
    small, large, wide = market(5), market(200), market(5, first=date(2021, 3, 1), last=date(2021, 3, 12))
    session = small.sessions()[0]

    bars = await small.session_bars(session)

    assert small.symbols == ("S0001", "S0002", "S0003", "S0004", "S0005")
    assert_same(bars, await large.session_bars(session), slice(0, 5))
    assert_same(bars, await wide.session_bars(session), slice(0, 5))
    one, other = await small.prior_facts(session, (5,)), await wide.prior_facts(session, (5,))
    np.testing.assert_array_equal(one.previous_close, other.previous_close)


async def test_another_seed_is_another_market_and_ids_tell_them_apart() -> None:
    one, other = market(3, seed=1), market(3, seed=2)
    session = one.sessions()[0]

    assert not np.array_equal((await one.session_bars(session)).close, (await other.session_bars(session)).close)
    changed = market(3, policy=replace(POLICY, gaps=GapPolicy(hole_minutes_max=4)))
    assert len({one.source_id, other.source_id, market(4).source_id, changed.source_id}) == 4
    assert one.notice == "simulated market"


async def test_every_tradable_bar_is_sound_and_the_others_hold_no_number() -> None:
    source = market(200)
    bars = await source.session_bars(source.sessions()[0])
    tradable = bars.quality <= BarQuality.FILLED

    assert sound_bars(bars.open, bars.high, bars.low, bars.close, bars.volume)[tradable].all()
    assert np.isnan(bars.close[~tradable]).all()
    kinds = {BarQuality(int(kind)) for kind in np.unique(bars.quality)}
    assert {BarQuality.OK, BarQuality.FILLED, BarQuality.BAD} <= kinds
    assert (bars.quality == BarQuality.FILLED).mean() == pytest.approx(0.002, rel=0.3)


async def test_a_forced_gap_day_gives_a_drill_its_candidates() -> None:
    daily = replace(CLEAN_DAILY, clustered_gap_date=DAY, clustered_gap_fraction=0.03)

    for seed in (1, 2, 3):
        found = await scanned(market(500, seed=seed, policy=replace(POLICY, daily=daily)), minute=5)
        up = found.gap[found.ranked.columns] > 0
        assert up.sum() >= 40


async def test_an_ordinary_day_has_few_candidates() -> None:
    found = await scanned(market(500, first=date(2021, 3, 9), last=date(2021, 3, 9)), minute=5)

    assert len(found.ranked.columns) < 40


def halted_day(defects: DefectPolicy) -> SessionBars:
    """A calm symbol, and one that rises by 8 % within five minutes from minute 100 on."""
    session = CALENDAR.sessions(DAY, DAY)[0]
    close = np.full((session.minutes, 2), 50.0)
    close[:, 0] += 0.001 * np.arange(session.minutes)
    close[100:105, 1] = 50.0 * (1 + 0.016 * np.arange(1, 6))
    close[105:, 1] = 54.0
    volume = np.full(close.shape, 100.0)
    bars = SessionBars(session, ("AAA", "BBB"), close, close, close, close.copy(), volume, np.zeros(close.shape, dtype=np.uint8))
    return SimulatedDefects(1, defects, GapPolicy(hole_minutes_max=2))(bars)


def test_a_move_past_the_limit_pauses_the_symbol_and_the_reopening_jumps() -> None:
    bars = halted_day(CLEAN_MINUTES)
    paused = np.flatnonzero(bars.quality[:, 1] == BarQuality.HALTED)

    assert (bars.quality[:, 0] == BarQuality.OK).all()
    assert paused.tolist() == [104, 105, 106, 107, 108]
    assert bars.volume[109, 1] == 600.0
    assert np.nansum(bars.volume[:, 1]) == 100.0 * bars.session.minutes
    assert (np.delete(bars.quality[:, 1], paused) == BarQuality.OK).all()


def test_news_halts_come_at_the_wildest_minutes() -> None:
    bars = halted_day(replace(CLEAN_MINUTES, halts_per_symbol_session=1.0, halt_move_fraction=0.5))
    paused = np.flatnonzero(bars.quality[:, 1] == BarQuality.HALTED)

    assert paused.tolist() == [100, 101, 102, 103, 104]
    assert bars.open[105, 1] / bars.close[99, 1] == pytest.approx(1.08)


def test_splits_dirt_and_nulls_occur_at_their_rates_and_leave_the_rest_alone() -> None:
    dates = tuple(session.date for session in CALENDAR.sessions(date(2020, 1, 2), date(2022, 12, 30)))
    symbols = tuple(f"S{number:04d}" for number in range(1, 101))
    clean = simulated_days(1, symbols, dates, CLEAN_DAILY)
    dirty = simulated_days(1, symbols, dates, replace(CLEAN_DAILY, bad_ticks_per_bar=0.001, null_bars_per_bar=0.002))

    sound = sound_bars(dirty.open, dirty.high, dirty.low, dirty.close, dirty.volume)
    null = np.isnan(dirty.open)
    assert sound_bars(clean.open, clean.high, clean.low, clean.close, clean.volume).all()
    assert (~sound & ~null).mean() == pytest.approx(0.001, rel=0.35)
    assert null.mean() == pytest.approx(0.002, rel=0.25)
    np.testing.assert_array_equal(clean.close[sound], dirty.close[sound])
    assert 5 <= (clean.split == 2.0).sum() <= 40
    overnight = clean.open[1:] * clean.split[1:] / clean.close[:-1] - 1.0
    assert np.abs(overnight[clean.split[1:] != 1.0]).max() < 0.25
    assert clean.close.min() > 1.0
    assert clean.close.max() < 2000.0


def test_longer_windows_only_add_sessions() -> None:
    dates = tuple(session.date for session in CALENDAR.sessions(date(2020, 1, 2), date(2022, 12, 30)))

    short, long = simulated_days(1, ("S0001",), dates[:710], CLEAN_DAILY), simulated_days(1, ("S0001",), dates, CLEAN_DAILY)

    for one, other in zip(short, long, strict=True):
        np.testing.assert_array_equal(one, other[:710])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbols": 0}, "at least one symbol"),
        ({"first": date(2019, 1, 2)}, "nor start before 2020-01-02"),
        ({"first": date(2021, 3, 6)}, "ends? before it starts|end before"),
        ({"first": date(2020, 2, 3), "last": date(2020, 2, 4)}, "under 60 sessions of history"),
        ({"first": date(2021, 3, 6), "last": date(2021, 3, 7)}, "no session from"),
    ],
)
def test_windows_that_cannot_be_simulated_are_refused(change: dict[str, int | date], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        market(**change)  # type: ignore[arg-type]  # one of several keywords


def test_a_forced_day_outside_the_window_is_refused() -> None:
    with pytest.raises(BadInput, match="clustered_gap_date 2021-03-08 is not a session"):
        market(policy=replace(POLICY, daily=replace(CLEAN_DAILY, clustered_gap_date=date(2021, 3, 8))))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_outside_zero_to_one_are_refused(rate: float) -> None:
    with pytest.raises(BadInput):
        replace(CLEAN_DAILY, null_bars_per_bar=rate)
    with pytest.raises(BadInput):
        replace(CLEAN_MINUTES, missing_per_minute=rate)


async def test_five_hundred_symbols_open_within_three_seconds_of_processor_time() -> None:
    started = time.process_time()
    source = market(500)
    session = source.sessions()[0]
    await source.prior_facts(session, (5, 15, 30))
    await source.session_bars(session)

    assert time.process_time() - started < 3.0
