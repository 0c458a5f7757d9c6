"""Executions count once, in whatever order and how often they are told; what cannot be is recorded and halts."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.errors import Conflict, InvariantViolated
from finagent.domain.orders import Fill, Leg, OrderState, SendOutcome, Side
from finagent.domain.portfolio import Position
from finagent.domain.ports.order_execution import Activity, ExecutionReport
from finagent.domain.trading_state import TradingState
from finagent.services.execution.reports import entry_ended, with_legs
from finagent.services.execution.symbol_locks import locked_symbols, objection


async def entered(desk: Any, floor: Any, broker: Any, quantity: int = 100, symbol: str = "IBM") -> Any:
    plan = await desk.approved(symbol)
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), quantity, "104.02")
    await floor.now()
    return plan


async def test_an_execution_counts_once_however_often_it_is_told(desk: Any, floor: Any, broker: Any) -> None:
    plan = await entered(desk, floor, broker)
    broker.executions *= 3
    for _ in range(3):
        await floor.activity.apply(desk.minute(0), desk.clock.now())

    position = desk.reads.get(Position, "IBM")
    assert (position.quantity, position.cash_flow, position.fees) == (100, Decimal("-10402.00"), Decimal("0.01"))
    assert desk.reads.count(Fill, decision_id=plan.decision_id) == 1
    assert desk.told("order_filled") == 1


async def test_the_first_share_makes_the_signal_filled(desk: Any, floor: Any, broker: Any) -> None:
    plan = await entered(desk, floor, broker, 1)

    assert floor.outcome(plan) == "FILLED"
    assert floor.order(plan, Leg.ENTRY).state is OrderState.PARTIALLY_FILLED
    assert [status for _, status, _ in desk.waiting("protect")] == ["SCHEDULED"]


async def test_the_average_price_is_that_of_all_fills(desk: Any, floor: Any, broker: Any) -> None:
    plan = await entered(desk, floor, broker, 30)
    broker.trade("b-0", 70, "104.20")
    await floor.now()

    assert floor.order(plan, Leg.ENTRY).average_price == Decimal("104.146")


async def test_fills_of_several_symbols_in_one_answer_all_count(desk: Any, floor: Any, broker: Any) -> None:
    plans = [await desk.approved(symbol) for symbol in ("IBM", "AAPL", "MSFT")]
    for plan in plans:
        broker.trade(broker.named(await floor.bracket(plan)), 10, "104.02")
    await floor.now()

    assert [floor.held(symbol) for symbol in ("IBM", "AAPL", "MSFT")] == [10, 10, 10]


async def test_the_leg_that_traded_last_names_the_exit(desk: Any, floor: Any, broker: Any) -> None:
    plan = await entered(desk, floor, broker)
    broker.trade("b-0-TARGET", 60, "108.03")
    desk.clock.set(desk.minute(6))
    broker.trade("b-0-STOP", 40, "102.00")
    await floor.now(desk.minute(5))

    assert (floor.held(), floor.exit(plan), desk.told("position_flat")) == (0, "STOP", 1)


async def test_a_foreign_execution_locks_its_symbol_and_stops_nothing_else(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 100, "104.02")
    stranger = ExecutionReport("x-other", "b-other", "IBM", Side.BUY, 5, Decimal(100), Decimal(0), desk.clock.now())
    broker.executions.append(stranger)
    await floor.now()
    await floor.now()

    assert (floor.held(), floor.outcome(plan)) == (100, "FILLED")
    assert objection("IBM", desk.reads) == "IBM is locked: execution x-other is of no order of ours"
    assert (desk.told("symbol_locked"), desk.state().state) == (1, TradingState.ACTIVE)


async def test_a_foreign_order_is_left_alone_and_locks_its_symbol(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    await floor.bracket(plan)
    broker.orders["b-9"] = replace(broker.orders["b-0"], broker_order_id="b-9", client_order_id="another's")
    await floor.now()

    assert len(floor.orders(plan)) == 3
    assert locked_symbols(desk.reads) == {"IBM"}


async def test_more_shares_than_were_ordered_are_recorded_and_halt(desk: Any, floor: Any, broker: Any) -> None:
    plan = await entered(desk, floor, broker)
    broker.trade("b-0", 10, "104.02")
    await floor.now()

    assert (floor.held(), floor.order(plan, Leg.ENTRY).state) == (110, OrderState.FILLED)
    assert desk.state().state is TradingState.HALTED
    assert "110 shares filled of 100" in desk.state().reason


async def test_exits_that_sell_more_than_was_bought_are_recorded_and_halt(desk: Any, floor: Any, broker: Any) -> None:
    plan = await entered(desk, floor, broker, 40)
    broker.trade("b-0-STOP", 70, "102.00")
    await floor.now()

    assert (floor.held(), floor.exit(plan)) == (-30, "")
    assert desk.state().state is TradingState.ACTIVE, "its entry may be told later"
    await floor.step()
    assert desk.state().state is TradingState.HALTED
    assert "exits filled 30 shares more than the entry" in desk.state().reason


@pytest.mark.parametrize("last", ["STOP", "TARGET"])
async def test_how_a_decision_was_left_is_found_again_when_the_rest_is_told(
    desk: Any, floor: Any, broker: Any, last: str
) -> None:
    """A part of the entry and the exit of that part are told first: it looked flat already."""
    plan = await entered(desk, floor, broker, 40)
    broker.trade("b-0-TARGET", 40, "108.03")
    await floor.now()
    assert (floor.held(), floor.exit(plan)) == (0, "TARGET")
    desk.clock.set(desk.minute(6))
    broker.trade("b-0", 60, "104.02")
    await floor.now(desk.minute(5))
    assert floor.exits._not_flat(None, desk.reads) == {plan.decision_id}
    broker.trade(f"b-0-{last}", 60, "102.00")
    await floor.now()

    assert (floor.held(), floor.exit(plan)) == (0, last)
    assert desk.told("position_flat") == (2 if last == "STOP" else 1)


async def test_a_fill_after_the_end_was_told_is_true_all_the_same(desk: Any, floor: Any, broker: Any) -> None:
    """The broker said cancelled and unfilled, and then tells a fill: the position is ours, and a person is called."""
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    for name in ("b-0", "b-0-TARGET", "b-0-STOP"):
        broker.end(name, OrderState.CANCELLED)
    await floor.now()
    told = floor.outcome(plan)
    broker.executions.append(
        ExecutionReport("x-late", broker.named(entry), "IBM", Side.BUY, 40, Decimal("104.02"), Decimal(0), desk.clock.now())
    )
    await floor.now()
    await floor.until(8)

    assert (told, floor.outcome(plan), floor.held()) == ("CANCELLED", "FILLED", 40)
    assert desk.reads.count(DecisionOutcome) == 1
    assert desk.state().state is TradingState.HALTED
    assert floor.order(plan, Leg.STOP, 1).state is OrderState.ACCEPTED  # and what we hold is protected


async def test_a_confirmed_order_is_known_from_the_activity_alone(desk: Any, floor: Any, broker: Any) -> None:
    broker.submits = ["lose"]
    plan = await desk.approved()
    await floor.bracket(plan)
    await floor.now()

    assert {order.outcome for order in floor.orders(plan)} == {SendOutcome.CONFIRMED}
    assert {order.leg: order.state for order in floor.orders(plan)}[Leg.STOP] is OrderState.HELD


async def test_activity_that_meets_another_commit_reads_again(desk: Any, floor: Any, broker: Any) -> None:
    """Two spans at once: one of them finds the order changed, and books only what the other did not."""
    plan = await desk.approved()
    entry = await floor.bracket(plan)
    broker.trade(broker.named(entry), 60, "104.02")
    await asyncio.gather(*(floor.activity.apply(desk.minute(0), desk.clock.now()) for _ in range(4)))

    assert (floor.held(), desk.reads.count(Fill, decision_id=plan.decision_id)) == (60, 1)
    assert desk.state().state is TradingState.ACTIVE


history = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lambda: tmp_path_factory.mktemp("store")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(history, st.sampled_from(["full", "cancelled"]), st.data())
def test_any_order_and_any_split_of_the_same_news_end_in_the_same_state(
    fresh: Any, open_desk: Any, open_floor: Any, sizes: list[int], ending: str, data: st.DataObject
) -> None:
    """Executions and reports of one entry, told in any order, in any number of answers, some of them twice."""

    async def told(folder: Path, mixed: bool) -> tuple[Any, ...]:
        async with open_desk(folder) as desk, open_floor(desk) as floor:
            broker = floor.broker
            total = sum(sizes) + (0 if ending == "full" else 7)
            plan = await desk.approved(quantity=total)
            entry = await floor.bracket(plan)
            news: list[Activity] = [await broker.activity(desk.minute(0), desk.clock.now())]
            for size in sizes:
                broker.trade(broker.named(entry), size, "104.02")
                news.append(Activity((broker.executions[-1],), ()))
                news.append(Activity((), tuple(broker.orders.values())))
            if ending == "cancelled":
                for name in list(broker.orders):
                    broker.end(name, OrderState.CANCELLED)
                news.append(Activity((), tuple(broker.orders.values())))
            if mixed:
                news = data.draw(st.permutations(news)) + data.draw(st.lists(st.sampled_from(news), max_size=3))
            complete = True
            for each in news:
                broker.activity = answering(each)
                complete &= await floor.activity.apply(desk.minute(0), desk.clock.now())
            if not complete:
                broker.activity = answering(Activity(tuple(broker.executions), tuple(broker.orders.values())))
                assert await floor.activity.apply(desk.minute(0), desk.clock.now())
            orders = [(o.leg, o.state, o.filled_quantity, o.average_price, o.outcome) for o in floor.orders(plan)]
            position = desk.reads.get(Position, "IBM")
            return orders, position.quantity, position.cash_flow, position.fees, floor.outcome(plan), desk.state().state

    assert asyncio.run(told(fresh(), mixed=True)) == asyncio.run(told(fresh(), mixed=False))


def answering(answer: Activity) -> Any:
    async def activity(since: Any, until: Any) -> Activity:
        return answer

    return activity


class Contended:
    """A queue whose every commit meets another version: somebody else is always faster."""

    def __init__(self) -> None:
        self.tries = 0

    async def submit(self, effect: Effect) -> list[Any]:
        self.tries += 1
        raise Conflict("another version")


async def test_news_that_stays_in_conflict_is_not_dropped(desk: Any, floor: Any, broker: Any) -> None:
    """The bound of the retries is an error, never silence: the fills are still to be booked."""
    plan = await desk.approved()
    broker.trade(broker.named(await floor.bracket(plan)), 10, "104.02")
    contended = Contended()
    with pytest.raises(InvariantViolated, match="still in conflict"):
        await replace(floor.activity, queue=contended).apply(desk.minute(0), desk.clock.now())

    assert contended.tries == floor.activity.conflict_retries_max + 1
    assert desk.reads.count(Fill) == 0


async def test_a_nested_leg_is_listed_behind_its_parent_once(desk: Any, floor: Any, broker: Any) -> None:
    plan = await desk.approved()
    parent = broker.with_legs(broker.orders[broker.named(await floor.bracket(plan))])
    listed = [report.broker_order_id for report in with_legs([parent, *parent.legs])]

    assert listed == [parent.broker_order_id, *(leg.broker_order_id for leg in parent.legs)]
    assert len(parent.legs) == 2


async def test_a_candidate_ends_once(desk: Any, floor: Any, broker: Any) -> None:
    """An ending that comes after the outcome adds nothing."""
    plan = await entered(desk, floor, broker)
    late = entry_ended(floor.order(plan, Leg.ENTRY), SignalOutcome.CANCELLED, "late news", desk.reads, desk.clock.now())

    assert late == Effect()
