"""The only place that sends. A send ends in one of four outcomes, and what we do not know is looked up, never guessed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from finagent.domain.decision import SignalOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Permanent, Transient
from finagent.domain.gap import GapCandidate
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, OrderState, SendOutcome
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import Found, LookUp, OrderExecutionPort, SendResult
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.domain.trading_state import TradingState
from finagent.services.execution import symbol_locks
from finagent.services.execution.intents import request_of, send_job
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.execution.reports import adopt, end_legs, entry_ended, matches, order_event
from finagent.services.kill_switch import KillSwitch, state_change, strategy_lock


@dataclass(frozen=True, slots=True)
class ExecutionGateway:
    broker: OrderExecutionPort
    clock: Clock
    policy: ExecutionPolicy
    kill_switch: KillSwitch
    session_close: Callable[[], datetime]
    may_send: Callable[[], bool]  # nobody else can be sending for this account before our request is over

    # -- send ----------------------------------------------------------------------------------------------------------------

    async def send(self, job: Job, reads: Reads) -> Effect:
        """Send a committed intent; run again, first make sure that no earlier request can still apply, and look."""
        intent, order = _stored(job, reads)
        if order.outcome not in (None, SendOutcome.UNRESOLVED) or not order.state.live:
            return Effect()
        if job.ran_before:
            asked_at, found = self.clock.now(), await self._find(intent)
            if found.found is Found.UNKNOWN:
                return self._marked(order) + self._unresolved(order)
            if found.found is Found.YES:
                return self._marked(order) + self._looked_up(intent, order, found, asked_at, reads)
        request = request_of(intent, reads)
        objection = self._objection(intent, reads)
        if objection is not None:
            return self._denied(order, *objection, reads)
        if not self.may_send():  # what was sent under this intent before is looked up by whoever leads then
            return self._unresolved(order, "not sent: the lease may end before the send does", order.sends)
        result = await self.broker.submit(request, lambda: _said(self._objection(intent, reads)))
        if result.outcome is SendOutcome.DENIED and (objection := self._objection(intent, reads)) is not None:
            return self._denied(order, *objection, reads)
        return self._sent(intent, order, result, reads)

    def _objection(self, intent: OrderIntent, reads: Reads) -> tuple[SignalOutcome, str] | None:
        """Why an entry may not leave now; exits always may."""
        if intent.leg is not Leg.ENTRY:
            return None
        if intent.valid_until is not None and self.clock.now() >= intent.valid_until:
            return SignalOutcome.EXPIRED, f"valid until {to_text(intent.valid_until)}"
        candidate = reads.get(GapCandidate, intent.decision_id)
        objection = self.kill_switch.objection() or symbol_locks.objection(intent.symbol, reads)
        objection = objection or (strategy_lock(candidate.run_id, reads) if candidate is not None else "")
        return (SignalOutcome.RISK_DENIED, objection) if objection else None

    def _denied(self, order: BrokerOrder, outcome: SignalOutcome, reason: str, reads: Reads) -> Effect:
        """Our own no. An order that an earlier send may have brought to the broker is not denied: it stays to be looked up."""
        now = self.clock.now()
        if order.outcome is SendOutcome.UNRESOLVED:
            return self._again(order)
        values = {"state": OrderState.DENIED, "outcome": SendOutcome.DENIED, "reason": reason, "updated_at": now}
        change = Set(BrokerOrder, (order.client_order_id,), values, {"state": order.state})
        effect = Effect((change,), (), (order_event(order, "order_denied", now, reason=reason),))
        effect += end_legs(order, OrderState.DENIED, SendOutcome.DENIED, reads, now)
        return effect + (entry_ended(order, outcome, reason, reads, now) if order.leg is Leg.ENTRY else Effect())

    def _sent(self, intent: OrderIntent, order: BrokerOrder, result: SendResult, reads: Reads) -> Effect:
        now, marked = self.clock.now(), self._marked(order)
        if result.outcome is SendOutcome.CONFIRMED and result.report is not None:
            return marked + adopt(order, result.report, reads, now)
        if result.outcome is SendOutcome.DENIED:
            return self._denied(order, SignalOutcome.RISK_DENIED, result.message, reads)
        if result.outcome is SendOutcome.REFUSED and order.outcome is None:
            reason = f"{result.code} {result.message}".strip()
            values = {"state": OrderState.REJECTED, "outcome": SendOutcome.REFUSED, "reason": reason, "updated_at": now}
            change = Set(BrokerOrder, (order.client_order_id,), values, {"state": order.state})
            effect = marked + Effect((change,), (), (order_event(order, "order_refused", now, reason=reason),))
            effect += end_legs(order, OrderState.REJECTED, SendOutcome.REFUSED, reads, now)
            return effect + (
                entry_ended(order, SignalOutcome.REJECTED, reason, reads, now) if order.leg is Leg.ENTRY else Effect()
            )
        return marked + self._unresolved(order)

    def _marked(self, order: BrokerOrder) -> Effect:
        """One more send, whether this process or the one before it saw the answer."""
        values = {"sends": order.sends + 1, "sent_at": order.sent_at or self.clock.now()}
        return Effect((Set(BrokerOrder, (order.client_order_id,), values),))

    def _unresolved(self, order: BrokerOrder, reason: str = "no answer", sends: int | None = None) -> Effect:
        """We do not know: say so, and look it up when the time-out has passed."""
        now, sends = self.clock.now(), order.sends + 1 if sends is None else sends
        values = {"outcome": SendOutcome.UNRESOLVED, "reason": reason, "updated_at": now}
        change = Set(BrokerOrder, (order.client_order_id,), values, {"state": order.state, "outcome": order.outcome})
        return Effect((change,), (), (order_event(order, "order_unresolved", now, sends=sends),)) + self._again(order)

    def _again(self, order: BrokerOrder, at: datetime | None = None) -> Effect:
        at = at or self.clock.now() + timedelta(seconds=self.policy.send_timeout_seconds)
        payload = {"client_order_id": order.client_order_id, "decision_id": order.decision_id}
        return Effect(next=(Next("resolve", f"resolve:{order.client_order_id}:{to_text(at)}", payload, at),))

    # -- find out ------------------------------------------------------------------------------------------------------------

    async def resolve(self, job: Job, reads: Reads) -> Effect:
        """Look an unresolved order up: adopt it, send the same intent again where that is safe, wait, or park it."""
        intent, order = _stored(job, reads)
        if order.outcome is not SendOutcome.UNRESOLVED or not order.state.live:
            return Effect()
        asked_at, found = self.clock.now(), await self._find(intent)
        return self._looked_up(intent, order, found, asked_at, reads)

    async def _find(self, intent: OrderIntent) -> LookUp:
        """What the broker knows of the order; its no counts once no earlier request can bring it there any more.

        No answer is no failure of the job: the next look-up is its retry, so that a silent broker parks nothing that would
        outlast the silence.
        """
        settled = True
        try:
            await self.broker.barrier()
        except Transient:
            settled = False
        found = await self.broker.look_up(intent.client_order_id)
        return found if settled or found.found is not Found.NO else LookUp(Found.UNKNOWN)

    def _looked_up(self, intent: OrderIntent, order: BrokerOrder, found: LookUp, asked_at: datetime, reads: Reads) -> Effect:
        now = self.clock.now()
        if found.found is Found.YES and found.report is not None:
            if not matches(intent, found.report):
                reason = f"the broker's order under {intent.client_order_id} is not the one we meant"
                halt = state_change(reads, TradingState.HALTED, reason, "execution", now)
                return halt + self._set_aside(order, reason)  # looking again would find it again: a person has to
            return adopt(order, found.report, reads, now)
        if found.found is Found.NO and asked_at > self.session_close():  # not now: what came at the close, the look-up missed
            return self._never_arrived(order, reads)
        if found.found is Found.NO and self._may_send_again(intent, order):
            event = order_event(order, "order_sent_again", now, sends=order.sends)
            return Effect(next=(send_job(intent, to_text(now), None),), events=(event,))
        started = order.sent_at or order.updated_at
        if now - started > timedelta(seconds=self.policy.lookup_window_seconds):
            return self._parked(order, "no look-up found it within the window")
        return self._again(order)

    def _may_send_again(self, intent: OrderIntent, order: BrokerOrder) -> bool:
        """Only under the same id, only where the broker refuses a used id for ever, only while the intent is valid."""
        valid = intent.valid_until is None or self.clock.now() < intent.valid_until
        return self.broker.deduplicates_forever and valid and order.sends < self.policy.sends_max

    def _parked(self, order: BrokerOrder, reason: str) -> Effect:
        """Not terminal: the symbol stays locked; looked up again when the session is over."""
        closed = self.session_close() + self.policy.step
        later = self._again(order, closed if self.clock.now() < closed else None)
        return self._set_aside(order, reason) + later

    def _set_aside(self, order: BrokerOrder, reason: str) -> Effect:
        if order.state is OrderState.PARKED:
            return Effect()
        now = self.clock.now()
        change = Set(
            BrokerOrder,
            (order.client_order_id,),
            {"state": OrderState.PARKED, "reason": reason, "updated_at": now},
            {"state": order.state},
        )
        return Effect((change,), (), (order_event(order, "order_parked", now, reason=reason),))

    def _never_arrived(self, order: BrokerOrder, reads: Reads) -> Effect:
        """A day order that the broker does not know after the close of its session can never apply any more."""
        now, reason = self.clock.now(), "it never reached the broker, and its session is over"
        values = {"state": OrderState.EXPIRED, "reason": reason, "updated_at": now}
        change = Set(BrokerOrder, (order.client_order_id,), values, {"state": order.state})
        effect = Effect((change,), (), (order_event(order, "order_never_arrived", now),))
        effect += end_legs(order, OrderState.EXPIRED, SendOutcome.UNRESOLVED, reads, now)
        return effect + (entry_ended(order, SignalOutcome.EXPIRED, reason, reads, now) if order.leg is Leg.ENTRY else Effect())


def _said(objection: tuple[SignalOutcome, str] | None) -> str:
    return objection[1] if objection is not None else ""


def _stored(job: Job, reads: Reads) -> tuple[OrderIntent, BrokerOrder]:
    name = job.payload["client_order_id"]
    intent, order = reads.get(OrderIntent, name), reads.get(BrokerOrder, name)
    if intent is None or order is None:
        raise Permanent(f"{name}: no committed intent")
    return intent, order
