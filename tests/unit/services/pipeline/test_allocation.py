"""What each trade of a scan may risk: from the days before it, committed by the scan, carried to the plan, told to people."""

import asyncio
import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.unit.quant.risk.test_allocation import HRP
from tests.unit.quant.risk.test_hierarchical_parity import returns_with_factors

from finagent.domain.bars import DailyHistory
from finagent.domain.errors import Transient
from finagent.domain.gap import Direction, GapCandidate
from finagent.domain.time import to_text
from finagent.domain.trade_plan import TradePlan
from finagent.quant.features.catalogue import CANDIDATE
from finagent.services.market_data.return_history import ReturnHistory, ReturnHistoryPolicy, daily_returns
from finagent.services.models.serving import Score
from finagent.services.pipeline.allocation import Allocator
from finagent.services.pipeline.planner import PlannerService, PlanPolicy
from finagent.services.pipeline.scanner import ScannerPolicy, ScannerService
from finagent.services.pipeline.scoring import ScoringPolicy, ScoringService

UP, DOWN = Direction.UP, Direction.DOWN


def history_of(market: Any, closes: np.ndarray) -> DailyHistory:
    days = tuple(date(2008, 9, 30) - timedelta(days=back) for back in reversed(range(len(closes))))
    return DailyHistory(days, market.symbols, closes, closes, closes, closes, np.full(closes.shape, 1e6), np.ones(closes.shape))


@pytest.fixture
def past(market: Any) -> Any:
    """120 days; IBM is three times as wild as the others."""
    returns = returns_with_factors(4, 120, 4) / 10 * [1, 1, 3, 1]
    market.history = history_of(market, 100.0 * np.cumprod(1.0 + np.vstack((np.zeros(4), returns)), axis=0))
    return market


def allocator(market: Any, *, short_selling: bool = False) -> Allocator:
    history = ReturnHistory(market, ReturnHistoryPolicy(500, 40, 5, None), asyncio.to_thread)
    return Allocator(history, HRP, short_selling)


async def test_the_wild_symbol_risks_less_and_the_reason_names_method_and_trades(desk: Any, past: Any) -> None:
    shares = await allocator(past).shares(desk.session, [("IBM", UP), ("AAPL", UP)])

    assert shares["IBM"].multiple < Decimal("0.7") < Decimal("1.3") < shares["AAPL"].multiple
    assert shares["IBM"].multiple + shares["AAPL"].multiple == 2
    assert shares["IBM"].reason == "hrp of 2"


async def test_a_trade_that_will_not_be_planned_takes_no_part(desk: Any, past: Any) -> None:
    found = [("IBM", UP), ("AAPL", DOWN), ("MSFT", UP)]

    assert set(await allocator(past).shares(desk.session, found)) == {"IBM", "MSFT"}
    assert set(await allocator(past, short_selling=True).shares(desk.session, found)) == {"IBM", "AAPL", "MSFT"}
    assert await allocator(past).shares(desk.session, [("AAPL", DOWN)]) == {}


async def test_a_short_trade_earns_what_its_symbol_loses(desk: Any, past: Any) -> None:
    """Long and short in symbols that move together are unlike: the tree puts them apart."""
    rows = returns_with_factors(9, 120, 4) / 10
    rows[:, 1] = rows[:, 0] + rows[:, 1] / 5
    past.history = history_of(past, 100.0 * np.cumprod(1.0 + np.vstack((np.zeros(4), rows)), axis=0))
    short = allocator(past, short_selling=True)
    both = await short.shares(desk.session, [("AAPL", UP), ("GOOG", UP), ("IBM", UP)])
    hedged = await short.shares(desk.session, [("AAPL", UP), ("GOOG", DOWN), ("IBM", UP)])

    assert hedged["IBM"].multiple != both["IBM"].multiple


async def test_without_history_each_trade_has_the_stated_part_and_says_why(desk: Any, market: Any) -> None:
    class Away:
        symbols = market.symbols

        async def daily_history(self, *_: object) -> DailyHistory:
            raise Transient("no answer")

    for source in (market, Away()):
        shares = await allocator(source).shares(desk.session, [("IBM", UP), ("AAPL", UP)])
        assert {share.multiple for share in shares.values()} == {Decimal("0.5")}
        assert shares["IBM"].reason == "hrp of 2, fewer than 60 days of history"


async def test_only_days_before_the_session_are_asked_for_and_once_for_all_its_scans(desk: Any, past: Any) -> None:
    asked = []

    class Listening:
        symbols = past.symbols

        async def daily_history(self, session: Any, first: date) -> DailyHistory:
            asked.append((session, first))
            return history_of(past, past.history.close)

    listening = allocator(Listening())
    for session in (desk.session, desk.session, desk.next_session):
        await listening.shares(session, [("IBM", UP)])
    assert asked == [(desk.session, date(2007, 1, 1)), (desk.next_session, date(2007, 1, 1))]


async def test_the_part_goes_from_the_scan_to_the_plan_and_is_told(desk: Any, past: Any, open_feed: Any) -> None:
    """Committed with the candidate; score and plan need no market to know it, so any process may do them."""
    past.gap("IBM", 0.04)
    past.gap("AAPL", 0.05)
    feed = await open_feed()
    scanner = ScannerService(feed, desk.clock, ScannerPolicy(300, 120, 15), allocator(past))
    await desk.commit(await scanner.scan(desk.job("scan", entry="first", fired_at=to_text(desk.minute(5))), desk.reads))
    shares = await allocator(past).shares(desk.session, [("IBM", UP), ("AAPL", UP)])

    async def infer(rows: Any, _subjects: Any) -> list[Score]:
        return [Score(0.7, "m1", "")] * len(rows)

    scoring = ScoringService(desk.clock, ScoringPolicy(6, 0.5), infer, CANDIDATE)
    scored = await _score_ibm(desk, scoring)
    plan_payload = scored.next[0].payload
    planner = PlannerService(desk.clock, PlanPolicy(Decimal("0.005"), Decimal("0.0025"), Decimal(2), 30, short_selling=False))
    await desk.commit(scored, planned := await planner.plan(desk.job("plan", **plan_payload), desk.reads))
    plan = desk.reads.get(TradePlan, plan_payload["decision_id"])

    assert plan_payload["risk_multiple"] == str(shares["IBM"].multiple)
    assert plan.quantity == int(500 * shares["IBM"].multiple / (plan.entry - plan.stop))
    assert f"({shares['IBM'].multiple} of an equal part: hrp of 2)" in plan.reason
    assert planned.events[0].body["risk_multiple"] == str(shares["IBM"].multiple)
    assert planned.events[0].body["allocation"] == "hrp of 2"
    (run,) = [body for kind, body in _events(desk) if kind == "scan_completed"]
    assert str(shares["AAPL"].multiple) in run


async def test_a_part_too_small_for_a_share_says_what_it_was(desk: Any) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM")
    service = PlannerService(desk.clock, PlanPolicy(Decimal("0.005"), Decimal("0.0025"), Decimal(2), 30, short_selling=False))
    job = desk.job("plan", decision_id=candidate.decision_id, risk_multiple="0.0020", allocation="hrp of 9")
    effect = await service.plan(job, desk.reads)

    assert "SIZE_ZERO: 1.00 USD at risk (0.0020 of an equal part: hrp of 9), 2.01 a share" in str(effect)


def test_returns_know_splits_holes_and_their_limits(market: Any) -> None:
    closes = np.asarray([[100.0, 50.0, 10.0, 10.0], [110, np.nan, np.nan, 0.0], [56, 60, np.nan, 12], [56, 66, 11, 12]])
    history = replace(history_of(market, closes), split=np.asarray([[1.0] * 4, [1.0] * 4, [2, 1, 1, 1], [1.0] * 4]))
    found = daily_returns(history, 1)

    np.testing.assert_allclose(found[:, 0], [0.1, 56 * 2 / 110 - 1, 0.0])
    np.testing.assert_allclose(found[:, 1], [0.0, 0.2, 0.1])
    np.testing.assert_allclose(found[:, 2], [0.0, np.nan, np.nan])  # two days without a bar
    np.testing.assert_allclose(found[:, 3], [0.0, 0.2, 0.0])  # a price of zero is none
    assert daily_returns(replace(history, **_none(history)), 5).shape == (0, 4)


def _none(history: DailyHistory) -> dict[str, Any]:
    return {"sessions": ()} | {name: getattr(history, name)[:0] for name in ("open", "high", "low", "close", "volume", "split")}


async def _score_ibm(desk: Any, scoring: ScoringService) -> Any:
    (candidate,) = desk.reads.find(GapCandidate, symbol="IBM")
    ((payload,),) = desk.reads.rows("SELECT payload FROM job_queue WHERE dedup_key = ?", (f"score:{candidate.decision_id}",))
    (effect,) = await scoring.score([desk.job("score", **json.loads(payload))], desk.reads)
    return effect


def _events(desk: Any) -> list[tuple[str, str]]:
    return [(kind, body) for kind, body in desk.reads.rows("SELECT kind, body FROM decision_event")]
