"""Broker truth against ours: agreement opens the gate, a difference halts, no answer is not an empty answer."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.effect import Set
from finagent.domain.errors import Transient, Unavailable
from finagent.domain.orders import BrokerOrder, Side
from finagent.domain.portfolio import Position
from finagent.domain.ports.order_execution import ExecutionReport
from finagent.domain.time import to_text
from finagent.domain.trading_state import StartGate, TradingState
from finagent.services.execution.reconciliation import Reconciler, ReconciliationPolicy


@pytest.fixture
def reconciler(desk: Any, broker: Any) -> Reconciler:
    return Reconciler(broker, desk.clock, ReconciliationPolicy(1800), desk.kill_switch)


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


async def test_a_position_that_differs_halts_and_is_told(desk: Any, broker: Any, reconciler: Reconciler) -> None:
    stranger = ExecutionReport("x-other", "b-other", "IBM", Side.BUY, 5, Decimal(100), Decimal(0), desk.clock.now())
    broker.executions.append(stranger)
    await desk.commit(Position("AAPL", 7, Decimal(-700), Decimal(0), desk.clock.now()))
    effect = await reconciler.reconcile(reconcile(desk), desk.reads)
    undecided = desk.state().state
    await desk.commit(effect)

    assert (undecided, desk.state().state, desk.state().by) == (TradingState.ACTIVE, TradingState.HALTED, "reconciliation")
    assert effect.events[-1].body["differences"] == [
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
        "order b-9 of IBM is not ours",
        f"order {entry} of IBM is unknown to the broker",
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

    assert await reconciler.differences(desk.reads) == ("account LIVE-9 is not ours (SIM-1)",)


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


async def test_a_difference_keeps_the_gate_shut_and_halts_until_a_comparison_is_clean(
    desk: Any, broker: Any, reconciler: Reconciler
) -> None:
    """Arming alone does not open the gate: the next clean comparison does."""
    desk.kill_switch.gate = StartGate.STARTING
    await desk.commit(Position("AAPL", 7, Decimal(-700), Decimal(0), desk.clock.now()))
    await reconciler.start(desk.reads)
    halted = desk.kill_switch.state()
    await desk.kill_switch.arm("looked at it", "ann")
    armed = desk.kill_switch.objection()
    await desk.commit(Set(Position, ("AAPL",), {"quantity": 0}))
    await desk.commit(reconciler.judge(await reconciler.differences(desk.reads), desk.reads))

    assert (halted.state, halted.reason[:30]) == (TradingState.HALTED, "reconciliation: position AAPL:")
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
