"""Broker truth against ours: agreement opens the gate, a difference halts, no answer is not an empty answer."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.effect import Set
from finagent.domain.errors import Transient, Unavailable
from finagent.domain.orders import BrokerOrder, Leg, SendOutcome, Side
from finagent.domain.portfolio import Position
from finagent.domain.ports.order_execution import ExecutionReport
from finagent.domain.time import to_text
from finagent.domain.trading_state import StartGate, TradingState
from finagent.services.execution.reconciliation import Difference, Reconciler, ReconciliationPolicy
from finagent.services.execution.symbol_locks import lock, locked_symbols, objection


@pytest.fixture
def reconciler(desk: Any, broker: Any) -> Reconciler:
    async def nothing_new() -> None: ...

    return Reconciler(broker, desk.clock, ReconciliationPolicy(1800), desk.kill_switch, nothing_new)


def reconcile(desk: Any, **more: Any) -> Any:
    return desk.job("reconcile", until=to_text(desk.session.closes_at), **more)


async def test_agreement_changes_nothing_and_looks_again_until_the_close(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    plan = await desk.approved()
    broker.trade(broker.named(await floor.bracket(plan)), 100, "104.02")
    await floor.now()
    effect = await reconciler.reconcile(reconcile(desk), desk.reads)
    desk.clock.set(desk.minute(365))
    last = await reconciler.reconcile(reconcile(desk), desk.reads)

    assert await reconciler.differences(desk.reads) == ()
    assert (effect.records, effect.events) == ((), ())
    assert [following.run_at for following in effect.next] == [desk.minute(35)]
    assert last.next == ()
    assert desk.state().state is TradingState.ACTIVE


async def test_a_fill_since_the_last_look_is_no_difference(desk: Any, floor: Any, broker: Any, reconciler: Reconciler) -> None:
    entry = await floor.bracket(await desk.approved())
    broker.trade(broker.named(entry), 100, "104.02")

    async def look() -> None:
        await floor.now()
        broker.trade("b-0-TARGET", 40, "108.03")  # and another one before the second comparison

    effect = await replace(reconciler, look=look).reconcile(reconcile(desk), desk.reads)
    assert (effect.records, effect.events) == ((), ())


async def test_a_position_that_differs_locks_its_symbol_and_is_told(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    stranger = ExecutionReport("x-other", "b-other", "IBM", Side.BUY, 5, Decimal(100), Decimal(0), desk.clock.now())
    broker.executions.append(stranger)
    await desk.commit(Position("AAPL", 7, Decimal(-700), Decimal(0), desk.clock.now()))
    effect = await reconciler.reconcile(reconcile(desk), desk.reads)
    undecided = locked_symbols(desk.reads)
    await desk.commit(effect)

    assert (undecided, locked_symbols(desk.reads), desk.state().state) == (set(), {"AAPL", "IBM"}, TradingState.ACTIVE)
    assert desk.kill_switch.objection() == ""
    assert "we hold 7" in objection("AAPL", desk.reads)
    assert objection("MSFT", desk.reads) == ""
    assert next(event for event in effect.events if event.kind == "reconciled").body["differences"] == [
        "position AAPL: the broker holds 0, we hold 7",
        "position IBM: the broker holds 5, we hold 0",
    ]
    assert len(effect.next) == 1


async def test_an_order_that_is_not_ours_and_one_it_does_not_know_are_differences(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    report = broker.orders.pop("b-0")
    for leg in ("b-0-TARGET", "b-0-STOP"):
        del broker.orders[leg]
    broker.orders["b-9"] = replace(report, broker_order_id="b-9", client_order_id="another's")

    assert await reconciler.differences(desk.reads) == (
        Difference("order b-9 of IBM is not ours", "IBM"),
        Difference(f"order {entry} of IBM is unknown to the broker", "IBM"),
    )


async def test_an_order_we_do_not_know_the_fate_of_is_no_difference(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    broker.submits = ["lose", "drop"]
    await floor.bracket(await desk.approved("IBM"))
    await floor.bracket(await desk.approved("AAPL"))

    assert await reconciler.differences(desk.reads) == ()


async def test_another_account_is_the_only_difference_told(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    broker.account_id = "LIVE-9"

    assert await reconciler.differences(desk.reads) == (Difference("account LIVE-9 is not ours (SIM-1)"),)


async def test_no_answer_is_not_an_empty_answer(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    await desk.commit(Position("AAPL", 7, Decimal(-700), Decimal(0), desk.clock.now()))
    broker.readable = False

    with pytest.raises(Transient):
        await reconciler.reconcile(reconcile(desk), desk.reads)
    assert desk.state().state is TradingState.ACTIVE


async def test_a_broker_that_stays_silent_does_not_end_the_timer(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    """A reconciliation that died of silence would be the last one of the session."""
    broker.readable = False
    effect = await reconciler.reconcile(reconcile(desk, attempts=2), desk.reads)

    assert [following.run_at for following in effect.next] == [desk.minute(35)]
    assert [event.kind for event in effect.events] == ["reconciliation_unanswered"]


async def test_the_gate_opens_when_both_agree(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    desk.kill_switch.gate = StartGate.STARTING
    before = desk.kill_switch.objection()
    await reconciler.start(desk.reads)
    calls = len(broker.calls)
    await reconciler.start(desk.reads)

    assert (before, desk.kill_switch.objection()) == ("start gate STARTING", "")
    assert len(broker.calls) == calls


async def test_another_account_keeps_the_gate_shut_and_halts_until_a_comparison_is_clean(
    desk: Any, broker: Any, reconciler: Reconciler
) -> None:
    """Arming alone does not open the gate: the next clean comparison does."""
    desk.kill_switch.gate = StartGate.STARTING
    broker.account_id = "LIVE-9"
    await reconciler.start(desk.reads)
    halted = desk.kill_switch.state()
    await desk.kill_switch.arm("looked at it", "ann")
    armed = desk.kill_switch.objection()
    broker.account_id = "SIM-1"
    await desk.commit(reconciler.judge(await reconciler.differences(desk.reads), desk.reads))

    assert (halted.state, halted.reason[:30]) == (TradingState.HALTED, "reconciliation: account LIVE-9")
    assert armed == "start gate RECONCILING"
    assert desk.kill_switch.objection() == ""


async def test_a_broker_that_cannot_be_read_at_start_keeps_the_gate_shut(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    desk.kill_switch.gate = StartGate.STARTING
    broker.readable = False

    with pytest.raises(Unavailable, match="cannot be read at start"):
        await reconciler.start(desk.reads)
    assert desk.kill_switch.objection() == "start gate RECONCILING"


async def test_a_halt_by_hand_is_not_overwritten(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    await desk.kill_switch.halt("by hand", "a person")
    await desk.commit(Position("AAPL", 7, Decimal(-700), Decimal(0), desk.clock.now()))
    await reconciler.reconcile(reconcile(desk), desk.reads)

    assert (desk.state().reason, desk.state().by) == ("by hand", "a person")


async def test_a_leg_nobody_reports_is_found_by_its_parent(desk: Any, floor: Any, broker: Any, reconciler: Reconciler) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 100, "104.02")
    await floor.now()  # the entry is terminal: open orders hold the legs alone
    for order in floor.orders(plan):
        if order.parent_client_order_id:
            await desk.commit(Set(BrokerOrder, (order.client_order_id,), {"broker_order_id": None}))

    assert await reconciler.differences(desk.reads) == ()


async def test_what_a_person_has_seen_locks_no_more_and_what_comes_after_does(
    desk: Any, broker: Any, reconciler: Reconciler, floor: Any
) -> None:
    """A manual position and a foreign order stay at the broker after their release; nothing is traded."""
    await floor.bracket(await desk.approved("AAPL"))
    stranger = ExecutionReport("x-1", "b-8", "IBM", Side.BUY, 5, Decimal(100), Decimal(0), desk.clock.now())
    broker.executions.append(stranger)
    broker.orders["b-9"] = replace(broker.orders["b-0"], broker_order_id="b-9", client_order_id="another's", symbol="IBM")
    await floor.now()
    assert "x-1" in objection("IBM", desk.reads)
    sent = list(broker.calls)

    await desk.commit(await reconciler.release(desk.reads, "ann"))
    assert await reconciler.differences(desk.reads) == ()
    await floor.now()
    assert locked_symbols(desk.reads) == set()
    assert [call for call in broker.calls[len(sent) :] if call[0] in ("submit", "cancel")] == []

    desk.clock.set(desk.minute(6))
    broker.executions.append(replace(stranger, execution_id="x-2", quantity=1, at=desk.clock.now()))
    (difference,) = await reconciler.differences(desk.reads)
    assert "holds 6, we hold 0, and 5 are known" in difference.text
    await floor.now()
    assert "x-2" in objection("IBM", desk.reads)


async def test_a_locked_symbol_denies_its_entries_and_lets_exits_go(desk: Any, floor: Any, broker: Any) -> None:
    held = await desk.approved("IBM")
    broker.trade(broker.named(await floor.bracket(held)), 30, "104.02")
    await floor.now()
    for symbol in ("IBM", "AAPL"):
        await desk.commit(lock(symbol, "a manual trade", "test", desk.reads, desk.clock.now()))
    refused = await desk.approved("AAPL")
    await floor.bracket(refused)
    await floor.until(12)

    assert (floor.outcome(refused), floor.order(refused, Leg.ENTRY).outcome) == ("RISK_DENIED", SendOutcome.DENIED)
    assert "AAPL is locked: a manual trade" in floor.order(refused, Leg.ENTRY).reason
    assert broker.requests[-1].quantity == 30, "what is held is protected all the same"
