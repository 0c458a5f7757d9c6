"""F-41: what happened to an order, told in every order in which up to six messages can come, ends in the same state."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.conftest import WRITER, Desk, opened
from tests.unit.services.execution.conftest import Floor, ScriptedBroker, working

from finagent.adapters.database.migrate import upgrade
from finagent.domain.decision import DecisionExit, DecisionOutcome
from finagent.domain.orders import Fill, Leg, OrderState
from finagent.domain.portfolio import Position
from finagent.domain.ports.order_execution import Activity, ExecutionReport, OrderReport
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import SymbolLock, TradingState

MESSAGES = 6
Happening = Callable[[ScriptedBroker, str], None]


def fills(leg: Leg | None, quantity: int, price: str) -> Happening:
    def happen(broker: ScriptedBroker, entry: str) -> None:
        broker.trade(f"{entry}-{leg.value}" if leg else entry, quantity, price, f"x-{len(broker.executions):06}")

    return happen


def ends(leg: Leg | None, state: OrderState) -> Happening:
    def happen(broker: ScriptedBroker, entry: str) -> None:
        broker.end(f"{entry}-{leg.value}" if leg else entry, state)

    return happen


def nothing(_broker: ScriptedBroker, _entry: str) -> None:
    """The order has just been accepted."""


LIVES: dict[str, tuple[Happening, ...]] = {
    "filled in parts, stopped out": (
        nothing,
        fills(None, 40, "104.02"),
        fills(None, 60, "104.05"),
        ends(Leg.TARGET, OrderState.ACCEPTED),
        fills(Leg.STOP, 30, "102.00"),
        fills(Leg.STOP, 70, "101.90"),
    ),
    "filled, both legs trade": (
        nothing,
        fills(None, 100, "104.02"),
        ends(Leg.TARGET, OrderState.ACCEPTED),
        fills(Leg.TARGET, 60, "108.03"),
        fills(Leg.STOP, 40, "102.00"),
        ends(Leg.TARGET, OrderState.CANCELLED),
    ),
    "partly filled and cancelled": (
        nothing,
        fills(None, 25, "104.02"),
        fills(None, 30, "104.03"),
        ends(None, OrderState.CANCELLED),
        ends(Leg.TARGET, OrderState.CANCELLED),
        ends(Leg.STOP, OrderState.CANCELLED),
    ),
    "never filled": (nothing, ends(None, OrderState.CANCELLED), ends(Leg.TARGET, OrderState.CANCELLED)),
    "rejected at once": (ends(None, OrderState.REJECTED), ends(Leg.TARGET, OrderState.CANCELLED)),
}


def orders_of(count: int) -> list[tuple[int, ...]]:
    """Every order of the first two, three, ... messages; each begins with the one in which they happened."""
    return [order for length in range(2, count + 1) for order in permutations(range(length))]


@asynccontextmanager
async def floor_of(folder: Path) -> AsyncIterator[tuple[Desk, Floor]]:
    upgrade(folder / "finagent.db", WRITER, lambda _: None)
    async with opened(folder / "finagent.db") as desk, working(Floor(desk, ScriptedBroker(desk.clock))) as floor:
        yield desk, floor


async def entered(desk: Desk, floor: Floor, symbols: Iterable[str], fate: str) -> list[TradePlan]:
    """An entry of 100 shares of every symbol at the broker, whose answers were all heard or all lost."""
    plans = await asyncio.gather(*(desk.approved(symbol) for symbol in symbols))
    floor.broker.submits = [fate] * len(plans)
    floor.processor.offer([job for plan in plans for job in await desk.commit(floor.execute(plan))])
    await floor.processor.drain_instant(desk.clock.now())
    return plans


def lived(broker: ScriptedBroker, entry: str, life: Sequence[Happening]) -> list[Activity]:
    """One message for each thing that happens, as the broker would answer right after it: a leg is told with its parent."""
    group = [entry, *(f"{entry}-{leg.value}" for leg in (Leg.TARGET, Leg.STOP))]
    messages = []
    for happen in life:
        before = len(broker.executions)
        happen(broker, entry)
        messages.append(Activity(tuple(broker.executions[before:]), tuple(broker.orders[name] for name in group)))
    return messages


def state_of(desk: Desk, floor: Floor, plan: TradePlan, numbers: dict[str, str]) -> Any:
    """All that is known of a decision, without the names of its orders."""
    reads = desk.reads
    orders = sorted((o.leg.value, o.state.value, o.filled_quantity, o.average_price, o.outcome) for o in floor.orders(plan))
    fills = sorted((numbers[f.execution_id], f.quantity, f.price) for f in reads.find(Fill, decision_id=plan.decision_id))
    position = reads.get(Position, plan.symbol)
    held = (position.quantity, position.cash_flow, position.fees) if position else None
    endings = [(o.outcome, o.reason) for o in reads.find(DecisionOutcome, decision_id=plan.decision_id)]
    exits = [left.kind for left in reads.find(DecisionExit, decision_id=plan.decision_id)]
    return orders, fills, held, endings, exits


# The answer to the submit was heard, or it was lost and the messages are the first that is known of the order.
TOLD = [
    ("filled in parts, stopped out", "confirm"),
    ("filled, both legs trade", "lose"),
    ("partly filled and cancelled", "confirm"),
    ("never filled", "lose"),
    ("rejected at once", "lose"),
]


@pytest.mark.parametrize(("name", "fate"), TOLD, ids=lambda value: value)
async def test_every_order_of_the_messages_ends_in_the_same_state(tmp_path: Path, name: str, fate: str) -> None:
    life = LIVES[name]
    orders = orders_of(len(life))
    symbols = [f"S{number:03}" for number in range(len(orders))]
    async with floor_of(tmp_path) as (desk, floor):
        broker = floor.broker
        plans = await entered(desk, floor, symbols, fate)
        entries = [broker.named(floor.order(plan, Leg.ENTRY).client_order_id) for plan in plans]
        told = [lived(broker, entry, life[: len(order)]) for entry, order in zip(entries, orders, strict=True)]
        complete = True
        for place in range(len(life)):
            now = [messages[order[place]] for messages, order in zip(told, orders, strict=True) if place < len(order)]
            complete &= await hear(desk, floor, now)
        if not complete:  # the watch asks again from there, and the broker answers with what is true by now
            await hear(desk, floor, [Activity(executions_of(messages), messages[-1].orders) for messages in told])
        numbers = {e.execution_id: str(number) for each in told for number, m in enumerate(each) for e in m.executions}
        states = [state_of(desk, floor, plan, numbers) for plan in plans]
        assert desk.state().state is TradingState.ACTIVE
        assert desk.reads.find(SymbolLock) == []
    chronological = {len(order): state for order, state in zip(orders, states, strict=True) if list(order) == sorted(order)}
    different = [order for order, state in zip(orders, states, strict=True) if state != chronological[len(order)]]
    assert len(orders) == sum(1 for length in range(2, len(life) + 1) for _ in permutations(range(length)))
    assert different == []


def executions_of(messages: Sequence[Activity]) -> tuple[ExecutionReport, ...]:
    return tuple(execution for message in messages for execution in message.executions)


async def hear(desk: Desk, floor: Floor, messages: Sequence[Activity]) -> bool:
    """One answer of the broker; those of different symbols do not meet."""
    executions = executions_of(messages)
    reports: tuple[OrderReport, ...] = tuple(report for message in messages for report in message.orders)

    async def activity(_since: Any, _until: Any) -> Activity:
        return Activity(executions, reports)

    floor.broker.activity = activity  # type: ignore[method-assign,assignment] # this broker says what the test has it say
    return await floor.activity.apply(desk.minute(0), desk.clock.now())
