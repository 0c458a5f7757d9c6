"""Sends: what is not known is looked up, nothing is sent twice, nothing leaves that may not."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.effect import Set
from finagent.domain.errors import Permanent
from finagent.domain.jobs import RETRIED
from finagent.domain.orders import BrokerOrder, Leg, OrderClass, OrderIntent, OrderState, SendOutcome
from finagent.domain.ports.order_execution import Found
from finagent.domain.trading_state import TradingState, TradingStateRecord


async def test_intents_are_committed_before_anything_is_sent(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    seen: list[int] = []

    async def look(request: Any) -> None:
        seen.append(desk.reads.count(OrderIntent, decision_id=plan.decision_id))

    broker.on_submit = look
    entry = await floor.bracket(plan)

    assert seen == [3]
    assert floor.submitted() == [entry]
    request = broker.requests[0]
    assert (request.order_class, request.quantity) == (OrderClass.BRACKET, 100)
    assert (request.take_profit_price, request.stop_loss_price) == (plan.target, plan.stop)


async def test_an_answer_confirms_the_order_and_its_legs_by_parent_and_leg(desk: Any, floor: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    states = {order.leg: (order.state, order.outcome, order.broker_order_id) for order in floor.orders(plan)}

    assert states == {
        Leg.ENTRY: (OrderState.ACCEPTED, SendOutcome.CONFIRMED, "b-0"),
        Leg.TARGET: (OrderState.HELD, SendOutcome.CONFIRMED, "b-0-TARGET"),
        Leg.STOP: (OrderState.HELD, SendOutcome.CONFIRMED, "b-0-STOP"),
    }
    assert floor.order(plan, Leg.STOP).parent_client_order_id == entry


async def test_executing_twice_commits_one_bracket(desk: Any, floor: Any) -> None:
    plan = await desk.approved()
    await floor.bracket(plan)
    again = desk.job("execute", decision_id=plan.decision_id)
    from finagent.services.pipeline.execution import ExecutionService

    effect = await ExecutionService(desk.clock, brackets=True).execute(again, desk.reads)

    assert (effect.records, effect.next) == ((), ())


async def test_a_lost_answer_is_looked_up_and_the_order_adopted(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    unknown = floor.order(plan, Leg.ENTRY)
    job = desk.job("resolve", client_order_id=entry, decision_id=plan.decision_id)
    await desk.commit(await floor.gateway.resolve(job, desk.reads))

    assert (unknown.outcome, unknown.state) == (SendOutcome.UNRESOLVED, OrderState.PENDING)
    assert [run_at for _, _, run_at in desk.waiting("resolve")] == ["2008-10-01T13:36:00.000000Z"]
    assert broker.calls == [("submit", entry), ("barrier", ""), ("look_up", entry)]
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED
    assert {order.state for order in floor.orders(plan)} == {OrderState.ACCEPTED, OrderState.HELD}


async def test_nothing_leaves_that_a_successor_could_cross(desk: Any, floor: Any, broker: Any) -> None:
    """F-06: a process that was stopped past its lease does not send; whoever leads then looks the order up and sends it."""
    floor.leads = False
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    unsent = floor.order(plan, Leg.ENTRY)
    floor.leads = True
    await floor.until(8)

    assert (unsent.outcome, unsent.sends) == (SendOutcome.UNRESOLVED, 0)
    assert broker.calls[:3] == [("barrier", ""), ("look_up", entry), ("submit", entry)]
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_an_order_that_never_arrived_is_sent_again_under_its_one_id(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop", "drop"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(9)

    assert floor.submitted() == [entry] * 3
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED
    assert floor.order(plan, Leg.ENTRY).sends == 3
    assert desk.waiting("resolve") == []


async def test_a_used_id_is_looked_up_not_taken_for_a_refusal(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    broker.look_ups = [Found.NO]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await broker.activity(desk.clock.now(), desk.clock.now())
    broker.orders["b-0"] = replace(broker.orders["b-0"], updated_at=desk.minute(-1))
    await floor.until(8)

    assert floor.submitted() == [entry] * 2
    assert floor.order(plan, Leg.ENTRY).state is OrderState.ACCEPTED
    assert floor.outcome(plan) == ""


async def test_where_ids_may_be_used_again_nothing_is_sent_twice(desk: Any, floor: Any, broker: Any) -> None:
    broker.deduplicates_forever = False
    broker.submits = ["drop"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(25)
    parked = floor.order(plan, Leg.ENTRY)
    await floor.until(392)

    assert floor.submitted() == [entry]
    assert (parked.state, parked.outcome) == (OrderState.PARKED, SendOutcome.UNRESOLVED)
    assert floor.outcome(plan) == "EXPIRED"
    assert {(order.state, order.outcome) for order in floor.orders(plan)} == {(OrderState.EXPIRED, SendOutcome.UNRESOLVED)}
    assert [desk.waiting(kind) for kind in ("resolve", "send", "expire")] == [[], [], []]


async def test_one_intent_is_sent_so_often_and_no_more(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop"] * 50
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(30)

    assert len(floor.submitted()) == 4
    assert floor.order(plan, Leg.ENTRY).state is OrderState.PARKED


async def test_nothing_is_sent_again_once_its_validity_ended(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop"]
    broker.look_ups = [Found.UNKNOWN] * 29
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(40)

    assert len(floor.submitted()) == 1


async def test_the_brokers_no_ends_entry_legs_and_candidate(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["refuse"]
    plan = await desk.approved()
    await floor.bracket(plan)

    assert {(order.state, order.outcome) for order in floor.orders(plan)} == {(OrderState.REJECTED, SendOutcome.REFUSED)}
    assert floor.outcome(plan) == "REJECTED"
    assert floor.order(plan, Leg.ENTRY).reason == "403 not today"


async def test_a_no_to_the_second_send_says_nothing_of_the_first(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop", "refuse"]
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(6)

    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.UNRESOLVED
    assert floor.outcome(plan) == ""


@pytest.mark.parametrize("why", ["file", "state", "strategy", "reducing"])
async def test_no_entry_leaves_while_new_risk_is_stopped(desk: Any, floor: Any, broker: Any, why: str) -> None:
    plan = await desk.approved()
    if why == "file":
        desk.halt_file.append("HALT")
    elif why == "state":
        await desk.kill_switch.halt("by hand", "test")
    elif why == "strategy":
        await desk.kill_switch.lock_strategy("for IBM", "by hand", "test")
    else:
        from finagent.services.kill_switch import state_change

        await desk.commit(state_change(desk.reads, TradingState.REDUCING, "by hand", "test", desk.clock.now()))
    await floor.bracket(plan)

    assert floor.submitted() == []
    assert {(order.state, order.outcome) for order in floor.orders(plan)} == {(OrderState.DENIED, SendOutcome.DENIED)}
    assert floor.outcome(plan) == "RISK_DENIED"


async def test_an_entry_whose_validity_ends_while_it_waits_at_the_broker_is_expired(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()

    async def wait(_request: Any) -> None:
        desk.clock.set(plan.valid_until)

    broker.on_submit = wait
    await floor.bracket(plan)

    assert {(order.state, order.outcome) for order in floor.orders(plan)} == {(OrderState.DENIED, SendOutcome.DENIED)}
    assert floor.outcome(plan) == "EXPIRED"


async def test_an_entry_that_never_left_is_denied(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["deny"]
    plan = await desk.approved()
    await floor.bracket(plan)

    assert {(order.state, order.outcome) for order in floor.orders(plan)} == {(OrderState.DENIED, SendOutcome.DENIED)}
    assert floor.order(plan, Leg.ENTRY).sends == 0
    assert floor.outcome(plan) == "RISK_DENIED"


async def test_a_second_send_that_never_left_says_nothing_of_the_first(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop", "deny"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(10)

    assert floor.submitted() == [entry] * 3
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_what_is_found_is_ours_also_while_another_request_may_arrive(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    broker.barriers_lost = 99
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.until(6)

    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_an_unknown_order_is_not_sent_again_while_a_request_may_arrive(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop"]
    broker.barriers_lost = 5
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(8)
    waiting = floor.submitted()
    await floor.until(14)

    assert (waiting, floor.submitted()) == ([entry], [entry] * 2)


async def test_an_entry_found_too_late_expires_unsent(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    desk.clock.set(plan.valid_until)
    await floor.bracket(plan)

    assert floor.submitted() == []
    assert floor.outcome(plan) == "EXPIRED"


async def test_a_halt_between_two_sends_leaves_the_order_to_be_looked_up(desk: Any, floor: Any, broker: Any) -> None:
    """The first send may have arrived: it is not denied, and the look-ups go on until it is known."""
    broker.submits = ["drop"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    desk.halt_file.append("HALT")
    await floor.until(10)
    halted = floor.order(plan, Leg.ENTRY)
    desk.halt_file.clear()
    await floor.until(12)

    assert (halted.state, halted.outcome, len(desk.waiting("resolve"))) == (OrderState.PENDING, SendOutcome.UNRESOLVED, 0)
    assert floor.submitted() == [entry] * 2
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_a_halt_that_lasts_ends_the_candidate_all_the_same(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop"]
    plan = await desk.approved()
    await floor.bracket(plan)
    desk.halt_file.append("HALT")
    await floor.until(393)

    assert len(floor.submitted()) == 1
    assert floor.outcome(plan) == "EXPIRED"


async def committed(desk: Any, floor: Any) -> tuple[Any, str]:
    """An intent whose send job never ran in this process."""
    plan = await desk.approved()
    from finagent.services.pipeline.execution import ExecutionService

    effect = await ExecutionService(desk.clock, brackets=True).execute(
        desk.job("execute", decision_id=plan.decision_id), desk.reads
    )
    await desk.commit(replace(effect, next=()))
    return plan, floor.order(plan, Leg.ENTRY).client_order_id


@pytest.mark.parametrize("rerun", [{"crashes": 1}, {"attempts": 1}, {RETRIED: True}])
async def test_a_send_run_again_asks_first_and_then_sends_what_never_arrived(
    desk: Any, floor: Any, broker: Any, rerun: dict[str, int]
) -> None:
    plan, entry = await committed(desk, floor)
    job = desk.job("send", client_order_id=entry, decision_id=plan.decision_id, **rerun)
    await desk.commit(await floor.gateway.send(job, desk.reads))

    assert broker.calls == [("barrier", ""), ("look_up", entry), ("submit", entry)]
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_a_send_run_again_adopts_what_had_arrived(desk: Any, floor: Any, broker: Any) -> None:
    plan, entry = await committed(desk, floor)
    first = desk.job("send", client_order_id=entry, decision_id=plan.decision_id)
    await floor.gateway.send(first, desk.reads)  # the process dies before its effect is committed
    again = desk.job("send", client_order_id=entry, decision_id=plan.decision_id, crashes=1)
    await desk.commit(await floor.gateway.send(again, desk.reads))

    assert broker.calls == [("submit", entry), ("barrier", ""), ("look_up", entry)]
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_a_send_run_again_without_an_answer_is_unresolved_and_sends_nothing(desk: Any, floor: Any, broker: Any) -> None:
    plan, entry = await committed(desk, floor)
    broker.look_ups = [Found.UNKNOWN]
    job = desk.job("send", client_order_id=entry, decision_id=plan.decision_id, crashes=1)
    await desk.commit(await floor.gateway.send(job, desk.reads))

    assert floor.submitted() == []
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.UNRESOLVED
    assert len(desk.waiting("resolve")) == 1


async def test_a_conflict_after_the_send_does_not_send_again(desk: Any, floor: Any, broker: Any) -> None:
    """Between the send and its commit another commit changed the order: the handler runs again, and asks before it sends."""
    plan = await desk.approved()

    async def meanwhile(request: Any) -> None:
        broker.on_submit = None
        await desk.commit(Set(BrokerOrder, (request.client_order_id,), {"state": OrderState.ACCEPTED}))

    broker.on_submit = meanwhile
    entry = await floor.bracket(plan)

    assert floor.submitted() == [entry]
    assert broker.calls[1:] == [("barrier", ""), ("look_up", entry)]
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_a_send_whose_order_is_known_does_nothing(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    for handle in (floor.gateway.send, floor.gateway.resolve):
        effect = await handle(desk.job("send", client_order_id=entry, crashes=1), desk.reads)
        assert effect.records == ()

    assert floor.submitted() == [entry]


async def test_nothing_is_sent_without_a_committed_intent(desk: Any, floor: Any) -> None:
    with pytest.raises(Permanent, match="fa-unknown: no committed intent"):
        await floor.gateway.send(desk.job("send", client_order_id="fa-unknown"), desk.reads)


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "AAPL"},
        {"quantity": 99},
        {"limit_price": Decimal("104.28")},
        {"stop_price": Decimal("104.02")},
    ],
)
async def test_another_order_under_our_id_halts_and_is_never_adopted(
    desk: Any, floor: Any, broker: Any, change: dict[str, Any]
) -> None:
    broker.submits = ["lose"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.orders["b-0"] = replace(broker.orders["b-0"], updated_at=desk.minute(-1), **change)
    await floor.until(392)
    order = floor.order(plan, Leg.ENTRY)

    assert (order.state, order.outcome, order.broker_order_id) == (OrderState.PARKED, SendOutcome.UNRESOLVED, None)
    assert (desk.state().state, desk.state().by) == (TradingState.HALTED, "execution")
    assert floor.submitted() == [entry]
    assert [desk.waiting(kind) for kind in ("resolve", "expire")] == [[], []]  # a person has to look


async def test_another_order_under_our_id_in_the_activity_halts_too(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    plan = await desk.approved()
    await floor.bracket(plan)
    broker.orders["b-0"] = replace(broker.orders["b-0"], quantity=99, updated_at=desk.minute(6))
    await floor.step()

    assert desk.state().state is TradingState.HALTED
    assert floor.order(plan, Leg.ENTRY).broker_order_id is None


async def test_a_parked_entry_found_alive_after_its_validity_is_cancelled(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    broker.look_ups = [Found.UNKNOWN] * 17
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    for name in broker.orders:
        broker.orders[name] = replace(broker.orders[name], updated_at=desk.minute(-1))
    await floor.until(60)
    parked = floor.order(plan, Leg.ENTRY).state
    for name in broker.orders:
        broker.orders[name] = replace(broker.orders[name], updated_at=desk.minute(61))
    await floor.until(64)

    assert parked is OrderState.PARKED
    assert ("cancel", "b-0") in broker.calls
    assert floor.submitted() == [entry]
    assert (floor.order(plan, Leg.ENTRY).state, floor.outcome(plan)) == (OrderState.CANCELLED, "CANCELLED")


async def test_a_barrier_without_an_answer_is_a_look_up_without_one(desk: Any, floor: Any, broker: Any) -> None:
    """Silence that lasts longer than a job may fail parks no job: the order is found out as soon as there are answers again."""
    broker.submits = ["drop"]
    broker.barriers_lost = 12
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(20)

    assert floor.metering.failed == []
    assert floor.submitted() == [entry] * 2
    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED


async def test_a_send_run_again_before_a_silent_barrier_is_unresolved(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["drop"]
    broker.barriers_lost = 1
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    job = replace(desk.job("send", client_order_id=entry, decision_id=plan.decision_id), crashes=1)
    effect = await floor.gateway.send(job, desk.reads)

    assert [next_.type for next_ in effect.next] == ["resolve"]
    assert floor.submitted() == [entry]


async def test_a_look_up_asked_before_the_close_does_not_say_that_the_order_never_arrived(
    desk: Any, floor: Any, broker: Any
) -> None:
    """The answer came after the close; a request that arrived between the two would live on unseen."""
    broker.submits = ["drop"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    close = floor.gateway.session_close()
    desk.clock.set(close)
    find = broker.look_up

    async def slow(client_order_id: str) -> Any:
        answer = await find(client_order_id)
        desk.clock.set(close + timedelta(minutes=1))
        return answer

    broker.look_up = slow
    job = desk.job("resolve", client_order_id=entry, decision_id=plan.decision_id)
    early = await floor.gateway.resolve(job, desk.reads)
    late = await floor.gateway.resolve(job, desk.reads)

    assert [event.kind for event in early.events] == ["order_parked"]
    assert [event.kind for event in late.events] == ["order_never_arrived", "signal_ended"]


async def test_a_confirmed_fill_whose_executions_are_on_their_way_keeps_the_order_alive(
    desk: Any, floor: Any, broker: Any
) -> None:
    """Else a close-out would take the shares that the report counts for still held, or for never held."""
    broker.submits = ["lose"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 100, "104.02")
    await desk.commit(
        await floor.gateway.resolve(desk.job("resolve", client_order_id=entry, decision_id=plan.decision_id), desk.reads)
    )
    before = floor.order(plan, Leg.ENTRY)
    await floor.now()

    assert (before.state, before.filled_quantity) == (OrderState.ACCEPTED, 0)
    assert (floor.order(plan, Leg.ENTRY).state, floor.held(), floor.outcome(plan)) == (OrderState.FILLED, 100, "FILLED")


async def test_a_parked_entry_found_in_time_keeps_its_validity(desk: Any, floor: Any, broker: Any) -> None:
    """Parked after fifteen minutes of silence, found before it ends: its own expiry is still to come."""
    broker.submits = ["lose"]
    broker.look_ups = [Found.UNKNOWN] * 17
    plan = await desk.approved()
    await floor.bracket(plan)
    for name in broker.orders:
        broker.orders[name] = replace(broker.orders[name], updated_at=desk.minute(-1))
    await floor.until(24)
    parked = floor.order(plan, Leg.ENTRY).state
    for name in broker.orders:
        broker.orders[name] = replace(broker.orders[name], updated_at=desk.minute(25))
    await floor.until(26)
    found = floor.order(plan, Leg.ENTRY).state
    await floor.until(38)

    assert (parked, found) == (OrderState.PARKED, OrderState.ACCEPTED)
    assert floor.order(plan, Leg.ENTRY).state is OrderState.CANCELLED
    assert not any(":found:" in key for key in desk.keys("expire"))


async def test_what_is_set_aside_already_stays_so(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.orders["b-0"] = replace(broker.orders["b-0"], quantity=99, updated_at=desk.minute(-1))
    job = desk.job("resolve", client_order_id=entry, decision_id=plan.decision_id)
    await desk.commit(await floor.gateway.resolve(job, desk.reads))
    again = await floor.gateway.resolve(job, desk.reads)

    assert ([change.record_type for change in again.records], again.next) == ([TradingStateRecord], ()), "it halts, no more"
    assert (desk.told("order_parked"), desk.told("trading_state_changed")) == (1, 1)
    assert desk.state().state is TradingState.HALTED
