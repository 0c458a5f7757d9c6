"""F-45: a partly filled entry whose rest we cancel and replace by target and stop, in every order of what the broker may do."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import combinations, product
from pathlib import Path

import pytest
from tests.unit.services.conftest import WRITER, Desk, opened
from tests.unit.services.execution.conftest import MINUTE, Floor, ScriptedBroker, working

from finagent.adapters.database.migrate import upgrade
from finagent.domain.decision import DecisionExit, DecisionOutcome, SignalOutcome
from finagent.domain.orders import BrokerOrder, Leg, OrderState
from finagent.domain.ports.order_execution import Activity, OrderReport
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import SymbolLock, TradingState

SHARES, FIRST, REST = 100, 60, 40
STEPS, STEPS_AFTER = 4, 8


class Happening(Enum):
    """What the broker may do between two steps of ours; each takes place as soon as it can."""

    CANCEL = "the cancel that we asked for takes effect"
    FILL = "the rest of the entry fills"
    EXIT = "the target fills"


Word = tuple[tuple[Happening, ...], ...]  # what happens in each gap, in order


def words() -> Iterator[Word]:
    """Every order of none, one, two and three of them in the gaps between our steps."""
    for count in range(len(Happening) + 1):
        for chosen in combinations(Happening, count):
            for gaps in product(range(STEPS), repeat=count):
                placed = [[what for what, gap in zip(chosen, gaps, strict=True) if gap == number] for number in range(STEPS)]
                for orders in product(*(_orders(gap) for gap in placed)):
                    yield tuple(orders)


def _orders(happenings: list[Happening]) -> list[tuple[Happening, ...]]:
    if len(happenings) < 2:
        return [tuple(happenings)]
    return [(each, *rest) for each in happenings for rest in _orders([other for other in happenings if other is not each])]


@dataclass
class PatientBroker(ScriptedBroker):
    """A cancel that was asked for takes effect when the test says so; with `late`, executions are told a minute after the order
    that they filled."""

    late: bool = False
    asked: set[str] = field(default_factory=set)

    async def cancel(self, broker_order_id: str) -> bool:
        self.asked.add(self.group_of[broker_order_id])
        return True

    async def activity(self, since: datetime, until: datetime) -> Activity:
        known = [each for each in self.executions if not self.late or each.at < self.clock.now() - MINUTE]
        return Activity(tuple(known), tuple(self.orders.values()))

    def take_effect(self, name: str) -> bool:
        if name not in self.asked or not self.orders[name].state.live:
            return False
        for other, order in list(self.orders.items()):
            if self.group_of[other] == name and order.state.live:
                self.end(other, OrderState.CANCELLED)
        return True


@dataclass
class Case:
    """One decision, and what is still to happen to it."""

    word: Word
    plan: TradePlan
    entry: str
    pending: list[Happening] = field(default_factory=list)

    def go_on(self, broker: PatientBroker, gap: int) -> None:
        """What is due by this gap and can happen, happens."""
        self.pending += self.word[gap] if gap < len(self.word) else ()
        self.pending = [what for what in self.pending if not self._happened(what, broker)]

    def _happened(self, what: Happening, broker: PatientBroker) -> bool:
        if what is Happening.CANCEL:
            return broker.take_effect(self.entry)
        if what is Happening.FILL:
            return self._trade(broker, broker.orders[self.entry], "104.03")
        live = [order for order in self.orders(broker) if order.leg is Leg.TARGET and order.state is OrderState.ACCEPTED]
        return bool(live) and self._trade(broker, live[-1], "108.03")

    def _trade(self, broker: PatientBroker, order: OrderReport, price: str) -> bool:
        if not order.state.live:
            return False
        name = f"x-{len(broker.executions):06}"
        broker.trade(order.broker_order_id, order.quantity - order.filled_quantity, price, name)
        return True

    def orders(self, broker: PatientBroker) -> list[OrderReport]:
        return [order for order in broker.orders.values() if order.symbol == self.plan.symbol]

    def held(self, broker: PatientBroker) -> int:
        return sum((1 if o.leg in (None, Leg.ENTRY) else -1) * o.filled_quantity for o in self.orders(broker))


@pytest.mark.parametrize("late", [False, True], ids=["told at once", "told late"])
@pytest.mark.parametrize("bracket", [True, False], ids=["bracket", "entry alone"])
async def test_cancel_replace_and_fill_meet_in_every_order(tmp_path: Path, bracket: bool, late: bool) -> None:
    upgrade(tmp_path / "finagent.db", WRITER, lambda _: None)
    async with opened(tmp_path / "finagent.db") as desk:
        broker = PatientBroker(desk.clock, stop_entry_brackets=bracket, late=late)
        async with working(Floor(desk, broker)) as floor:
            cases = await _entered(desk, floor, broker)
            for case in cases:
                broker.trade(case.entry, FIRST, "104.02", f"x-{len(broker.executions):06}")
            await floor.now()
            for gap in range(STEPS + STEPS_AFTER):
                for case in cases:
                    case.go_on(broker, gap)
                    _require_no_more_exits_than_shares(case, broker)
                await floor.step()
            wrong = {case.word: found for case in cases if (found := list(_objections(case, desk, broker)))}
            assert wrong == {}
            assert desk.state().state is TradingState.ACTIVE
            assert desk.reads.find(SymbolLock) == []
    assert len(cases) == 193


async def _entered(desk: Desk, floor: Floor, broker: PatientBroker) -> list[Case]:
    """An entry of 100 shares at the broker for every word."""
    chosen = list(words())
    plans = await asyncio.gather(*(desk.approved(f"S{number:03}", SHARES) for number in range(len(chosen))))
    plans = [replace(plan, valid_until=desk.minute(300)) for plan in plans]
    floor.processor.offer([job for plan in plans for job in await desk.commit(floor.execute(plan))])
    await floor.processor.drain_instant(desk.clock.now())
    names = [broker.named(floor.order(plan, Leg.ENTRY).client_order_id) for plan in plans]
    return [Case(word, plan, name) for word, plan, name in zip(chosen, plans, names, strict=True)]


def _require_no_more_exits_than_shares(case: Case, broker: PatientBroker) -> None:
    live = [
        o for o in case.orders(broker) if o.leg is Leg.TARGET and o.state in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)
    ]
    assert sum(order.quantity - order.filled_quantity for order in live) <= case.held(broker), case.word


def _objections(case: Case, desk: Desk, broker: PatientBroker) -> Iterator[str]:
    """What is not as it should be when nothing happens any more."""
    reads, decision = desk.reads, case.plan.decision_id
    theirs, ours = case.orders(broker), reads.find(BrokerOrder, decision_id=decision)
    entry, held = broker.orders[case.entry], case.held(broker)
    if sorted(o.filled_quantity for o in ours) != sorted(o.filled_quantity for o in theirs):
        yield "fills differ"
    if entry.filled_quantity != (SHARES if entry.state is OrderState.FILLED else FIRST):
        yield f"the entry filled {entry.filled_quantity}"
    if [outcome.outcome for outcome in reads.find(DecisionOutcome, decision_id=decision)] != [SignalOutcome.FILLED]:
        yield "no outcome"
    left = reads.find(DecisionExit, decision_id=decision)
    live = [order for order in theirs if order.state.live]
    if entry.state.live:
        if case.entry not in broker.asked:
            yield "its rest was never cancelled"
    elif held == 0 and (len(left) != 1 or live):
        yield f"flat, and {live} live, exits {left}"
    elif held > 0:
        protecting = sorted((order.leg.value if order.leg else "", order.quantity - order.filled_quantity) for order in live)
        if left or {quantity for _, quantity in protecting} != {held} or len(protecting) != 2:
            yield f"{held} shares are protected by {protecting}"
