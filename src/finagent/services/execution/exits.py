"""Leaving: entries that ran out of time, partly filled entries to protect, and flat before the close."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from finagent.domain.decision import ExitKind
from finagent.domain.effect import Effect
from finagent.domain.errors import InvariantViolated, Permanent
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, OrderState
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import OrderExecutionPort
from finagent.domain.ports.store import Reads
from finagent.domain.time import from_text, to_text
from finagent.domain.trading_state import SymbolLock
from finagent.services.execution.book import DecisionBook, decision_book
from finagent.services.execution.intents import IntentWriter
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.execution.reports import order_event
from finagent.services.portfolio import ledger

LIVE = [state for state in OrderState if state.live]
WORKING = (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.PARKED)


@dataclass(frozen=True, slots=True)
class ExitService:
    """Each handler does one step and the next look follows a step later: cancel, wait for terminal, close.

    Nothing is cancelled and closed in one breath, since the cancel may lose the race against a fill.
    """

    broker: OrderExecutionPort
    clock: Clock
    policy: ExecutionPolicy
    session_close: Callable[[], datetime]
    may_send: Callable[[], bool]  # as the gateway's: what a successor has placed is not ours to cancel
    last_price: Callable[[str], tuple[Decimal | None, float]]  # USD and its age in s

    async def expire(self, job: Job, reads: Reads) -> Effect:
        """The entry's validity ended: cancel it if it is still unfilled; a partly filled one belongs to `protect`.

        A parked one is let be: whoever finds it alive asks again. So is one whose send waits for a person when the session is
        over: no entry outlives it.
        """
        order = reads.get(BrokerOrder, job.payload["client_order_id"])
        left_alone = (OrderState.PARTIALLY_FILLED, OrderState.PARKED)
        if order is None or not order.state.live or order.state in left_alone:
            return Effect()
        if order.broker_order_id is None and order.outcome is None and self.clock.now() > self.session_close():
            return Effect()
        return await self._cancel(order, "entry no longer valid") + self._look_again(job, "expire", order.client_order_id)

    async def protect(self, job: Job, reads: Reads) -> Effect:
        """Cancel the rest of a partly filled entry, wait for its end, place target and stop on what is held. A price that is past
        the stop already is no price to wait at: what is held is closed.

        Looks again until they work: the broker may refuse them, or their send may be lost. Raises Permanent (the job is parked)
        when it refuses again and again, InvariantViolated (which halts) when more was sold than was ever bought.
        """
        book = decision_book(reads, job.payload["decision_id"])
        entry = book.entry
        if book.held < 0:
            raise InvariantViolated(f"{book.plan.decision_id}: exits filled {-book.held} shares more than the entry")
        bracketed = any(order.parent_client_order_id == entry.client_order_id for order in book.orders) if entry else False
        if entry is None or book.held == 0 or (bracketed and entry.state is OrderState.FILLED):
            return Effect()
        if entry.state.live:
            return await self._cancel(entry, "partly filled entry") + self._look_again(job, "protect", entry.client_order_id)
        again = self._look_again(job, "protect", entry.client_order_id)
        exits = [order for order in book.live if order.leg is not Leg.ENTRY]
        if exits:
            return Effect() if any(order.leg is Leg.EXIT or order.state in WORKING for order in exits) else again
        quantity = await self._still_there(book, reads)
        if not quantity:
            event = order_event(entry, "not_protected", self.clock.now(), reason="the broker holds nothing of it any more")
            return Effect(events=(event,))
        if self._past_stop(book):
            return self._exit(book, quantity, ExitKind.STOP.value, reads) + again
        generation = book.generation(Leg.TARGET)
        if generation > self.policy.sends_max:
            raise Permanent(f"{book.plan.decision_id}: target and stop were refused {generation - 1} times")
        return IntentWriter(ledger(reads)).oco(book.plan, quantity, generation, self.clock.now()) + again

    async def flatten(self, job: Job, reads: Reads) -> Effect:
        """Close out every decision that holds something or has a live order, and look again until the close: a fill may come
        late, and an entry may have been on its way.

        With `entered_before` in the payload only decisions whose entry is older, and only until none is left.
        """
        reason, now = job.payload.get("reason", ExitKind.TIME.value), self.clock.now()
        decisions = self._not_flat(job.payload.get("entered_before"), reads)
        following = tuple(self._close_out(decision, reason, now) for decision in sorted(decisions))
        at = now + self.policy.step
        if at < from_text(job.payload["until"]) and (decisions or "entered_before" not in job.payload):
            name = job.dedup_key.split("@")[0]
            following += (Next("flatten", f"{name}@{to_text(at)}", job.payload, at),)
        return Effect(next=following)

    def _not_flat(self, entered_before: str | None, reads: Reads) -> set[str]:
        entries = reads.find(BrokerOrder, leg=Leg.ENTRY)
        if entered_before is not None:
            committed = {intent.client_order_id: intent.committed_at for intent in reads.find(OrderIntent, leg=Leg.ENTRY)}
            entries = [order for order in entries if committed[order.client_order_id] < from_text(entered_before)]
        live = {order.decision_id for order in reads.find(BrokerOrder, state=LIVE)}
        left = Counter[str]()
        for order in reads.find(BrokerOrder, leg=[Leg.STOP, Leg.TARGET, Leg.EXIT]):
            left[order.decision_id] += order.filled_quantity
        held = {order.decision_id for order in entries if order.filled_quantity > left[order.decision_id]}
        return held | {order.decision_id for order in entries if order.decision_id in live}

    async def close_out(self, job: Job, reads: Reads) -> Effect:
        """One step towards flat for one decision; the next one comes with the next `flatten`."""
        reason = job.payload["reason"]
        book = decision_book(reads, job.payload["decision_id"])
        if any(order.leg is Leg.EXIT for order in book.live):
            return Effect()
        if book.live:
            return await self._cancel_all(book)
        quantity = await self._still_there(book, reads) if book.held > 0 else 0
        return self._exit(book, quantity, reason, reads) if quantity else Effect()

    async def _still_there(self, book: DecisionBook, reads: Reads) -> int:
        """Shares of the decision that can be closed. Where somebody else has traded in the symbol, no more than the broker still
        holds and no other order of ours closes: what a person has sold already would be sold short. Transient without an
        answer."""
        symbol, sign = book.plan.symbol, book.plan.side.sign
        if reads.get(SymbolLock, symbol) is None:
            return book.held
        theirs = sum(sign * position.quantity for position in await self.broker.positions() if position.symbol == symbol)
        closing = sum(
            intent.quantity - order.filled_quantity
            for order in reads.find(BrokerOrder, symbol=symbol, leg=[Leg.TARGET, Leg.EXIT], state=LIVE)
            if (intent := reads.get(OrderIntent, order.client_order_id)) is not None and order.state is not OrderState.HELD
        )
        return max(0, min(book.held, theirs - closing))

    def _past_stop(self, book: DecisionBook) -> bool:
        """The last price is where the stop would have closed."""
        price, _ = self.last_price(book.plan.symbol)
        return price is not None and book.plan.side.sign * (price - book.plan.stop) <= 0

    def _exit(self, book: DecisionBook, quantity: int, reason: str, reads: Reads) -> Effect:
        now = self.clock.now()
        intents = IntentWriter(ledger(reads)).exit(book.plan, quantity, book.generation(Leg.EXIT), reason, now)
        told = order_event(book.orders[0], "exit_decided", now, quantity=quantity, reason=reason)
        return intents + Effect(events=(told,))

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
        taken = self.may_send() and await self.broker.cancel(order.broker_order_id)
        return Effect(events=(order_event(order, "cancel_requested", self.clock.now(), reason=reason, taken=taken),))

    def _look_again(self, job: Job, type_: str, client_order_id: str) -> Effect:
        at = self.clock.now() + self.policy.step
        key = f"{type_}:{client_order_id}:{to_text(at)}"
        return Effect(next=(Next(type_, key, job.payload, at, trace_id=job.trace_id),))

    def _close_out(self, decision_id: str, reason: str, at: datetime) -> Next:
        payload = {"decision_id": decision_id, "reason": reason}
        return Next("close_out", f"close_out:{decision_id}:{to_text(at)}", payload, at, trace_id=trace_id(decision_id))
