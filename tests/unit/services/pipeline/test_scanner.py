"""A scan commits each candidate with its facts, turns nobody away without a reason, and is never run too late."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
from tests.unit.services.conftest import features_of

from finagent.domain.bars import BarQuality
from finagent.domain.gap import Direction, FeatureVector, GapCandidate
from finagent.domain.runs import PipelineRun, RunState, SymbolRun, SymbolState
from finagent.domain.sessions import Session
from finagent.domain.time import to_text
from finagent.quant.features.catalogue import BARS, CANDIDATE
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.market_data.feed import Feed
from finagent.services.pipeline.scanner import ScannerPolicy, ScannerService


def scanner(desk: Any, feed: Feed) -> ScannerService:
    return ScannerService(feed, desk.clock, ScannerPolicy(300, 120, 15))


def scan_job(desk: Any, minute: int = 5) -> Any:
    return desk.job("scan", entry="first", fired_at=to_text(desk.minute(minute)))


async def test_features_of_minutes_that_nobody_traded_say_so(desk: Any, market: Any, open_feed: Any) -> None:
    market.gap("IBM", 0.04)
    market.bars = replace(market.bars, simulated=True)
    await desk.commit(await scanner(desk, await open_feed()).scan(scan_job(desk), desk.reads))
    (vector,) = desk.reads.find(FeatureVector)
    assert vector.simulated
    assert vector.quality.startswith("SIMULATED, ")


async def test_a_gap_is_committed_with_the_facts_that_later_stages_use(desk: Any, market: Any, open_feed: Any) -> None:
    market.gap("IBM", 0.04)
    market.gap("MSFT", -0.03)
    feed = await open_feed()
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    found = {candidate.symbol: candidate for candidate in desk.reads.find(GapCandidate)}
    run = desk.reads.find(PipelineRun)[0]

    assert {symbol: candidate.direction for symbol, candidate in found.items()} == {
        "IBM": Direction.UP,
        "MSFT": Direction.DOWN,
    }
    facts = found["IBM"].facts
    assert (round(facts.gap, 9), facts.high, facts.low, facts.cumulative_volume, facts.relative_volume) == (
        0.04,
        104.5,
        103.5,
        5e4,
        2.0,
    )
    assert (run.state, run.candidates, run.symbols, run.reasons) == (RunState.RUNNING, 2, 4, {"CANDIDATE": 2, "NO_GAP": 2})
    vector = desk.reads.get(FeatureVector, found["IBM"].decision_id)
    told = dict(zip(CANDIDATE.names, vector.values, strict=True))
    assert desk.reads.count(FeatureVector) == 2
    unknown = len(BARS.names) + 12  # a market without days, quotes and news
    assert (vector.data_spec_hash, vector.quality, vector.simulated) == (CANDIDATE.hash, f"{unknown} unknown", False)
    assert vector.as_of == vector.known_at == desk.minute(5)
    assert (round(told["gap"], 9), told["position_in_range"], told["minutes_since_open"]) == (0.04, 0.5, 5.0)
    assert np.isnan(told["rsi_14"])
    assert len(desk.keys("score")) == 2
    assert [run_at for _, _, run_at in desk.waiting("gather")] == [to_text(desk.minute(7))]


async def test_a_symbol_is_a_candidate_once_a_session(desk: Any, market: Any, open_feed: Any) -> None:
    market.gap("IBM", 0.04)
    feed = await open_feed()
    service = scanner(desk, feed)
    await desk.commit(await service.scan(scan_job(desk), desk.reads))
    desk.clock.set(desk.minute(15))
    feed.advance()
    market.cumulative_volume_mean[:] = 2.5e4
    await desk.commit(await service.scan(scan_job(desk, 15), desk.reads))

    assert desk.reads.count(GapCandidate) == 1
    assert [run.state for run in sorted(desk.reads.find(PipelineRun), key=lambda run: run.fired_at)] == [
        RunState.RUNNING,
        RunState.SUCCESS,
    ]


async def test_near_misses_name_the_rule_its_value_and_its_limit(desk: Any, market: Any, open_feed: Any) -> None:
    market.gap("IBM", 0.04)
    market.cumulative_volume_mean[market.symbols.index("IBM")] = 1e5
    feed = await open_feed()
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    missed = desk.reads.find(SymbolRun, state=SymbolState.NEAR_MISS)

    assert [(each.symbol, each.reason) for each in missed] == [("IBM", "RELATIVE_VOLUME: 0.5, limit 1.5")]
    assert desk.reads.find(PipelineRun)[0].state is RunState.SUCCESS


async def test_a_scan_found_too_late_is_expired_not_run(desk: Any, market: Any, open_feed: Any) -> None:
    market.gap("IBM", 0.04)
    feed = await open_feed()
    desk.clock.set(desk.minute(10) + (desk.minute(1) - desk.minute(0)) / 60)
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    run = desk.reads.find(PipelineRun)[0]

    assert (run.state, run.reason, run.session_date) == (
        RunState.EXPIRED,
        "found 301 s after its fire time",
        desk.session.date,
    )
    assert desk.reads.count(GapCandidate) == 0


async def test_a_scan_found_late_but_in_time_is_run(desk: Any, market: Any, open_feed: Any) -> None:
    market.gap("IBM", 0.04)
    desk.clock.set(desk.minute(15))
    feed = await open_feed()
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk, 10), desk.reads))

    assert desk.reads.count(GapCandidate) == 1


async def test_three_bad_symbols_of_ten_thousand_fail_alone(desk: Any, array_market: Any) -> None:
    """One with a refused bar, one with a number that is none, one excluded before the open: named, and nobody else is hurt."""
    symbols = tuple(f"S{number:05d}" for number in range(10_000))
    session = Session(desk.session.date, desk.session.opens_at, desk.minute(10))
    market = array_market(symbols, session)
    gapped = symbols[::500]
    for symbol in gapped:
        market.gap(symbol, 0.04)
    market.bars.quality[2, 7] = BarQuality.BAD
    market.bars.close[3, 500] = np.nan
    market.excluded["S01000"] = "UNEXPLAINED_SPLIT: 0.5"
    feed = Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))
    await feed.open_session(session, (5,))
    feed.advance()
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    run = desk.reads.find(PipelineRun)[0]
    failed = {each.symbol: each.reason for each in desk.reads.find(SymbolRun, state=SymbolState.FAILED)}

    assert failed == {
        "S00007": "BAD_DATA: a refused bar or an impossible previous close",
        "S00500": "BAD_DATA: a refused bar or an impossible previous close",
        "S01000": "UNEXPLAINED_SPLIT: 0.5",
    }
    assert (run.failed, run.candidates, sum(run.reasons.values())) == (3, len(gapped) - 2, 10_000)
    assert {c.symbol for c in desk.reads.find(GapCandidate)} == set(gapped) - set(failed)


async def test_on_wall_time_a_scan_waits_for_the_bars_of_its_minute_and_not_for_ever(
    desk: Any, market: Any, open_feed: Any
) -> None:
    market.gap("IBM", 0.04)
    feed = await open_feed(desk.minute(4))
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    assert desk.reads.count(PipelineRun) == 0, "the fifth minute is not in yet"
    (_, _, run_at), *more = desk.waiting("scan")
    assert (run_at, more) == (to_text(desk.minute(5) + timedelta(seconds=1)), [])

    feed.advance()
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    assert desk.reads.find(PipelineRun)[0].candidates == 1


async def test_a_scan_whose_bars_do_not_come_goes_on_without_them(desk: Any, market: Any, open_feed: Any) -> None:
    feed = await open_feed(desk.minute(4))
    desk.clock.set(desk.minute(5) + timedelta(seconds=15))
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    assert desk.reads.find(PipelineRun)[0].state is RunState.SUCCESS


async def test_a_scan_of_a_session_that_is_not_fed_yet_waits_for_it(desk: Any, market: Any, open_feed: Any) -> None:
    feed = Feed(market, desk.clock, ScanRules(0.02, 5.0, 5e6, 1.5, 3, 0, 50), features_of(market))
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    assert [run_at for _, _, run_at in desk.waiting("scan")] == [to_text(desk.minute(5) + timedelta(seconds=1))]
    await feed.open_session(desk.session, (5,))
    feed.advance()
    await desk.commit(await scanner(desk, feed).scan(scan_job(desk), desk.reads))
    assert desk.reads.find(PipelineRun)[0].state is RunState.SUCCESS
