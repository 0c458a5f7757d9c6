"""Broker truth against ours. A failed read is not an empty read; a mismatch stops new risk; nothing is repaired by trading."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import Transient, Unavailable
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
from finagent.domain.portfolio import Position
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.order_execution import Found, OrderExecutionPort
from finagent.domain.ports.store import Reads
from finagent.domain.time import from_text, to_text
from finagent.domain.trading_state import StartGate, TradingState
from finagent.services.execution.reports import order_of_report, with_legs
from finagent.services.kill_switch import KillSwitch, state_change
from finagent.services.portfolio import ledger

log = structlog.get_logger(__name__)
RETRIES = 2  # of a comparison that the broker did not answer; then the timer goes on
AT_BROKER = [OrderState.HELD, OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED]


@dataclass(frozen=True, slots=True)
class ReconciliationPolicy:
    """`interval_seconds` between two comparisons during a session."""

    interval_seconds: int


@dataclass(frozen=True, slots=True)
class Reconciler:
    broker: OrderExecutionPort
    clock: Clock
    policy: ReconciliationPolicy
    kill_switch: KillSwitch

    async def reconcile(self, job: Job, reads: Reads) -> Effect:
        """The timed comparison; publishes the next one until the session's close, also when the broker stays silent."""
        now = self.clock.now()
        at = now + timedelta(seconds=self.policy.interval_seconds)
        until = from_text(job.payload["until"])
        following = (Next("reconcile", f"reconcile:{to_text(at)}", job.payload, at),) if at < until else ()
        try:
            differences = await self.differences(reads)
        except Transient as error:
            if job.attempts < RETRIES:
                raise
            silence = DecisionEvent(SubjectType.ACCOUNT, "account", "reconciliation_unanswered", now, body={"error": str(error)})
            return Effect(next=following, events=(silence,))
        body = {"differences": list(differences)}
        events = (DecisionEvent(SubjectType.ACCOUNT, "account", "reconciled", now, body=body),) if differences else ()
        return self.judge(differences, reads) + Effect(next=following, events=events)

    def judge(self, differences: tuple[str, ...], reads: Reads) -> Effect:
        """Agreement opens the gate, unless the store is held back; a mismatch shuts it until a clean comparison and halts until
        a person looked."""
        shut = differences or self.kill_switch.held_back()
        self.kill_switch.gate = StartGate.RECONCILING if shut else StartGate.OPEN
        if differences and self.kill_switch.state().state.new_risk:
            reason = "reconciliation: " + "; ".join(differences[:5])
            return state_change(reads, TradingState.HALTED, reason, "reconciliation", self.clock.now())
        return Effect()

    async def differences(self, reads: Reads) -> tuple[str, ...]:
        """What the broker and we say differently, a sentence each. Raises Transient when the broker gave no usable answer."""
        account = await self.broker.account()
        if account.account_id != ledger(reads).account:
            return (f"account {account.account_id} is not ours ({ledger(reads).account})",)
        return (*await self._positions(reads), *await self._orders(reads))

    async def start(self, reads: Reads) -> None:
        """Once, when what happened at the broker is in the store: the first comparison, which opens the gate if both agree.

        Raises Unavailable when the broker gives no usable answer: a failed read is not an empty one.
        """
        self.kill_switch.gate = StartGate.RECONCILING
        try:
            differences = await self.differences(reads)
        except Transient as error:
            raise Unavailable(f"the broker cannot be read at start: {error}") from error
        await self.kill_switch.queue.submit(self.judge(differences, reads))
        log.info("start_reconciled", start_gate=self.kill_switch.gate.value, differences=list(differences))

    async def _positions(self, reads: Reads) -> list[str]:
        theirs = {position.symbol: position.quantity for position in await self.broker.positions() if position.quantity}
        ours = {position.symbol: position.quantity for position in reads.find(Position) if position.quantity}
        return [
            f"position {symbol}: the broker holds {theirs.get(symbol, 0)}, we hold {ours.get(symbol, 0)}"
            for symbol in sorted(theirs.keys() | ours.keys())
            if theirs.get(symbol, 0) != ours.get(symbol, 0)
        ]

    async def _orders(self, reads: Reads) -> list[str]:
        reports = with_legs(await self.broker.open_orders())
        parents = {report.broker_order_id: report for report in reports}
        found, seen = [], set()
        for report in reports:
            order = order_of_report(report, parents, reads)
            if order is None:
                found.append(f"order {report.broker_order_id} of {report.symbol} is not ours")
            else:
                seen.add(order.client_order_id)
        for order in reads.find(BrokerOrder, state=AT_BROKER, outcome=SendOutcome.CONFIRMED):
            primary = order.parent_client_order_id is None
            if primary and order.client_order_id not in seen:
                answer = await self.broker.look_up(order.client_order_id)
                if answer.found is Found.NO:
                    found.append(f"order {order.client_order_id} of {order.symbol} is unknown to the broker")
        return found
