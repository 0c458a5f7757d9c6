"""Leaving: entries end with their validity, what is held is protected, and everything is flat before the close."""

from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, SendOutcome, Side
from finagent.domain.ports.order_execution import ExecutionReport
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.services.execution.book import decision_book
from finagent.services.queue.processor import one_by_one

FLAT_AT = 380


async def flatten_at(desk: Any, floor: Any, minute: int = FLAT_AT) -> None:
    """Publish what the session's opening publishes."""
    until = {"until": to_text(desk.session.closes_at)}
    await desk.commit(Effect(next=(Next("flatten", "flatten:2008-10-01", until, desk.minute(minute)),)))


async def test_an_unfilled_entry_is_cancelled_when_its_validity_ends(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(34)
    before = list(broker.calls)
    await floor.until(38)

    assert ("cancel", "b-0") not in before
    assert broker.calls.count(("cancel", "b-0")) == 1
    assert {order.state for order in floor.orders(plan)} == {OrderState.CANCELLED}
    assert floor.outcome(plan) == "CANCELLED"
    assert desk.waiting("expire") == []


async def test_an_entry_whose_send_waits_for_a_person_is_not_looked_at_beyond_its_session(desk: Any, floor: Any) -> None:
    """In lock-step each look is a next instant: a look without end is a day without end."""

    async def send(_job: Job, _reads: Reads) -> Effect:
        raise Permanent("a fault of ours")

    floor.handlers["send"] = one_by_one(send)
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(36)
    looked_at = desk.waiting("expire")
    desk.clock.set(desk.session.closes_at)
    await floor.now()
    at_the_close = desk.waiting("expire")
    await floor.step()

    assert (len(looked_at), len(at_the_close), desk.waiting("expire")) == (1, 1, [])
    assert floor.order(plan, Leg.ENTRY).state is OrderState.PENDING


async def test_a_lost_cancel_is_asked_for_again(desk: Any, floor: Any, broker: Any) -> None:
    broker.cancels_lost = 3
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(42)

    assert broker.calls.count(("cancel", "b-0")) == 4
    assert floor.outcome(plan) == "CANCELLED"


async def test_what_a_successor_may_have_placed_is_not_cancelled(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(34)
    floor.leads = False
    await floor.until(36)
    asked = broker.calls.count(("cancel", "b-0"))
    floor.leads = True
    await floor.until(40)

    assert (asked, broker.calls.count(("cancel", "b-0"))) == (0, 1)
    assert floor.outcome(plan) == "CANCELLED"


async def test_a_fill_that_races_the_cancel_of_its_entry_counts_and_is_protected(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(35)  # the cancel is on its way
    broker.trade(broker.named(entry), 40, "104.02")
    await floor.until(40)
    target, stop = floor.order(plan, Leg.TARGET, 1), floor.order(plan, Leg.STOP, 1)

    assert ("cancel", "b-0") in broker.calls
    assert (floor.order(plan, Leg.ENTRY).state, floor.outcome(plan), floor.held()) == (OrderState.CANCELLED, "FILLED", 40)
    assert (target.state, stop.state) == (OrderState.ACCEPTED, OrderState.ACCEPTED)
    assert broker.requests[-1].quantity == 40


async def test_a_partly_filled_entry_is_protected_within_its_limit(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(10)
    broker.trade(broker.named(entry), 30, "104.02")
    await floor.until(13)

    request = broker.requests[-1]
    assert (request.quantity, request.limit_price, request.stop_loss_price) == (30, plan.target, plan.stop)
    assert request.client_order_id == floor.order(plan, Leg.TARGET, 1).client_order_id
    assert floor.order(plan, Leg.STOP, 1).parent_client_order_id == request.client_order_id
    assert floor.order(plan, Leg.ENTRY).state is OrderState.CANCELLED


async def test_an_entry_that_fills_up_in_time_keeps_its_own_legs(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 30, "104.02")
    await floor.now()
    broker.trade(broker.named(entry), 70, "104.04")
    await floor.until(20)

    assert len(floor.submitted()) == 1
    assert {order.state for order in floor.orders(plan) if order.leg is not Leg.ENTRY} == {OrderState.ACCEPTED}
    assert desk.waiting("protect") == []


@pytest.mark.parametrize("fate", ["refuse", "drop", "lose"])
async def test_protection_that_fails_is_placed_again(desk: Any, floor: Any, broker: Any, fate: str) -> None:
    broker.submits = ["confirm", fate]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 30, "104.02")
    await floor.now()
    await floor.until(12)
    working = [o for o in floor.orders(plan) if o.leg is Leg.STOP and o.state is OrderState.ACCEPTED]

    assert len(working) == 1
    assert len([o for o in broker.orders.values() if o.leg is Leg.STOP and o.state is OrderState.ACCEPTED]) == 1
    assert desk.waiting("protect") == []


async def test_protection_refused_for_ever_is_parked_for_a_person(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["confirm"] + ["refuse"] * 100
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 30, "104.02")
    await floor.now()
    await floor.until(40)

    assert [status for _, status, _ in desk.waiting("protect")] == ["PARKED"]
    assert len(floor.submitted()) == 1 + 4


async def test_what_a_person_has_sold_is_not_protected(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 30, "104.02")
    await floor.now()
    sold = ExecutionReport("x-person", "b-person", "IBM", Side.SELL, 30, Decimal(103), Decimal(0), desk.clock.now())
    broker.executions.append(sold)
    await floor.until(12)

    assert (len(broker.requests), desk.told("not_protected"), desk.waiting("protect")) == (1, 1, [])


async def test_protection_of_what_is_gone_by_then_does_nothing(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    await floor.bracket(plan)

    assert await floor.exits.protect(desk.job("protect", decision_id=plan.decision_id), desk.reads) == Effect()


async def filled(desk: Any, floor: Any, broker: Any, quantity: int = 100) -> Any:
    plan = await desk.approved(quantity=quantity)
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), quantity, "104.02")
    await floor.now()
    return plan


async def test_flat_before_the_close_is_cancel_wait_close(desk: Any, floor: Any, broker: Any) -> None:
    plan = await filled(desk, floor, broker)
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT)
    cancelled = [call for call in broker.calls if call[0] == "cancel"]
    sent_in_the_same_breath = len(floor.submitted())
    await floor.until(FLAT_AT + 1)
    exit_order = floor.order(plan, Leg.EXIT)
    broker.trade(broker.named(exit_order.client_order_id), 100, "103.00")
    await floor.until(FLAT_AT + 2)

    assert {name for _, name in cancelled} == {"b-0-TARGET", "b-0-STOP"}
    assert sent_in_the_same_breath == 1
    assert broker.requests[-1].quantity == 100
    assert (floor.held(), floor.exit(plan), desk.told("position_flat")) == (0, "TIME", 1)
    await floor.until(392)
    assert len(floor.submitted()) == 2
    assert desk.waiting("flatten") == desk.waiting("close_out") == []


async def test_a_target_that_fills_while_its_cancel_is_on_the_way_leaves_nothing_to_close(
    desk: Any, floor: Any, broker: Any
) -> None:
    plan = await filled(desk, floor, broker)
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT)
    broker.cancelling.clear()
    broker.trade("b-0-TARGET", 100, "108.03")
    await floor.until(392)

    assert len(floor.submitted()) == 1
    assert (floor.held(), floor.exit(plan), desk.told("position_flat")) == (0, "TARGET", 1)


async def test_only_what_is_left_is_closed_after_a_partial_exit(desk: Any, floor: Any, broker: Any) -> None:
    plan = await filled(desk, floor, broker)
    await flatten_at(desk, floor)
    await floor.until(100)
    broker.trade("b-0-TARGET", 60, "108.03")
    await floor.until(FLAT_AT + 1)

    assert broker.requests[-1].quantity == 40
    broker.trade(broker.named(floor.order(plan, Leg.EXIT).client_order_id), 40, "103.00")
    await floor.until(FLAT_AT + 2)
    assert (floor.held(), floor.exit(plan)) == (0, "TIME")
    assert sum(order.filled_quantity for order in floor.orders(plan) if order.leg is not Leg.ENTRY) == 100


@pytest.mark.parametrize("fate", ["refuse", "drop", "lose"])
async def test_an_exit_that_fails_is_found_out_and_never_doubled(desk: Any, floor: Any, broker: Any, fate: str) -> None:
    broker.submits = ["confirm", fate]
    plan = await filled(desk, floor, broker)
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT + 3)
    live = [o for o in broker.orders.values() if o.leg is None and o.state.live]

    assert [order.quantity for order in live] == [100]
    broker.trade(live[0].broker_order_id, 100, "103.00")
    await floor.until(392)
    assert (floor.held(), floor.exit(plan), desk.told("position_flat")) == (0, "TIME", 1)


async def test_exits_leave_while_halted(desk: Any, floor: Any, broker: Any) -> None:
    plan = await filled(desk, floor, broker)
    desk.halt_file.append("HALT")
    await desk.kill_switch.halt("by hand", "test")
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT + 1)

    assert floor.order(plan, Leg.EXIT).outcome is SendOutcome.CONFIRMED


async def test_an_entry_on_its_way_at_the_flattening_is_closed_too(desk: Any, floor: Any, broker: Any) -> None:
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT + 1)
    plan = await filled(desk, floor, broker)
    await floor.until(FLAT_AT + 4)
    exit_order = floor.order(plan, Leg.EXIT)
    broker.trade(broker.named(exit_order.client_order_id), 100, "103.00")
    await floor.until(392)

    assert (floor.held(), floor.exit(plan)) == (0, "TIME")


async def test_flattening_ends_with_the_session_whatever_is_left(desk: Any, floor: Any, broker: Any) -> None:
    """A halted symbol does not trade: the exit stays open, and no chain of jobs runs into the night."""
    await filled(desk, floor, broker)
    await flatten_at(desk, floor)
    await floor.until(420)

    assert floor.held() == 100
    assert desk.waiting("flatten") == desk.waiting("close_out") == []
    assert desk.queue.next_due() is None


async def test_what_the_day_before_left_over_is_closed_and_todays_trades_are_let_be(desk: Any, floor: Any, broker: Any) -> None:
    left = await filled(desk, floor, broker)
    await floor.until(60)
    today = await desk.approved("AAPL")
    entry = await floor.bracket(today)
    broker.trade(broker.named(entry), 100, "104.02")
    await floor.now()
    payload = {"until": to_text(desk.session.closes_at), "entered_before": to_text(desk.minute(30))}
    await desk.commit(Effect(next=(Next("flatten", "flatten:left over", payload, desk.minute(61)),)))
    await floor.until(63)
    broker.trade(broker.named(floor.order(left, Leg.EXIT).client_order_id), 100, "103.00")
    await floor.until(70)

    assert (floor.held("IBM"), floor.exit(left)) == (0, "TIME")
    assert (floor.held("AAPL"), len(floor.submitted())) == (100, 3)
    assert desk.waiting("flatten") == []


async def test_an_unknown_order_is_not_cancelled_before_it_is_found(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop"] * 50
    plan = await desk.approved()
    await floor.bracket(plan)
    await flatten_at(desk, floor, 7)
    await floor.until(10)

    assert [name for call, name in broker.calls if call == "cancel"] == []
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.UNRESOLVED


async def test_a_decision_without_a_plan_has_no_book(desk: Any) -> None:
    with pytest.raises(Permanent, match="dec-0: no plan"):
        decision_book(desk.reads, "dec-0")


async def test_a_short_position_is_bought_back(desk: Any, floor: Any, broker: Any) -> None:
    from finagent.domain.orders import Side

    plan = await desk.approved(side=Side.SELL)
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 100, "104.00")
    await floor.now()
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT + 1)

    assert floor.held() == -100
    assert (broker.requests[-1].side, broker.requests[-1].quantity) == (Side.BUY, 100)
    broker.trade(broker.named(floor.order(plan, Leg.EXIT).client_order_id), 100, "105.00")
    await floor.until(FLAT_AT + 2)
    assert (floor.held(), floor.exit(plan)) == (0, "TIME")


async def test_closing_out_what_holds_nothing_does_nothing(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["refuse"]
    plan = await desk.approved()
    await floor.bracket(plan)
    job = desk.job("close_out", decision_id=plan.decision_id, reason="TIME")

    assert await floor.exits.close_out(job, desk.reads) == Effect()


@pytest.fixture
async def lone(desk: Any, open_floor: Any) -> Any:
    """The protocol at a broker that takes no bracket of ours."""
    async with open_floor(desk, stop_entry_brackets=False) as floor:
        yield floor


async def test_an_entry_outside_a_bracket_gets_target_and_stop_as_soon_as_it_has_filled(desk: Any, lone: Any) -> None:
    plan = await desk.approved()
    entry = await lone.bracket(plan)
    assert [order.leg for order in lone.orders(plan)] == [Leg.ENTRY]
    assert (lone.broker.requests[0].order_class, lone.broker.requests[0].stop_loss_price) == (OrderClass.SIMPLE, None)
    lone.broker.trade(lone.broker.named(entry), 100, "104.02")
    await lone.now()

    request = lone.broker.requests[1]
    assert (request.order_class, request.quantity) == (OrderClass.OCO, 100)
    assert (request.limit_price, request.stop_loss_price) == (plan.target, plan.stop)
    await lone.until(30)
    assert len(lone.submitted()) == 2
    lone.broker.trade(lone.broker.named(request.client_order_id), 100, "108.03")
    await lone.now()
    assert (lone.held(), lone.exit(plan)) == (0, "TARGET")


async def test_one_that_fills_up_while_its_rest_may_still_fill_is_protected_whole_and_once(desk: Any, lone: Any) -> None:
    plan = await desk.approved()
    entry = await lone.bracket(plan)
    lone.broker.trade(lone.broker.named(entry), 30, "104.02")
    await lone.now()
    lone.broker.trade(lone.broker.named(entry), 70, "104.04")
    await lone.now()
    await lone.until(20)

    assert [request.quantity for request in lone.broker.requests] == [100, 100]
    assert desk.waiting("protect") == []


async def test_a_partly_filled_one_is_cancelled_and_what_it_holds_protected(desk: Any, lone: Any) -> None:
    plan = await desk.approved()
    entry = await lone.bracket(plan)
    lone.broker.trade(lone.broker.named(entry), 30, "104.02")
    await lone.until(12)

    assert lone.order(plan, Leg.ENTRY).state is OrderState.CANCELLED
    assert [request.quantity for request in lone.broker.requests] == [100, 30]


@pytest.mark.parametrize("bracket", [True, False])
async def test_a_price_past_the_stop_closes_what_no_stop_protects_yet(desk: Any, open_floor: Any, bracket: bool) -> None:
    async with open_floor(desk, stop_entry_brackets=bracket) as floor:
        plan = await desk.approved()
        entry = await floor.bracket(plan)
        floor.broker.trade(floor.broker.named(entry), 30, "104.02")
        floor.price = plan.stop
        await floor.until(12)
        request = floor.broker.requests[-1]
        assert (request.type, request.quantity, request.side) == (OrderType.MARKET, 30, Side.SELL)
        floor.broker.trade(floor.broker.named(request.client_order_id), 30, "101.90")
        await floor.until(20)
        assert (floor.held(), floor.exit(plan), len(floor.submitted())) == (0, "STOP", 2)


async def test_at_the_close_an_entry_outside_a_bracket_leaves_nothing(desk: Any, lone: Any) -> None:
    plan = await desk.approved()
    entry = await lone.bracket(plan)
    lone.broker.trade(lone.broker.named(entry), 100, "104.02")
    await lone.now()
    await flatten_at(desk, lone)
    await lone.until(FLAT_AT + 1)
    lone.broker.trade(lone.broker.named(lone.order(plan, Leg.EXIT).client_order_id), 100, "103.00")
    await lone.until(392)
    assert (lone.held(), lone.exit(plan)) == (0, "TIME")
    assert all(not order.state.live for order in lone.orders(plan))


async def test_a_halt_cancels_the_entries_that_wait_at_the_broker_and_nothing_else(desk: Any, floor: Any, broker: Any) -> None:
    """An entry that fills after the halt would be new risk."""
    held, waiting = await filled(desk, floor, broker), await desk.approved("AAPL")
    entry = await floor.bracket(waiting)
    await desk.kill_switch.halt("smoke", "ann")
    await floor.now()
    await floor.until(8)

    assert [name for call, name in broker.calls if call == "cancel"] == [broker.named(entry)]
    assert (floor.outcome(waiting), floor.order(waiting, Leg.ENTRY).state) == ("CANCELLED", OrderState.CANCELLED)
    assert floor.order(held, Leg.STOP).state is OrderState.ACCEPTED


async def test_a_halt_that_flattens_closes_out_what_is_held(desk: Any, floor: Any, broker: Any) -> None:
    plan = await filled(desk, floor, broker)
    desk.kill_switch.flat_by = lambda now: desk.session.closes_at
    await desk.kill_switch.halt("smoke", "ann", flatten=True)
    await floor.now()
    await floor.until(7)
    request = broker.requests[-1]
    assert (request.type, request.quantity, request.side) == (OrderType.MARKET, 100, Side.SELL)
    broker.trade(broker.named(request.client_order_id), 100, "103.00")
    await floor.until(9)
    assert (floor.held(), floor.exit(plan), desk.state().state.value) == (0, "MANUAL", "HALTED")


async def test_a_locked_strategy_has_its_waiting_entry_cancelled_and_its_position_protected(
    desk: Any, floor: Any, broker: Any
) -> None:
    """Another strategy's entry stays at the broker; what is held keeps its stop and target."""
    held, waiting, other = await desk.approved("AAPL"), await desk.approved("IBM"), await desk.approved("MSFT")
    for plan in (held, waiting, other):
        await floor.bracket(plan)
    broker.trade("b-0", 100, "104.10")
    await floor.now()
    for plan in (held, waiting):
        await desk.kill_switch.lock_strategy(f"for {plan.symbol}", "fills look wrong", "ann")
    await floor.until(9)

    assert [call for call in broker.calls if call[0] == "cancel"] == [("cancel", "b-3")]
    assert floor.order(waiting, Leg.ENTRY).state is OrderState.CANCELLED
    assert floor.order(other, Leg.ENTRY).state is OrderState.ACCEPTED
    assert {floor.order(held, leg).state for leg in (Leg.STOP, Leg.TARGET)} <= {OrderState.HELD, OrderState.ACCEPTED}
