"""Leaving: entries that ran out of time, partly filled entries to protect, and flat before the close."""

from dataclasses import dataclass
from datetime import datetime

from finagent.domain.decision import DecisionExit, ExitKind
from finagent.domain.effect import Effect
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, Leg, OrderState
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import OrderExecutionPort
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.services.execution.book import DecisionBook, decision_book
from finagent.services.execution.intents import IntentWriter
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.execution.reports import order_event
from finagent.services.portfolio import ledger

LIVE = [state for state in OrderState if state.live]


@dataclass(frozen=True, slots=True)
class ExitService:
    """Each handler does one step and publishes the next look: cancel, wait for terminal, close.

    Nothing is cancelled and closed in one breath, since the cancel may lose the race against a fill.
    """

    broker: OrderExecutionPort
    clock: Clock
    policy: ExecutionPolicy

    async def expire(self, job: Job, reads: Reads) -> Effect:
        """The entry's validity ended: cancel it if it is still unfilled; a partly filled one belongs to `protect`."""
        order = reads.get(BrokerOrder, job.payload["client_order_id"])
        if order is None or not order.state.live or order.state is OrderState.PARTIALLY_FILLED:
            return Effect()
        return await self._cancel(order, "entry no longer valid") + self._look_again(job, "expire", order.client_order_id)

    async def protect(self, job: Job, reads: Reads) -> Effect:
        """Cancel the rest of a partly filled entry, wait for its end, place target and stop on what is held."""
        book = decision_book(reads, job.payload["decision_id"])
        entry = book.entry
        if entry is None or entry.state is OrderState.FILLED or book.held <= 0:
            return Effect()
        if entry.state.live:
            return await self._cancel(entry, "partly filled entry") + self._look_again(job, "protect", entry.client_order_id)
        if any(order.leg is not Leg.ENTRY for order in book.live):
            own = [order for order in book.live if order.leg is Leg.EXIT or order.state is not OrderState.HELD]
            return Effect() if own else self._look_again(job, "protect", entry.client_order_id)
        return IntentWriter(ledger(reads)).oco(book.plan, book.held, book.generation(Leg.TARGET), self.clock.now())

    async def flatten(self, job: Job, reads: Reads) -> Effect:
        """Close out every decision that holds something or has a live order."""
        reason = job.payload.get("reason", ExitKind.TIME.value)
        decisions = {order.decision_id for order in reads.find(BrokerOrder, state=LIVE)}
        decisions |= {
            order.decision_id
            for order in reads.find(BrokerOrder, leg=Leg.ENTRY)
            if order.filled_quantity and not self._closed(order, reads)
        }
        return Effect(next=tuple(self._close_out(decision, reason, self.clock.now()) for decision in sorted(decisions)))

    async def close_out(self, job: Job, reads: Reads) -> Effect:
        """One step towards flat for one decision."""
        reason, now = job.payload["reason"], self.clock.now()
        book = decision_book(reads, job.payload["decision_id"])
        again = Effect(next=(self._close_out(job.payload["decision_id"], reason, now + self.policy.step),))
        if any(order.leg is Leg.EXIT for order in book.live):
            return again
        if book.live:
            return await self._cancel_all(book) + again
        if book.held <= 0:
            return Effect()
        intents = IntentWriter(ledger(reads)).exit(book.plan, book.held, book.generation(Leg.EXIT), reason, now)
        told = order_event(book.orders[0], "exit_decided", now, quantity=book.held, reason=reason)
        return intents + Effect(events=(told,)) + again

    def _closed(self, order: BrokerOrder, reads: Reads) -> bool:
        return reads.get(DecisionExit, order.decision_id) is not None

    async def _cancel_all(self, book: DecisionBook) -> Effect:
        """Cancel what the broker knows; a parent takes its group along. What is unresolved is looked up by its own job first."""
        effect, groups = Effect(), set()
        for order in sorted(
            book.live, key=lambda o: (o.leg is not Leg.ENTRY, o.parent_client_order_id is not None, o.client_order_id)
        ):
            if order.broker_order_id is None or order.parent_client_order_id in groups:
                continue
            groups.add(order.client_order_id)
            effect += await self._cancel(order, "flat before the close")
        return effect

    async def _cancel(self, order: BrokerOrder, reason: str) -> Effect:
        """Ask; whether it worked is seen in the broker's activity, or by the next look."""
        if order.broker_order_id is None:
            return Effect()
        taken = await self.broker.cancel(order.broker_order_id)
        return Effect(events=(order_event(order, "cancel_requested", self.clock.now(), reason=reason, taken=taken),))

    def _look_again(self, job: Job, type_: str, client_order_id: str) -> Effect:
        at = self.clock.now() + self.policy.step
        key = f"{type_}:{client_order_id}:{to_text(at)}"
        return Effect(next=(Next(type_, key, job.payload, at, trace_id=job.trace_id),))

    def _close_out(self, decision_id: str, reason: str, at: datetime) -> Next:
        payload = {"decision_id": decision_id, "reason": reason}
        return Next("close_out", f"close_out:{decision_id}:{to_text(at)}", payload, at, trace_id=trace_id(decision_id))
