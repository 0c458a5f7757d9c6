"""Executions and order changes at the broker become fills, positions and order states; each execution counts once."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from finagent.domain.decision import DecisionExit, DecisionOutcome, ExitKind, SignalOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict, InvariantViolated
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Next
from finagent.domain.money import ZERO
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderClass, OrderIntent, OrderState, SendOutcome, advance
from finagent.domain.portfolio import Position, flat
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import ExecutionReport, OrderExecutionPort, OrderReport
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.time import to_text
from finagent.domain.trading_state import SymbolLock, TradingState, TradingStateRecord
from finagent.services.execution import symbol_locks
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.execution.reports import ahead, apply_report, matches, order_event, order_of_report, with_legs
from finagent.services.kill_switch import STATE_KEY, state_change
from finagent.services.queue.processor import JobProcessor

EXIT_KINDS = {Leg.STOP: ExitKind.STOP, Leg.TARGET: ExitKind.TARGET}
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerActivity:
    """Brings what happened at the broker into the store; what was seen before changes nothing."""

    broker: OrderExecutionPort
    reads: Reads
    queue: JobQueue
    processor: JobProcessor
    clock: Clock
    policy: ExecutionPolicy
    conflict_retries_max: int

    async def apply(self, since: datetime, until: datetime) -> bool:
        """Everything with since <= market time <= until; one commit a symbol. False where a report counts shares whose executions
        were not told with it: it has to be asked for again.

        What is true at the broker is recorded even where it breaks a rule of ours; the same commit then halts new risk.
        """
        activity = await self.broker.activity(since, until)
        by_symbol: dict[str, tuple[list[ExecutionReport], list[OrderReport]]] = defaultdict(lambda: ([], []))
        for execution in sorted(activity.executions, key=lambda e: (e.at, e.execution_id)):
            by_symbol[execution.symbol][0].append(execution)
        reports = with_legs(activity.orders)
        for report in reports:
            by_symbol[report.symbol][1].append(report)
        parents = {report.broker_order_id: report for report in reports}
        return all(await asyncio.gather(*(self._commit(e, r, parents) for _, (e, r) in sorted(by_symbol.items()))))

    async def _commit(
        self, executions: list[ExecutionReport], reports: list[OrderReport], parents: dict[str, OrderReport]
    ) -> bool:
        for _ in range(self.conflict_retries_max + 1):
            disputes: list[str] = []
            effect, complete = self._effect(executions, reports, parents, disputes)
            effect += self._halted(disputes)
            if not (effect.records or effect.next or effect.events):
                return complete
            try:
                published = await self.queue.submit(effect)
            except Conflict:
                continue
            await self.queue.release(self.processor.offer(published))
            return complete
        raise InvariantViolated(
            f"activity of {reports or executions}: still in conflict after {self.conflict_retries_max} retries"
        )

    def _halted(self, disputes: Sequence[str]) -> Effect:
        """New risk stops where the broker tells what cannot be; the same dispute told again is old news."""
        reason, state = "; ".join(disputes), self.reads.get(TradingStateRecord, STATE_KEY)
        if not disputes or (state is not None and (state.state, state.reason) == (TradingState.HALTED, reason)):
            return Effect()
        log.error("broker_disputed", disputes=disputes)
        return state_change(self.reads, TradingState.HALTED, reason, "broker activity", self.clock.now())

    def _effect(
        self,
        executions: Sequence[ExecutionReport],
        reports: Sequence[OrderReport],
        parents: dict[str, OrderReport],
        disputes: list[str],
    ) -> tuple[Effect, bool]:
        """What changes, and whether every share that a report counts has its execution."""
        named = {report.broker_order_id: order_of_report(report, parents, self.reads) for report in reports}
        fills, foreign = defaultdict[str, list[Fill]](list), defaultdict[str, list[str]](list)
        for execution in {e.execution_id: e for e in executions}.values():
            order = named.get(execution.broker_order_id) or self._order_at_broker(execution)
            if order is None:
                if symbol_locks.is_news(execution.symbol, execution.at, self.reads):
                    foreign[execution.symbol].append(f"execution {execution.execution_id} is of no order of ours")
            elif self.reads.get(Fill, execution.execution_id) is None:
                fills[order.client_order_id].append(
                    Fill(
                        execution.execution_id,
                        order.client_order_id,
                        order.decision_id,
                        execution.symbol,
                        execution.side,
                        execution.quantity,
                        execution.price,
                        execution.fee,
                        execution.at,
                    )
                )
        effect, orders = self._filled(fills, disputes)
        complete = True
        for report in reports:
            known = named[report.broker_order_id]
            if known is None:
                log.error("foreign_order_seen", broker_order_id=report.broker_order_id, symbol=report.symbol)
                if self._is_somebody_elses(report):
                    foreign[report.symbol].append(f"order {report.broker_order_id} is not ours")
            elif self._is_ours(known, report):
                order = orders.get(known.client_order_id, known)
                complete &= not ahead(report, order)
                effect += apply_report(order, report, self.reads, self.clock.now())
            else:
                disputes.append(f"the broker's order under {known.client_order_id} is not the one we meant")
        for symbol, reasons in foreign.items():
            effect += symbol_locks.lock(symbol, "; ".join(reasons), "broker activity", self.reads, self.clock.now())
        return effect + self._flat(orders, fills), complete

    def _is_somebody_elses(self, report: OrderReport) -> bool:
        """A live order that no person has seen; a leg whose parent we have not met yet is not taken for one."""
        known = self.reads.get(SymbolLock, report.symbol)
        seen = known is not None and known.knows(report.broker_order_id)
        news = symbol_locks.is_news(report.symbol, report.updated_at, self.reads)
        return report.parent_broker_order_id is None and report.state.live and news and not seen

    def _is_ours(self, known: BrokerOrder, report: OrderReport) -> bool:
        """An order is adopted only if it is the one we meant; a leg is what its parent carries."""
        if known.outcome is SendOutcome.CONFIRMED or known.client_order_id != report.client_order_id:
            return True
        intent = self.reads.get(OrderIntent, known.client_order_id)
        return intent is not None and matches(intent, report)

    def _order_at_broker(self, execution: ExecutionReport) -> BrokerOrder | None:
        found = self.reads.find(BrokerOrder, broker_order_id=execution.broker_order_id)
        return found[0] if found else None

    def _filled(self, fills: dict[str, list[Fill]], disputes: list[str]) -> tuple[Effect, dict[str, BrokerOrder]]:
        """Fills, the positions and orders they change, and those orders as they are afterwards."""
        effect = Effect()
        orders: dict[str, BrokerOrder] = {}
        positions: dict[str, Position] = {}
        for client_order_id, new in fills.items():
            order, intent = self.reads.get(BrokerOrder, client_order_id), self.reads.get(OrderIntent, client_order_id)
            assert order is not None, f"fills of {client_order_id}, which was never committed"
            assert intent is not None, f"fills of {client_order_id}, which has no intent"
            after, step = self._order_after(order, intent, new, disputes)
            orders[client_order_id] = after
            effect += step + Effect(tuple(new))  # the compare and set first: a fill booked meanwhile is a conflict, no violation
            for fill in new:
                before = positions.get(fill.symbol) or self.reads.get(Position, fill.symbol) or flat(fill.symbol, fill.filled_at)
                positions[fill.symbol] = before.apply(fill)
        for symbol, position in positions.items():
            effect += self._position(symbol, position)
        return effect, orders

    def _order_after(
        self, order: BrokerOrder, intent: OrderIntent, new: list[Fill], disputes: list[str]
    ) -> tuple[BrokerOrder, Effect]:
        old = self.reads.find(Fill, client_order_id=order.client_order_id)
        quantity = sum(fill.quantity for fill in [*old, *new])
        if quantity > intent.quantity:
            disputes.append(f"{order.client_order_id}: {quantity} shares filled of {intent.quantity}")
        value = sum((fill.quantity * fill.price for fill in [*old, *new]), ZERO)
        average = Decimal(value / quantity).quantize(Decimal("0.000001"))
        state = advance(order.state, OrderState.FILLED if quantity >= intent.quantity else OrderState.PARTIALLY_FILLED)
        now = self.clock.now()
        values = {"state": state, "filled_quantity": quantity, "average_price": average, "updated_at": now}
        expect = {"state": order.state, "filled_quantity": order.filled_quantity}
        after = BrokerOrder(
            order.client_order_id,
            order.decision_id,
            order.symbol,
            order.parent_client_order_id,
            order.leg,
            order.replaces,
            order.broker_order_id,
            state,
            quantity,
            average,
            order.outcome,
            order.reason,
            order.sends,
            order.sent_at,
            now,
        )
        events = tuple(
            order_event(order, "order_filled", now, quantity=f.quantity, price=str(f.price), execution_id=f.execution_id)
            for f in new
        )
        effect = Effect((Set(BrokerOrder, (order.client_order_id,), values, expect),), (), events)
        if order.leg is Leg.ENTRY and not old:
            effect += self._entered(order, now, disputes)
        if order.leg is Leg.ENTRY and state is not OrderState.FILLED:
            effect += self._protection(order, now + timedelta(seconds=self.policy.protect_seconds))
        elif order.leg is Leg.ENTRY and intent.order_class is OrderClass.SIMPLE:
            effect += self._protection(order, now)
        return after, effect

    def _entered(self, order: BrokerOrder, now: datetime, disputes: list[str]) -> Effect:
        filled, earlier = SignalOutcome.FILLED, self.reads.get(DecisionOutcome, order.decision_id)
        if earlier is None:
            outcome = DecisionOutcome(order.decision_id, filled, "entry filled", now)
            return Effect((outcome,), (), (order_event(order, "signal_ended", now, outcome=filled.value),))
        disputes.append(f"{order.client_order_id}: filled after {order.decision_id} had ended as {earlier.outcome.value}")
        values = {"outcome": filled, "reason": f"entry filled after all: {earlier.reason}", "at": now}
        change = Set(DecisionOutcome, (order.decision_id,), values, {"outcome": earlier.outcome})
        event = order_event(order, "signal_corrected", now, outcome=filled.value, earlier=earlier.outcome.value)
        return Effect((change,), (), (event,))

    def _protection(self, order: BrokerOrder, at: datetime) -> Effect:
        """A partly filled entry has no active legs, and one outside a bracket has none at all: protect what it holds."""
        payload = {"decision_id": order.decision_id, "client_order_id": order.client_order_id}
        key = f"protect:{order.client_order_id}:{to_text(at)}"
        return Effect(next=(Next("protect", key, payload, at, trace_id=trace_id(order.decision_id)),))

    def _position(self, symbol: str, position: Position) -> Effect:
        before = self.reads.get(Position, symbol)
        if before is None:
            return Effect((position,))
        values = {
            "quantity": position.quantity,
            "cash_flow": position.cash_flow,
            "fees": position.fees,
            "updated_at": position.updated_at,
        }
        return Effect((Set(Position, (symbol,), values, {"quantity": before.quantity, "cash_flow": before.cash_flow}),))

    def _flat(self, changed: dict[str, BrokerOrder], fills: dict[str, list[Fill]]) -> Effect:
        """The exit of every decision that these fills made flat; its kind is that of the leg whose fill was the last, in whatever
        order they are told. Exits that are told before their entry are looked at again."""
        effect = Effect()
        for decision_id in sorted({order.decision_id for order in changed.values()}):
            orders = {o.client_order_id: o for o in self.reads.find(BrokerOrder, decision_id=decision_id)} | {
                name: order for name, order in changed.items() if order.decision_id == decision_id
            }
            (entry,) = (order for order in orders.values() if order.leg is Leg.ENTRY)
            exits = [order for order in orders.values() if order.leg is not Leg.ENTRY and order.filled_quantity]
            held = entry.filled_quantity - sum(order.filled_quantity for order in exits)
            if held < 0:
                effect += self._protection(entry, self.clock.now() + timedelta(seconds=self.policy.protect_seconds))
            if held or not exits:
                continue
            named = [order.client_order_id for order in exits]
            closing = [*self.reads.find(Fill, client_order_id=named), *(fill for name in named for fill in fills[name])]
            last = orders[max(closing, key=lambda fill: (fill.filled_at, fill.execution_id)).client_order_id]
            effect += self._left(last, EXIT_KINDS.get(last.leg) or self._exit_reason(last))
        return effect

    def _left(self, last: BrokerOrder, kind: ExitKind) -> Effect:
        now, known = self.clock.now(), self.reads.get(DecisionExit, last.decision_id)
        if known is not None and known.kind is kind:
            return Effect()
        event = order_event(last, "position_flat", now, exit=kind.value)
        if known is None:
            return Effect((DecisionExit(last.decision_id, kind, now),), (), (event,))
        return Effect((Set(DecisionExit, (last.decision_id,), {"kind": kind}, {"kind": known.kind}),), (), (event,))

    def _exit_reason(self, order: BrokerOrder) -> ExitKind:
        intent = self.reads.get(OrderIntent, order.client_order_id)
        return ExitKind(intent.reason) if intent is not None else ExitKind.MANUAL
