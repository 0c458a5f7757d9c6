"""A broker that answers as it is told, and the order protocol at work against it, minute by minute."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.decision import DecisionExit, DecisionOutcome
from finagent.domain.errors import Transient
from finagent.domain.jobs import JobStatus, RetryPolicy
from finagent.domain.orders import BrokerOrder, Leg, OrderClass, OrderIntent, OrderState, OrderType, SendOutcome, Side
from finagent.domain.portfolio import Position
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import (
    Activity,
    BrokerAccount,
    BrokerPosition,
    ExecutionReport,
    Found,
    LookUp,
    Objection,
    OrderReport,
    OrderRequest,
    SendResult,
    no_objection,
)
from finagent.domain.trade_plan import TradePlan
from finagent.services.execution.activity import BrokerActivity
from finagent.services.execution.exits import ExitService
from finagent.services.execution.gateway import ExecutionGateway
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.failpoints import unarmed
from finagent.services.pipeline.execution import ExecutionService
from finagent.services.queue.processor import JobProcessor, QueuePolicy, one_by_one

POLICY = ExecutionPolicy(send_timeout_seconds=60, lookup_window_seconds=900, sends_max=4, protect_seconds=60, step_seconds=60)
MINUTE = timedelta(minutes=1)


@dataclass
class ScriptedBroker:
    """Keeps orders and plays the answers it was given; without a script it is a broker that works.

    `submits` holds the fate of the next submits: "confirm", "lose" (applied, no answer), "drop" (not applied, no answer),
    "refuse", "deny" (never left).
    `look_ups` the next answers to look-ups (None: the truth). `cancels_lost` of the next cancels never arrive.
    """

    clock: Clock
    deduplicates_forever: bool = True
    stop_entry_brackets: bool = True
    submits: list[str] = field(default_factory=list)
    look_ups: list[Found | None] = field(default_factory=list)
    cancels_lost: int = 0
    barriers_lost: int = 0
    readable: bool = True
    account_id: str = "SIM-1"
    calls: list[tuple[str, str]] = field(default_factory=list)
    requests: list[OrderRequest] = field(default_factory=list)
    orders: dict[str, OrderReport] = field(default_factory=dict)
    group_of: dict[str, str] = field(default_factory=dict)
    executions: list[ExecutionReport] = field(default_factory=list)
    cancelling: dict[str, datetime] = field(default_factory=dict)
    on_submit: Any = None

    # -- the port ------------------------------------------------------------------------------------------------------------

    async def barrier(self) -> None:
        self.calls.append(("barrier", ""))
        if self.barriers_lost:
            self.barriers_lost -= 1
            raise Transient("no answer")

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        self.calls.append(("submit", request.client_order_id))
        self.requests.append(request)
        fate = self.submits.pop(0) if self.submits else "confirm"
        if self.on_submit is not None:
            await self.on_submit(request)
        if said := objection():
            return SendResult(SendOutcome.DENIED, message=said)
        if fate == "drop":
            return SendResult(SendOutcome.UNRESOLVED, message="no answer")
        if fate == "deny":
            return SendResult(SendOutcome.DENIED, message="the broker has not answered for a while")
        if fate == "refuse":
            return SendResult(SendOutcome.REFUSED, None, "403", "not today")
        if any(order.client_order_id == request.client_order_id for order in self.orders.values()):
            return SendResult(SendOutcome.UNRESOLVED, None, "422", "client_order_id must be unique")
        report = self.open(request)
        return SendResult(SendOutcome.UNRESOLVED) if fate == "lose" else SendResult(SendOutcome.CONFIRMED, report)

    async def look_up(self, client_order_id: str) -> LookUp:
        self.calls.append(("look_up", client_order_id))
        told = self.look_ups.pop(0) if self.look_ups else None
        if told is not None:
            return LookUp(told)
        named = [order for order in self.orders.values() if order.client_order_id == client_order_id]
        return LookUp(Found.YES, self.with_legs(named[0])) if named else LookUp(Found.NO)

    async def cancel(self, broker_order_id: str) -> bool:
        self.calls.append(("cancel", broker_order_id))
        if self.cancels_lost:
            self.cancels_lost -= 1
            return False
        self.cancelling[self.group_of[broker_order_id]] = self.clock.now() + MINUTE
        return True

    async def activity(self, since: datetime, until: datetime) -> Activity:
        self._cancel_due(until)
        executions = tuple(e for e in self.executions if since <= e.at <= until)
        return Activity(executions, tuple(o for o in self.orders.values() if since <= o.updated_at <= until))

    async def open_orders(self) -> tuple[OrderReport, ...]:
        self._require_readable()
        return tuple(order for order in self.orders.values() if order.state.live)

    async def positions(self) -> tuple[BrokerPosition, ...]:
        self._require_readable()
        held: dict[str, int] = {}
        for execution in self.executions:
            held[execution.symbol] = held.get(execution.symbol, 0) + execution.side.sign * execution.quantity
        return tuple(BrokerPosition(symbol, quantity) for symbol, quantity in held.items())

    async def account(self) -> BrokerAccount:
        self._require_readable()
        return BrokerAccount(self.account_id, Decimal(100_000), Decimal(400_000))

    def _require_readable(self) -> None:
        if not self.readable:
            raise Transient("no answer")

    # -- what happens at the broker ------------------------------------------------------------------------------------------

    def open(self, request: OrderRequest) -> OrderReport:
        """The orders of a request; legs get names of the broker's own."""
        now, name = self.clock.now(), f"b-{len(self.orders)}"
        main = {OrderClass.SIMPLE: None, OrderClass.BRACKET: Leg.ENTRY, OrderClass.OCO: Leg.TARGET}[request.order_class]
        first = OrderReport(
            name,
            request.client_order_id,
            None,
            main,
            request.symbol,
            request.side,
            request.quantity,
            request.type,
            request.limit_price,
            request.stop_price,
            OrderState.ACCEPTED,
            0,
            None,
            now,
        )
        self.orders[name] = first
        self.group_of[name] = name
        held = request.order_class is OrderClass.BRACKET
        side = (Side.SELL if request.side is Side.BUY else Side.BUY) if held else request.side
        if held:
            self._leg(first, Leg.TARGET, side, OrderType.LIMIT, request.take_profit_price, None, OrderState.HELD)
        if request.order_class is not OrderClass.SIMPLE:
            state = OrderState.HELD if held else OrderState.ACCEPTED
            self._leg(first, Leg.STOP, side, OrderType.STOP, None, request.stop_loss_price, state)
        return self.with_legs(first)

    def _leg(
        self,
        first: OrderReport,
        leg: Leg,
        side: Side,
        kind: OrderType,
        limit: Decimal | None,
        stop: Decimal | None,
        state: OrderState,
    ) -> None:
        name = f"{first.broker_order_id}-{leg.value}"
        self.orders[name] = replace(
            first,
            broker_order_id=name,
            client_order_id=f"broker's own {name}",
            parent_broker_order_id=first.broker_order_id,
            leg=leg,
            side=side,
            type=kind,
            limit_price=limit,
            stop_price=stop,
            state=state,
        )
        self.group_of[name] = first.broker_order_id

    def with_legs(self, first: OrderReport) -> OrderReport:
        legs = [o for o in self.orders.values() if o.parent_broker_order_id == first.broker_order_id]
        return replace(first, legs=tuple(legs))

    def named(self, client_order_id: str, leg: Leg | None = None) -> str:
        """The broker's name of our order, or of one of its legs."""
        first = next(o for o in self.orders.values() if o.client_order_id == client_order_id)
        return f"{first.broker_order_id}-{leg.value}" if leg else first.broker_order_id

    def trade(self, name: str, quantity: int, price: str, execution_id: str = "") -> None:
        """An execution at the present minute, with what it does to the group."""
        order, now = self.orders[name], self.clock.now()
        number = execution_id or f"x-{len(self.executions)}"
        self.executions.append(
            ExecutionReport(number, name, order.symbol, order.side, quantity, Decimal(price), Decimal("0.01"), now)
        )
        filled = order.filled_quantity + quantity
        state = OrderState.FILLED if filled >= order.quantity else OrderState.PARTIALLY_FILLED
        self.orders[name] = replace(order, filled_quantity=filled, state=state, updated_at=now)
        if state is OrderState.FILLED:
            group = self.group_of[name]
            for other, report in list(self.orders.items()):
                if other != name and self.group_of[other] == group and report.state.live:
                    self.end(other, OrderState.ACCEPTED if order.leg is Leg.ENTRY else OrderState.CANCELLED)

    def end(self, name: str, state: OrderState) -> None:
        """The order is in that state as of now."""
        self.orders[name] = replace(self.orders[name], state=state, updated_at=self.clock.now())

    def _cancel_due(self, now: datetime) -> None:
        for group, due in list(self.cancelling.items()):
            if due <= now:
                del self.cancelling[group]
                for name, order in list(self.orders.items()):
                    if self.group_of[name] == group and order.state.live:
                        self.orders[name] = replace(order, state=OrderState.CANCELLED, updated_at=due)


class Metering:
    """What jobs came to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[tuple[str, JobStatus]] = []

    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None:
        self.done.append(job_type)

    def job_failed(self, job_type: str, status: JobStatus) -> None:
        self.failed.append((job_type, status))


class Floor:
    """The order protocol on a desk: every job of it runs as the processor runs it, the broker is scripted."""

    def __init__(self, desk: Any, broker: ScriptedBroker) -> None:
        self.desk, self.broker, self.metering, self.leads = desk, broker, Metering(), True
        self.gateway = ExecutionGateway(
            broker, desk.clock, POLICY, desk.kill_switch, lambda: desk.session.closes_at, lambda: self.leads
        )
        self.price: Decimal | None = None  # the last one of any symbol
        self.exits = exits = ExitService(
            broker,
            desk.clock,
            POLICY,
            lambda: desk.session.closes_at,
            lambda: self.leads,
            lambda symbol: (self.price, 0.0),
        )
        handlers = {
            "execute": ExecutionService(desk.clock, broker.stop_entry_brackets).execute,
            "send": self.gateway.send,
            "resolve": self.gateway.resolve,
            "expire": exits.expire,
            "protect": exits.protect,
            "flatten": exits.flatten,
            "close_out": exits.close_out,
        }
        self.handlers = {name: one_by_one(handle) for name, handle in handlers.items()}
        self.processor = self._processor(lock_step=True)
        self.activity = BrokerActivity(broker, desk.reads, desk.queue, self.processor, desk.clock, POLICY, 5)

    def _processor(self, lock_step: bool) -> JobProcessor:
        desk = self.desk
        processor = JobProcessor(
            queue=desk.queue,
            reads=desk.reads,
            clock=desk.clock,
            handlers=self.handlers,
            policy=QueuePolicy(1000, 1000, 256, 5, 0.01, 300.0, RetryPolicy(5, 5.0, 300.0)),
            seed=7,
            failpoints=unarmed,
            jitter=None,
            on_invariant=lambda message: desk.kill_switch.halt(message, "invariant"),
            lock_step=lock_step,
            observer=self.metering,
            monotonic=lambda: 0.0,
        )
        processor.queues(("execution", "sender", "reconciler"))
        return processor

    @classmethod
    def on_wall_time(cls, desk: Any, broker: ScriptedBroker) -> "Floor":
        """A floor whose jobs run as they come."""
        floor = cls(desk, broker)
        floor.processor = floor._processor(lock_step=False)
        floor.activity = BrokerActivity(broker, desk.reads, desk.queue, floor.processor, desk.clock, POLICY, 5)
        return floor

    async def bracket(self, plan: TradePlan) -> str:
        """Execute an approved plan now; the id of its entry."""
        self.processor.offer(await self.desk.commit(self.execute(plan)))
        await self.processor.drain_instant(self.desk.clock.now())
        return self.order(plan, Leg.ENTRY).client_order_id

    def execute(self, plan: TradePlan) -> Any:
        from finagent.domain.effect import Effect
        from finagent.domain.jobs import Next

        return Effect(next=(Next("execute", f"execute:{plan.decision_id}", {"decision_id": plan.decision_id}),))

    async def until(self, minute: int) -> None:
        """Every minute up to that one: what the broker did, then every job that is due."""
        while self.desk.clock.now() < self.desk.minute(minute):
            await self.step()

    async def step(self) -> None:
        now = self.desk.clock.now()
        self.desk.clock.set(now + MINUTE)
        await self.now(now)

    async def now(self, since: datetime | None = None) -> None:
        """What the broker did since, and every job due now."""
        at = self.desk.clock.now()
        await self.activity.apply(since or at, at)
        await self.processor.drain_instant(at)

    def orders(self, plan: TradePlan) -> list[BrokerOrder]:
        found: list[BrokerOrder] = self.desk.reads.find(BrokerOrder, decision_id=plan.decision_id)
        return found

    def order(self, plan: TradePlan, leg: Leg, generation: int = 0) -> BrokerOrder:
        intents = self.desk.reads.find(OrderIntent, decision_id=plan.decision_id, leg=leg, generation=generation)
        found: BrokerOrder = self.desk.reads.get(BrokerOrder, intents[0].client_order_id)
        return found

    def outcome(self, plan: TradePlan) -> str:
        found = self.desk.reads.get(DecisionOutcome, plan.decision_id)
        return found.outcome.value if found else ""

    def exit(self, plan: TradePlan) -> str:
        found = self.desk.reads.get(DecisionExit, plan.decision_id)
        return found.kind.value if found else ""

    def held(self, symbol: str = "IBM") -> int:
        found = self.desk.reads.get(Position, symbol)
        return found.quantity if found else 0

    def submitted(self) -> list[str]:
        return [name for call, name in self.broker.calls if call == "submit"]


@pytest.fixture
def broker(desk: Any) -> ScriptedBroker:
    return ScriptedBroker(desk.clock)


@asynccontextmanager
async def working(floor: Floor) -> AsyncIterator[Floor]:
    """The protocol at work; its workers end with the test and must not have failed."""
    workers = [asyncio.create_task(floor.processor.work(name)) for name in ("execution", "sender")]
    yield floor
    for worker in workers:
        assert not worker.done()
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@pytest.fixture
async def floor(desk: Any, broker: ScriptedBroker) -> AsyncIterator[Floor]:
    async with working(Floor(desk, broker)) as floor:
        yield floor


@pytest.fixture
def open_floor() -> Callable[..., AbstractAsyncContextManager[Floor]]:
    """The same over a desk that the test opened itself, at a broker of the given terms."""
    return lambda desk, **terms: working(Floor(desk, ScriptedBroker(desk.clock, **terms)))


@pytest.fixture
async def paced_floor(desk: Any, broker: ScriptedBroker) -> AsyncIterator[Floor]:
    """The protocol at work on wall time."""
    async with working(Floor.on_wall_time(desk, broker)) as floor:
        yield floor
