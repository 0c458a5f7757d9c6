"""The gate: one snapshot and one ranked list a run, verdicts one after the other, and everything that is bound counts."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict, Permanent
from finagent.domain.gap import GapCandidate
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, OrderState, OrderType, SendOutcome, Side
from finagent.domain.portfolio import Position
from finagent.domain.risk import RiskCode, RiskDecision, RiskProfile, RiskSnapshot, Verdict
from finagent.domain.runs import PipelineRun, RunState, Stage, SymbolRun, SymbolState
from finagent.domain.trading_state import TradingState
from finagent.services.pipeline.execution import ExecutionService
from finagent.services.pipeline.outcome import ended
from finagent.services.pipeline.risk import RiskService, approve

PROFILE = RiskProfile(
    Decimal("0.25"), Decimal("0.50"), Decimal("1.5"), Decimal("0.02"), 5, 20, 60, Decimal("0.05"), 180.0, short_selling=True
)
SECTORS = {"AAPL": "technology", "IBM": "technology", "MSFT": "technology"}


async def gate(desk: Any, market: Any, open_feed: Any, **limits: Any) -> RiskService:
    """A gate over a market in which everything stands at 104."""
    for column in (market.bars.open, market.bars.high, market.bars.low, market.bars.close):
        column[:] = 104.0
    profile = replace(PROFILE, **limits)
    return RiskService(await open_feed(), desk.clock, profile, SECTORS, desk.kill_switch)


async def gather(desk: Any, service: RiskService, run: str, **more: Any) -> Any:
    effect = await service.gather(desk.job("gather", run_id=run, **more), desk.reads)
    await desk.commit(effect)
    return effect


async def judge(desk: Any, service: RiskService, run: str) -> list[RiskDecision]:
    """All verdicts of a gathered run, in rank order."""
    for rank in range(len(desk.reads.get(RiskSnapshot, run).ranked)):
        await desk.commit(await service.check(desk.job("risk", run_id=run, rank=rank), desk.reads))
    found: list[RiskDecision] = desk.reads.find(RiskDecision, run_id=run)
    return sorted(found, key=lambda decision: decision.rank)


async def test_plans_are_ranked_by_score_then_symbol_and_judged_in_that_order(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed, positions_max=2)
    run = await desk.run()
    for symbol, score in (("MSFT", 0.6), ("IBM", 0.6), ("GOOG", 0.9)):
        await desk.planned(run, symbol, 10, score=score)
    await gather(desk, service, run)
    verdicts = await judge(desk, service, run)
    ranked = [line.symbol for line in desk.reads.get(RiskSnapshot, run).ranked]

    assert ranked == ["GOOG", "IBM", "MSFT"]
    assert [(v.verdict, v.code) for v in verdicts] == [
        (Verdict.APPROVED, RiskCode.OK),
        (Verdict.APPROVED, RiskCode.OK),
        (Verdict.REFUSED, RiskCode.POSITION_COUNT),
    ]
    assert desk.reads.get(DecisionOutcome, verdicts[2].decision_id).reason == "POSITION_COUNT: 3 against a limit of 2"
    assert desk.reads.get(PipelineRun, run).state is RunState.SUCCESS
    assert len(desk.keys("execute")) == 2


async def test_approvals_that_were_not_sent_yet_are_exposure_for_the_next_rank(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    for symbol, score in (("AAPL", 0.9), ("IBM", 0.8), ("MSFT", 0.7)):
        await desk.planned(run, symbol, 200, score=score)  # 20,854 USD each; the sector may bind 50,000
    await gather(desk, service, run)
    verdicts = await judge(desk, service, run)

    assert [v.quantity for v in verdicts] == [200, 200, 79]
    assert (verdicts[2].verdict, verdicts[2].code) == (Verdict.REDUCED, RiskCode.SECTOR_EXPOSURE)


async def test_approvals_of_another_run_that_were_not_sent_yet_are_exposure(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed, positions_max=2)
    first, second = await desk.run(entry="first"), await desk.run(entry="second")
    for symbol in ("AAPL", "IBM"):
        await desk.planned(first, symbol, 10)
    await desk.planned(second, "MSFT", 10)
    await gather(desk, service, first)
    await judge(desk, service, first)
    await gather(desk, service, second)
    (verdict,) = await judge(desk, service, second)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.POSITION_COUNT)
    assert desk.reads.get(RiskSnapshot, second).orders_today == 2


async def test_an_approval_counts_the_same_before_and_after_it_became_an_order(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    first, second, third = [await desk.run(entry=name) for name in ("first", "second", "third")]
    plan = await desk.planned(first, "AAPL", 10)
    await desk.planned(second, "MSFT", 10)
    await desk.planned(third, "IBM", 10)
    await gather(desk, service, first)
    await judge(desk, service, first)
    await gather(desk, service, second)
    await judge(desk, service, second)
    execution = ExecutionService(desk.clock, brackets=True)
    await desk.commit(await execution.execute(desk.job("execute", decision_id=plan.decision_id), desk.reads))
    await gather(desk, service, third)
    before, after = desk.reads.get(RiskSnapshot, second), desk.reads.get(RiskSnapshot, third)

    assert before.exposures == tuple(e for e in after.exposures if e.symbol == "AAPL")
    assert before.orders_today == 1
    assert after.orders_today == 2


async def test_runs_take_turns(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    first, second = await desk.run(entry="first"), await desk.run(entry="second")
    await desk.planned(first, "AAPL", 10)
    await desk.planned(second, "MSFT", 10)
    await gather(desk, service, first)
    waits = await gather(desk, service, second)
    await judge(desk, service, first)
    await gather(desk, service, second)

    assert [following.key for following in waits.next] == [f"gather:{second}:after:{first}:0"]
    assert desk.reads.get(RiskSnapshot, second) is not None


async def test_a_run_that_never_ends_does_not_keep_the_next_one_waiting(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    first, second = await desk.run(entry="first"), await desk.run(entry="second")
    await desk.planned(first, "AAPL", 10)
    await desk.planned(second, "MSFT", 10)
    await gather(desk, service, first)
    await gather(desk, service, second, last_call=True)

    assert desk.reads.get(RiskSnapshot, second) is not None


async def test_two_runs_never_fill_the_same_room_even_where_one_was_held_up(desk: Any, market: Any, open_feed: Any) -> None:
    """The first run's judge comes back after the second one could wait no longer: what it had not judged has expired."""
    service = await gate(desk, market, open_feed, positions_max=2)
    first, second = await desk.run(entry="first"), await desk.run(entry="second")
    judged_in_time = await desk.planned(first, "AAPL", 10, score=0.9)
    held_up = await desk.planned(first, "IBM", 10, score=0.8)
    overtaking = await desk.planned(second, "MSFT", 10)
    await gather(desk, service, first)
    await desk.commit(await service.check(desk.job("risk", run_id=first, rank=0), desk.reads))
    await gather(desk, service, second, last_call=True)
    await judge(desk, service, second)
    await desk.commit(await service.check(desk.job("risk", run_id=first, rank=1), desk.reads))

    assert desk.keys("execute") == [f"execute:{plan.decision_id}" for plan in (judged_in_time, overtaking)]
    outcome = desk.reads.get(DecisionOutcome, held_up.decision_id)
    assert (outcome.outcome, outcome.reason) == (SignalOutcome.EXPIRED, "not judged when the next run could wait no longer")
    assert desk.reads.get(PipelineRun, first).state is RunState.SUCCESS


async def test_candidates_not_planned_in_time_expire_and_their_late_jobs_change_nothing(
    desk: Any, market: Any, open_feed: Any
) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    await desk.planned(run, "AAPL", 10)
    slow = await desk.candidate(run, "IBM")
    desk.clock.set(desk.minute(7))
    await gather(desk, service, run, last_call=True)

    assert [line.symbol for line in desk.reads.get(RiskSnapshot, run).ranked] == ["AAPL"]
    assert desk.reads.get(DecisionOutcome, slow.decision_id).outcome is SignalOutcome.EXPIRED
    again = await service.gather(desk.job("gather", run_id=run), desk.reads)
    assert again == Effect()


async def test_a_run_without_a_plan_is_finished_by_its_gathering(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    candidate = await desk.candidate(run, "IBM")
    await desk.commit(ended(candidate, Stage.SCORE, SignalOutcome.NO_TRADE, "score too low", desk.clock.now()))
    await gather(desk, service, run)

    assert desk.reads.get(PipelineRun, run).state is RunState.SUCCESS
    assert desk.reads.get(RiskSnapshot, run) is None
    assert await service.gather(desk.job("gather", run_id=run), desk.reads) == Effect()


async def test_two_that_end_the_same_candidate_are_a_conflict_not_a_violation(desk: Any) -> None:
    candidate = await desk.candidate(await desk.run(), "IBM")
    one = ended(candidate, Stage.SCORE, SignalOutcome.NO_TRADE, "score too low", desk.clock.now())
    other = ended(candidate, Stage.PLAN, SignalOutcome.EXPIRED, "too late", desk.clock.now())
    await desk.commit(one)

    with pytest.raises(Conflict):
        await desk.commit(other)
    assert desk.reads.get(DecisionOutcome, candidate.decision_id).reason == "score too low"


async def with_entry(desk: Any, symbol: str = "AAPL", **values: Any) -> Any:
    """An entry of 100 shares of an earlier run, at the broker in the given state."""
    plan = await desk.approved(symbol)
    await desk.commit(
        await ExecutionService(desk.clock, brackets=True).execute(desk.job("execute", decision_id=plan.decision_id), desk.reads)
    )
    order = desk.reads.find(BrokerOrder, decision_id=plan.decision_id, leg=Leg.ENTRY)[0]
    if values:
        await desk.commit(Set(BrokerOrder, (order.client_order_id,), values))
    return plan


@pytest.mark.parametrize("outcome", [None, SendOutcome.CONFIRMED, SendOutcome.UNRESOLVED])
async def test_open_orders_bind_alike_whether_their_send_was_answered_or_not(
    desk: Any, market: Any, open_feed: Any, outcome: SendOutcome | None
) -> None:
    """No decision may depend on CONFIRMED versus UNRESOLVED."""
    service = await gate(desk, market, open_feed)
    await with_entry(desk, outcome=outcome)
    run = await desk.run()
    await desk.planned(run, "IBM", 10)
    await desk.planned(run, "AAPL", 200)
    await gather(desk, service, run)
    snapshot = desk.reads.get(RiskSnapshot, run)
    again = next(v for v in await judge(desk, service, run) if v.quantity != 10)

    assert [(e.symbol, e.quantity, e.notional) for e in snapshot.exposures] == [("AAPL", 100, 100 * Decimal("104.27"))]
    assert snapshot.locked_symbols == ()
    assert (again.verdict, again.code, again.quantity) == (Verdict.REDUCED, RiskCode.POSITION_SIZE, 139)


async def test_an_open_entry_of_no_known_price_lets_nothing_pass(desk: Any, market: Any, open_feed: Any) -> None:
    """A market order of a symbol without a bar may cost anything: zero would be a guess in our favour."""
    service = await gate(desk, market, open_feed)
    plan = await with_entry(desk, "ZZZZ")
    (entry,) = desk.reads.find(OrderIntent, decision_id=plan.decision_id, leg=Leg.ENTRY)
    unpriced = {"limit_price": None, "stop_price": None}
    await desk.commit(Set(OrderIntent, (entry.client_order_id,), {"type": OrderType.MARKET} | unpriced))
    run = await desk.run(entry="second")
    await desk.planned(run, "IBM", 10)
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.BAD_INPUT)


async def test_a_parked_order_locks_its_symbol(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    await with_entry(desk, state=OrderState.PARKED, outcome=SendOutcome.UNRESOLVED)
    run = await desk.run()
    await desk.planned(run, "AAPL", 10)
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.SYMBOL_LOCKED)


async def test_only_what_is_left_of_a_partly_filled_entry_counts_beside_its_position(
    desk: Any, market: Any, open_feed: Any
) -> None:
    service = await gate(desk, market, open_feed)
    await with_entry(desk, state=OrderState.PARTIALLY_FILLED, filled_quantity=40, outcome=SendOutcome.CONFIRMED)
    await desk.commit(Position("AAPL", 40, Decimal(-4160), Decimal(0), desk.clock.now()))
    run = await desk.run()
    await desk.planned(run, "IBM", 10)
    await gather(desk, service, run)
    exposures = desk.reads.get(RiskSnapshot, run).exposures

    assert [(e.quantity, e.notional) for e in exposures] == [(40, Decimal(4160)), (60, 60 * Decimal("104.27"))]


async def test_a_position_without_a_price_lets_nothing_pass(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    await desk.commit(Position("XOM", 1_000, Decimal(-80_000), Decimal(0), desk.clock.now()))
    run = await desk.run()
    await desk.planned(run, "IBM", 1)
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.BAD_INPUT)


async def test_a_plan_without_a_price_is_refused(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    await desk.planned(run, "XOM", 1)
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.BAD_INPUT)


@pytest.mark.parametrize("how", ["file", "halted"])
async def test_nothing_passes_while_halted(desk: Any, market: Any, open_feed: Any, how: str) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    await desk.planned(run, "IBM", 1)
    if how == "file":
        desk.halt_file.append("HALT")
    else:
        await desk.kill_switch.halt("by hand", "test")
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    assert (verdict.verdict, verdict.code) == (Verdict.REFUSED, RiskCode.TRADING_STATE)
    assert desk.reads.get(RiskSnapshot, run).trading_state is TradingState.HALTED


@pytest.mark.parametrize(("positions_max", "verdict"), [(1, Verdict.APPROVED), (0, Verdict.REFUSED)])
async def test_a_verdict_on_a_candidate_that_has_ended_since_has_no_consequence(
    desk: Any, market: Any, open_feed: Any, positions_max: int, verdict: Verdict
) -> None:
    """As when a person brings the job back late: the outcome stays, the run goes on to its end."""
    service = await gate(desk, market, open_feed, positions_max=positions_max)
    run = await desk.run()
    plan = await desk.planned(run, "IBM", 1)
    await gather(desk, service, run)
    outcome = DecisionOutcome(plan.decision_id, SignalOutcome.DEAD, "given up", desk.clock.now())
    await desk.commit(outcome)
    (told,) = await judge(desk, service, run)

    assert told.verdict is verdict
    assert desk.reads.get(DecisionOutcome, plan.decision_id) == outcome
    assert desk.keys("execute") == []
    assert desk.reads.get(PipelineRun, run).state is RunState.SUCCESS


async def test_a_locked_strategy_gets_nothing_and_the_others_do(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    first, second = await desk.run(entry="first"), await desk.run(entry="second")
    await desk.planned(first, "AAPL", 10)
    await desk.planned(second, "IBM", 10)
    await desk.kill_switch.lock_strategy("first", "fills look wrong", "ann")
    await gather(desk, service, first)
    (refused,) = await judge(desk, service, first)
    await desk.kill_switch.release_strategy("first", "looked", "ann")
    (committed,) = desk.reads.find(RiskSnapshot, run_id=first)
    await gather(desk, service, second)
    (passed,) = await judge(desk, service, second)

    assert (refused.verdict, refused.code, refused.quantity) == (Verdict.REFUSED, RiskCode.STRATEGY_LOCKED, 0)
    assert committed.strategy_lock == "first is locked: fills look wrong"
    assert (passed.verdict, passed.code) == (Verdict.APPROVED, RiskCode.OK)


async def test_a_short_plan_needs_its_permission(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed, short_selling=False)
    run = await desk.run()
    await desk.planned(run, "IBM", 1, side=Side.SELL, entry="103.99")
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    assert verdict.code is RiskCode.SHORT_SELLING


async def test_only_a_verdict_that_lets_it_pass_makes_a_plan_approved(desk: Any) -> None:
    plan = await desk.approved()
    verdict = desk.reads.get(RiskDecision, plan.decision_id)

    assert approve(plan, verdict).quantity == 100
    with pytest.raises(Permanent, match="no verdict that lets it pass"):
        approve(plan, replace(verdict, verdict=Verdict.REFUSED))
    with pytest.raises(Permanent, match="no verdict that lets it pass"):
        approve(plan, replace(verdict, decision_id="dec-other"))


async def test_judging_needs_snapshot_plan_and_candidate(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    with pytest.raises(Permanent, match="no snapshot"):
        await service.check(desk.job("risk", run_id=run, rank=0), desk.reads)
    await desk.planned(run, "IBM", 1)
    await gather(desk, service, run)
    snapshot = desk.reads.get(RiskSnapshot, run)
    other = await desk.run(entry="second")
    ghost = replace(snapshot, run_id=other, ranked=(replace(snapshot.ranked[0], decision_id="dec-0"),))
    await desk.commit(ghost)
    with pytest.raises(Permanent, match="dec-0: its plan or candidate"):
        await service.check(desk.job("risk", run_id=other, rank=0), desk.reads)


async def test_executing_needs_verdict_plan_and_a_candidate_that_has_not_ended(desk: Any) -> None:
    service = ExecutionService(desk.clock, brackets=True)
    with pytest.raises(Permanent, match="dec-0: its candidate, plan or verdict"):
        await service.execute(desk.job("execute", decision_id="dec-0"), desk.reads)
    plan = await desk.approved()
    candidate = desk.reads.find(SymbolRun, symbol="IBM")[0]
    await desk.commit(
        await service.execute(desk.job("execute", decision_id=plan.decision_id), desk.reads),
    )
    assert desk.reads.get(SymbolRun, candidate.run_id, "IBM").state is SymbolState.SUCCESS


async def test_an_entry_that_was_denied_binds_nothing(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    await with_entry(desk, outcome=SendOutcome.DENIED)
    run = await desk.run()
    await desk.planned(run, "IBM", 1)
    await gather(desk, service, run)

    assert desk.reads.get(RiskSnapshot, run).exposures == ()


async def test_a_plan_whose_candidate_has_ended_is_not_ranked(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed)
    run = await desk.run()
    await desk.planned(run, "IBM", 1)
    over = await desk.planned(run, "AAPL", 1)
    candidate = desk.reads.get(GapCandidate, over.decision_id)
    await desk.commit(ended(candidate, Stage.PLAN, SignalOutcome.EXPIRED, "too late", desk.clock.now()))
    await gather(desk, service, run)

    assert [line.symbol for line in desk.reads.get(RiskSnapshot, run).ranked] == ["IBM"]


async def test_more_orders_in_a_minute_than_are_allowed_halt_until_a_person_arms(desk: Any, market: Any, open_feed: Any) -> None:
    service = await gate(desk, market, open_feed, messages_per_minute_max=1)
    run = await desk.run()
    for symbol, score in (("AAPL", 0.9), ("IBM", 0.8), ("MSFT", 0.7)):
        await desk.planned(run, symbol, 10, score=score)
    await gather(desk, service, run)
    verdicts = await judge(desk, service, run)

    assert [verdict.code for verdict in verdicts] == [RiskCode.OK, RiskCode.MESSAGE_RATE, RiskCode.MESSAGE_RATE]
    assert (desk.state().state, desk.state().by) == (TradingState.HALTED, "risk")
    assert desk.state().reason == "runaway: 2 orders in a minute, limit 1"
    assert desk.told("trading_state_changed") == 1
