"""What went wrong in other systems, with their issue in the name: none of it is possible here."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.execution.test_exits import FLAT_AT, filled, flatten_at
from tests.unit.services.pipeline.test_risk import gate, gather, judge
from tests.unit.services.test_live import POLICY

from finagent.adapters.clock import RunningClock
from finagent.adapters.database.reader import SqliteReads
from finagent.domain.effect import Effect
from finagent.domain.errors import Transient, Unavailable
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderState, SendOutcome, Side
from finagent.domain.portfolio import Position
from finagent.domain.ports.order_execution import Activity, ExecutionReport, Found
from finagent.domain.risk import RiskCode, RiskSnapshot, Verdict
from finagent.domain.time import to_text
from finagent.domain.trading_state import TradingState
from finagent.services.execution.reconciliation import Reconciler, ReconciliationPolicy
from finagent.services.execution.symbol_locks import locked_symbols
from finagent.services.live import BrokerWatch


@pytest.fixture
def reconciler(desk: Any, floor: Any, broker: Any) -> Reconciler:
    async def look() -> None:
        await floor.now(desk.minute(0))

    return Reconciler(broker, desk.clock, ReconciliationPolicy(30), desk.kill_switch, look)


async def reconciled(desk: Any, reconciler: Reconciler) -> None:
    """A start, then a timed comparison."""
    await reconciler.start(desk.reads)
    job = desk.job("reconcile", until=to_text(desk.session.closes_at))
    effect = await reconciler.reconcile(job, desk.reads)
    await desk.queue.submit(Effect(effect.records, (), effect.events))  # without the one that follows it


async def test_hummingbot_493_a_time_out_is_no_failure(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    plan = await desk.approved()
    await floor.bracket(plan)

    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.UNRESOLVED
    assert floor.outcome(plan) == ""
    await floor.until(8)
    assert (floor.order(plan, Leg.ENTRY).outcome, len(floor.submitted())) == (SendOutcome.CONFIRMED, 1)


async def test_hummingbot_2342_a_sell_that_timed_out_is_looked_up_before_anything_else(
    desk: Any, floor: Any, broker: Any
) -> None:
    plan = await filled(desk, floor, broker)
    broker.submits = ["lose"]
    await flatten_at(desk, floor)
    await floor.until(FLAT_AT + 5)

    leave = floor.order(plan, Leg.EXIT)
    calls = [call for call, name in broker.calls if name == leave.client_order_id]
    assert calls[0] == "submit"
    assert "submit" not in calls[1:]
    assert leave.outcome is SendOutcome.CONFIRMED
    broker.trade(broker.named(leave.client_order_id), 100, "103.00")
    await floor.step()
    assert (floor.held(), floor.exit(plan)) == (0, "TIME")


async def test_hummingbot_8457_no_answer_never_counts_as_not_found(desk: Any, floor: Any, broker: Any) -> None:
    """Six look-ups of an outage say nothing; the order was there all the time."""
    broker.submits, broker.look_ups = ["lose"], [Found.UNKNOWN] * 6
    plan = await desk.approved()
    await floor.bracket(plan)
    broker.activity = silence
    for _ in range(8):
        desk.clock.set(desk.clock.now() + timedelta(minutes=1))
        await floor.processor.drain_instant(desk.clock.now())

    assert floor.order(plan, Leg.ENTRY).outcome is SendOutcome.CONFIRMED
    assert len(floor.submitted()) == 1


async def silence(_since: Any, _until: Any) -> Activity:
    raise Transient("no route to host")


async def test_hummingbot_3374_what_nobody_knows_the_fate_of_is_exposure(
    desk: Any, floor: Any, broker: Any, market: Any, open_feed: Any
) -> None:
    broker.submits, broker.look_ups = ["lose"], [Found.UNKNOWN] * 99
    await floor.bracket(await desk.approved("AAPL", 200))
    service = await gate(desk, market, open_feed)
    run = await desk.run(6)
    await desk.planned(run, "AAPL", 200)
    await gather(desk, service, run)
    (verdict,) = await judge(desk, service, run)

    bound = sum(each.notional for each in desk.reads.get(RiskSnapshot, run).exposures)
    assert bound > 20_000
    assert (verdict.verdict, verdict.code) == (Verdict.REDUCED, RiskCode.POSITION_SIZE)


async def test_nautilus_3176_a_restart_orders_nothing_again(desk: Any, floor: Any, broker: Any, reconciler: Reconciler) -> None:
    for symbol in ("AAPL", "IBM", "MSFT"):
        await floor.bracket(await desk.approved(symbol))
    before = len(broker.requests), desk.reads.count(BrokerOrder)
    for _ in range(3):
        await floor.now(desk.minute(0))
        await reconciled(desk, reconciler)
        await floor.now()

    assert (len(broker.requests), desk.reads.count(BrokerOrder)) == before


async def test_nautilus_3046_a_fill_that_is_told_again_after_a_restart_counts_once(desk: Any, floor: Any, broker: Any) -> None:
    await filled(desk, floor, broker)
    for _ in range(3):
        await floor.activity.apply(desk.minute(-10_000), desk.clock.now())

    assert (floor.held(), desk.reads.count(Fill)) == (100, 1)


async def test_nautilus_5000_no_comparison_ends_an_order_that_works(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    for number in range(14):
        await floor.bracket(await desk.approved(f"S{number}"))
    await reconciled(desk, reconciler)

    assert [call for call, _ in broker.calls if call == "cancel"] == []
    live = [order for order in desk.reads.find(BrokerOrder, leg=Leg.ENTRY) if order.state is OrderState.ACCEPTED]
    assert (len(live), locked_symbols(desk.reads)) == (14, set())


async def test_nautilus_4739_what_is_somebody_elses_is_seen_and_never_made_ours(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    await floor.bracket(await desk.approved())
    ours = desk.reads.count(BrokerOrder)
    broker.orders["b-9"] = replace(broker.orders["b-0"], broker_order_id="b-9", client_order_id="another's", symbol="MSFT")
    broker.executions.append(ExecutionReport("x-9", "b-9", "MSFT", Side.BUY, 5, Decimal(100), Decimal(0), desk.clock.now()))
    await floor.now()
    await reconciled(desk, reconciler)

    assert (desk.reads.count(BrokerOrder), desk.reads.count(Fill), floor.held("MSFT")) == (ours, 0, 0)
    assert (locked_symbols(desk.reads), len(broker.requests)) == ({"MSFT"}, 1)


async def test_nautilus_3493_no_fill_is_inferred_before_the_real_one(desk: Any, floor: Any, broker: Any) -> None:
    """The order is told as filled, its execution comes later: it counts once."""
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 100, "104.02")
    late, broker.executions = broker.executions, []
    assert await floor.activity.apply(desk.minute(0), desk.clock.now()) is False
    assert (floor.held(), desk.reads.count(Fill), floor.order(plan, Leg.ENTRY).state) == (0, 0, OrderState.ACCEPTED)
    broker.executions = late
    assert await floor.activity.apply(desk.minute(0), desk.clock.now())

    assert (floor.held(), desk.reads.count(Fill), floor.order(plan, Leg.ENTRY).state) == (100, 1, OrderState.FILLED)


async def test_nautilus_live_a_silent_venue_rejects_nothing_it_parks_and_locks(
    desk: Any, floor: Any, broker: Any, market: Any, open_feed: Any
) -> None:
    broker.submits, broker.look_ups = ["lose"], [Found.UNKNOWN] * 99
    plan = await desk.approved()
    await floor.bracket(plan)
    broker.orders.clear()
    await floor.until(30)

    assert (floor.order(plan, Leg.ENTRY).state, floor.outcome(plan)) == (OrderState.PARKED, "")
    service = await gate(desk, market, open_feed)
    run = await desk.run(30)
    await desk.planned(run, "IBM", 10)
    await gather(desk, service, run)
    assert [verdict.code for verdict in await judge(desk, service, run)] == [RiskCode.SYMBOL_LOCKED]


async def test_quantdinger_232_an_old_report_after_a_restart_takes_nothing_back_and_books_nothing_twice(
    desk: Any, floor: Any, broker: Any
) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 40, "104.02")
    stale: Activity = await broker.activity(desk.minute(0), desk.clock.now())
    broker.trade(broker.named(entry), 60, "104.02")
    await floor.now()

    async def told(_since: Any, _until: Any) -> Activity:
        return stale

    broker.activity = told
    await floor.now()
    assert (floor.held(), floor.order(plan, Leg.ENTRY).filled_quantity) == (100, 100)
    assert floor.order(plan, Leg.ENTRY).state is OrderState.FILLED


async def test_freqtrade_6353_reads_while_trades_are_written_never_meet_a_locked_database(
    desk: Any, floor: Any, broker: Any, database: Path
) -> None:
    """Another connection reads all the time, as the API does."""
    plans = [await desk.approved(f"S{number}") for number in range(30)]
    stop = threading.Event()

    def read() -> int:
        reads, seen = SqliteReads(database), 0
        while not stop.is_set():
            seen = reads.count(BrokerOrder)
        reads.close()
        return seen

    reading = asyncio.create_task(asyncio.to_thread(read))
    for plan in plans:
        broker.trade(broker.named(await floor.bracket(plan)), 100, "104.02")
        await floor.now()
    stop.set()
    assert await reading > 0
    assert desk.reads.count(Fill) == len(plans)


async def test_freqtrade_3647_a_cancelled_entry_that_had_filled_is_held_and_protected(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    await floor.until(35)
    assert ("cancel", "b-0") in broker.calls
    broker.cancelling.clear()
    broker.trade(broker.named(entry), 100, "104.02")
    await floor.until(38)

    assert (floor.outcome(plan), floor.held()) == ("FILLED", 100)
    assert floor.order(plan, Leg.STOP).state is OrderState.ACCEPTED


@pytest.mark.parametrize("looked", [False, True], ids=["locked", "released"])
async def test_freqtrade_7606_what_a_person_has_sold_is_neither_protected_nor_sold_again(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler, looked: bool
) -> None:
    """After a crash and a close by hand: their position wins, and a person sees the difference."""
    await filled(desk, floor, broker)
    for leg in (Leg.TARGET, Leg.STOP):
        broker.end(f"b-0-{leg.value}", OrderState.CANCELLED)
    sold = ExecutionReport("x-person", "b-person", "IBM", Side.SELL, 100, Decimal(103), Decimal(0), desk.clock.now())
    broker.executions.append(sold)
    await floor.now()
    await reconciled(desk, reconciler)
    assert locked_symbols(desk.reads) == {"IBM"}
    if looked:
        await desk.queue.submit(await reconciler.release(desk.reads, "ann"))
    requests = len(broker.requests)
    await flatten_at(desk, floor)
    await floor.until(392)

    assert len(broker.requests) == requests, "selling them again would be a short sale"


async def test_freqtrade_6392_a_404_for_a_stop_that_filled_ends_nothing(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    plan = await filled(desk, floor, broker)
    broker.look_ups = [Found.NO] * 9
    hidden = {name: broker.orders.pop(name) for name in list(broker.orders)}
    differences = await reconciler.differences(desk.reads)
    assert floor.order(plan, Leg.STOP).state is OrderState.ACCEPTED
    broker.orders = hidden
    broker.look_ups = []
    broker.trade("b-0-STOP", 100, "102.00")
    await floor.now()

    assert differences == ()
    assert (floor.held(), floor.exit(plan)) == (0, "STOP")


async def test_freqtrade_11212_a_partial_fill_has_a_deadline_and_an_end(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    broker.trade(broker.named(await floor.bracket(plan)), 60, "104.02")
    await floor.now()
    await floor.until(9)

    assert floor.order(plan, Leg.ENTRY).state is OrderState.CANCELLED
    assert {floor.order(plan, leg, 1).state for leg in (Leg.TARGET, Leg.STOP)} == {OrderState.ACCEPTED}
    assert desk.waiting("protect") == []


async def test_alpaca_api_165_what_replaces_a_partly_filled_order_is_for_what_was_filled(
    desk: Any, floor: Any, broker: Any
) -> None:
    plan = await desk.approved()
    broker.trade(broker.named(await floor.bracket(plan)), 60, "104.02")
    await floor.now()
    await floor.until(9)

    assert [request.quantity for request in broker.requests] == [100, 60]
    assert floor.order(plan, Leg.ENTRY).filled_quantity == 60


async def test_lumibot_395_open_orders_are_known_before_anything_is_done(
    desk: Any, floor: Any, broker: Any, database: Path
) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    again = SqliteReads(database)
    known = {order.client_order_id: order.state for order in again.find(BrokerOrder, decision_id=plan.decision_id)}
    again.close()

    assert (known[entry], len(known)) == (OrderState.ACCEPTED, 3)


async def test_lumibot_1170_a_read_that_failed_is_not_an_empty_one(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    await filled(desk, floor, broker)
    broker.readable = False
    with pytest.raises(Unavailable):
        await reconciler.start(desk.reads)
    with pytest.raises(Transient):
        await reconciler.reconcile(desk.job("reconcile", until=to_text(desk.session.closes_at)), desk.reads)

    assert (floor.held(), desk.reads.get(Position, "IBM").quantity, desk.state().state) == (100, 100, TradingState.ACTIVE)
    assert desk.kill_switch.objection() == "start gate RECONCILING", "no new risk on what was not compared"


async def test_lean_ib_249_fills_of_an_hour_without_connection_are_fetched_afterwards(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    clock = RunningClock(desk.clock.now(), lambda: (desk.clock.now() - desk.minute(5)).total_seconds())
    watch = BrokerWatch(floor.activity, clock, POLICY, desk.minute(0))
    await watch.catch_up()
    answers, broker.activity = broker.activity, silence
    for minute in range(6, 65):
        desk.clock.set(desk.minute(minute))
        if minute in (10, 50):
            broker.trade(broker.named(entry), 50, "104.02")
        with pytest.raises(Transient):
            await watch.catch_up()
    assert watch.silent_seconds() > 3500, "and nobody may think meanwhile that all is well"
    broker.activity = answers
    await watch.catch_up()

    assert (floor.held(), desk.reads.count(Fill, decision_id=plan.decision_id)) == (100, 2)


async def test_octobot_3190_a_restart_leaves_protection_where_it_is_at_the_broker(
    desk: Any, floor: Any, broker: Any, reconciler: Reconciler
) -> None:
    plan = await filled(desk, floor, broker)
    await floor.activity.apply(desk.minute(0), desk.clock.now())
    await reconciled(desk, reconciler)
    await floor.until(20)

    assert {broker.orders[f"b-0-{leg.value}"].state for leg in (Leg.TARGET, Leg.STOP)} == {OrderState.ACCEPTED}
    assert (floor.held(), floor.exit(plan), len(broker.requests)) == (100, "", 1)
    assert not any(call == "cancel" for call, _ in broker.calls)
