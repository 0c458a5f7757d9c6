"""Plans: entry beyond the range since the open, stop at its other end, size from the risk; short plans mirror long ones."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.adapters.clock import VirtualClock
from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.money import CENT, to_tick
from finagent.domain.orders import Side
from finagent.domain.runs import Stage
from finagent.domain.trade_plan import TradePlan
from finagent.services.pipeline.outcome import ended
from finagent.services.pipeline.planner import PlannerService, PlanPolicy

POLICY = PlanPolicy(Decimal("0.005"), Decimal("0.0025"), Decimal(2), 30, short_selling=True)
LONG_ONLY = PlanPolicy(Decimal("0.005"), Decimal("0.0025"), Decimal(2), 30, short_selling=False)


def plan_job(desk: Any, candidate: GapCandidate) -> Any:
    return desk.job("plan", decision_id=candidate.decision_id)


async def test_a_gap_up_is_bought_above_its_high_with_the_stop_at_its_low(desk: Any) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM")
    await desk.commit(await PlannerService(desk.clock, LONG_ONLY).plan(plan_job(desk, candidate), desk.reads))
    plan = desk.reads.get(TradePlan, candidate.decision_id)

    assert (plan.side, plan.entry, plan.stop) == (Side.BUY, Decimal("104.01"), Decimal("102.00"))
    assert plan.entry_limit == Decimal("104.28")  # 104.01 and a quarter percent, up to the cent
    assert plan.target == Decimal("108.03")
    assert plan.quantity == 248  # 500 USD at risk, 2.01 a share
    assert plan.valid_until == desk.minute(35)
    assert plan.reason == "500.00 USD at risk / 2.01 a share = 248"
    assert len(desk.keys("gather")) == 1


async def test_a_gap_down_mirrors_it(desk: Any) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM", Direction.DOWN, gap=-0.04, high=98.0, low=96.0, last=96.1)
    await desk.commit(await PlannerService(desk.clock, POLICY).plan(plan_job(desk, candidate), desk.reads))
    plan = desk.reads.get(TradePlan, candidate.decision_id)

    assert (plan.side, plan.entry, plan.entry_limit) == (Side.SELL, Decimal("95.99"), Decimal("95.75"))
    assert (plan.stop, plan.target) == (Decimal("98.00"), Decimal("91.97"))
    assert plan.quantity == 248


async def test_a_gap_down_is_no_trade_while_short_selling_is_off(desk: Any) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM", Direction.DOWN)
    await desk.commit(await PlannerService(desk.clock, LONG_ONLY).plan(plan_job(desk, candidate), desk.reads))

    assert desk.reads.get(DecisionOutcome, candidate.decision_id).outcome is SignalOutcome.NO_TRADE
    assert desk.reads.count(TradePlan) == 0


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"high": 2_000.0, "low": 104.0}, "SIZE_ZERO"),
        ({"high": 104.0, "low": 103.99}, "RANGE_TOO_NARROW"),
    ],
)
async def test_what_makes_no_plan_is_no_trade_with_its_reason(desk: Any, facts: dict[str, float], reason: str) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM", **facts)
    await desk.commit(await PlannerService(desk.clock, LONG_ONLY).plan(plan_job(desk, candidate), desk.reads))
    outcome = desk.reads.get(DecisionOutcome, candidate.decision_id)

    assert (outcome.outcome, outcome.reason.split(":")[0]) == (SignalOutcome.NO_TRADE, reason)


async def test_a_plan_that_comes_too_late_changes_nothing(desk: Any) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM")
    await desk.commit(ended(candidate, Stage.PLAN, SignalOutcome.EXPIRED, "too late", desk.clock.now()))

    assert await PlannerService(desk.clock, LONG_ONLY).plan(plan_job(desk, candidate), desk.reads) == Effect()


async def test_a_plan_needs_its_candidate_and_the_account_at_the_open(desk: Any) -> None:
    service = PlannerService(desk.clock, LONG_ONLY)
    candidate = await desk.candidate(await desk.run(), "IBM")
    from dataclasses import replace
    from datetime import timedelta

    tomorrow = replace(candidate, decision_id="dec-2", session_date=candidate.session_date + timedelta(days=1))
    await desk.commit(tomorrow)

    with pytest.raises(Permanent, match="dec-0: its candidate is not stored"):
        await service.plan(desk.job("plan", decision_id="dec-0"), desk.reads)
    with pytest.raises(Permanent, match="no account snapshot of the open of 2008-10-02"):
        await service.plan(desk.job("plan", decision_id="dec-2"), desk.reads)


prices = st.floats(0.5, 5_000, allow_nan=False)


@given(prices, st.floats(0, 0.2), st.sampled_from(Direction), st.integers(1_000, 10_000_000))
def test_a_drawn_plan_risks_no_more_than_its_budget_and_lies_on_its_ticks(
    low: float, width: float, direction: Direction, equity: int
) -> None:
    from datetime import UTC, date, datetime

    at = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
    facts = GapFacts(0.04, low, low, low * (1 + width), low, low, 1e6, 2.0, 1e9, 5)
    candidate = GapCandidate("dec-1", "run-1", "IBM", date(2008, 10, 1), direction, "trace", at, facts)
    plan = PlannerService(VirtualClock(at), POLICY).draft(candidate, Decimal(equity), at)
    if isinstance(plan, str):
        assert plan.split(":")[0] in ("SIZE_ZERO", "RANGE_TOO_NARROW")
        return
    sign = plan.side.sign
    risk = sign * (plan.entry - plan.stop)

    assert all(to_tick(price) == price for price in (plan.entry, plan.entry_limit, plan.stop, plan.target))
    assert plan.quantity * risk <= Decimal(equity) * POLICY.risk_fraction < (plan.quantity + 1) * risk
    assert plan.entry > Decimal(repr(facts.high)) - CENT if sign > 0 else plan.entry < Decimal(repr(facts.low)) + CENT
    assert sign * (plan.target - plan.entry_limit) > 0
    assert 0 <= sign * (plan.entry_limit - plan.entry) <= plan.entry * POLICY.entry_limit_fraction + CENT
