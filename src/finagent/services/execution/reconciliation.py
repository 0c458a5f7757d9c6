"""Broker truth against ours. A failed read is not an empty read; a mismatch stops new risk, in its symbol or in all; nothing is
repaired by trading."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
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
from finagent.domain.ports.order_execution import Found, OrderExecutionPort, OrderReport
from finagent.domain.ports.store import Reads
from finagent.domain.time import from_text, to_text
from finagent.domain.trading_state import LockState, StartGate, SymbolLock, TradingState
from finagent.services.execution import symbol_locks
from finagent.services.execution.reports import order_of_report, with_legs
from finagent.services.kill_switch import KillSwitch, state_change
from finagent.services.portfolio import ledger

log = structlog.get_logger(__name__)
RETRIES = 2  # of a comparison that the broker did not answer; then the timer goes on
AT_BROKER = [OrderState.HELD, OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED]


@dataclass(frozen=True, slots=True)
class Difference:
    """What the broker and we say differently, a sentence; of one symbol, or of the whole account."""

    text: str
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class ReconciliationPolicy:
    """`interval_seconds` between two comparisons during a session."""

    interval_seconds: int


@dataclass(frozen=True, slots=True)
class Reconciler:
    """`look` brings the broker's activity into the store: what happened since the last look is no difference."""

    broker: OrderExecutionPort
    clock: Clock
    policy: ReconciliationPolicy
    kill_switch: KillSwitch
    look: Callable[[], Awaitable[None]]

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
        body = {"differences": [difference.text for difference in differences]}
        events = (DecisionEvent(SubjectType.ACCOUNT, "account", "reconciled", now, body=body),) if differences else ()
        return self.judge(differences, reads) + Effect(next=following, events=events)

    def judge(self, differences: tuple[Difference, ...], reads: Reads) -> Effect:
        """A difference of one symbol locks that. One of the account shuts the gate until a clean comparison and halts until a
        person looked; without one the gate opens, unless the store is held back."""
        of_account = [difference.text for difference in differences if not difference.symbol]
        shut = of_account or self.kill_switch.held_back()
        self.kill_switch.gate = StartGate.RECONCILING if shut else StartGate.OPEN
        effect, reasons = Effect(), defaultdict[str, list[str]](list)
        for difference in differences:
            reasons[difference.symbol].append(difference.text)
        for symbol in sorted(reasons.keys() - {""}):
            effect += symbol_locks.lock(symbol, "; ".join(reasons[symbol]), "reconciliation", reads, self.clock.now())
        if of_account and self.kill_switch.state().state.new_risk:
            reason = "reconciliation: " + "; ".join(of_account)
            effect += state_change(reads, TradingState.HALTED, reason, "reconciliation", self.clock.now())
        return effect

    async def differences(self, reads: Reads) -> tuple[Difference, ...]:
        """What the broker and we say differently and no person has seen yet, also after another look. Raises Transient when the
        broker gave no usable answer."""
        account = await self.broker.account()
        if account.account_id != ledger(reads).account:
            return (Difference(f"account {account.account_id} is not ours ({ledger(reads).account})"),)
        found = await self._compared(reads)
        if not found:
            return ()
        await self.look()
        return tuple(difference for difference in await self._compared(reads) if difference in found)

    async def _compared(self, reads: Reads) -> list[Difference]:
        return [*await self._positions(reads), *await self._orders(reads)]

    async def release(self, reads: Reads, by: str) -> Effect:
        """A person has looked: every locked symbol is released, with what the broker holds and has in it beyond ours as known.
        Nothing is traded. Raises Transient when the broker gave no usable answer."""
        theirs, ours = await self._held(reads)
        foreign = defaultdict[str, list[str]](list)
        for report, order in await self._live_orders(reads):
            if order is None:
                foreign[report.symbol].append(report.broker_order_id)
        effect = Effect()
        for known in reads.find(SymbolLock, state=LockState.LOCKED):
            beyond = theirs.get(known.symbol, 0) - ours.get(known.symbol, 0)
            orders = tuple(sorted(foreign[known.symbol]))
            effect += symbol_locks.release(known, by, self.clock.now(), beyond, orders)
        return effect

    async def start(self, reads: Reads) -> None:
        """Once, when what happened at the broker is in the store: the first comparison, which opens the gate if both agree.

        Raises Unavailable when the broker gives no usable answer: a failed read is not an empty one.
        """
        self.kill_switch.gate = StartGate.RECONCILING
        try:
            differences = await self.differences(reads)
        except Transient as error:
            raise Unavailable(f"the broker cannot be read at start: {error}") from error
        queue = self.kill_switch.queue
        await queue.release(await queue.submit(self.judge(differences, reads)))
        told = [difference.text for difference in differences]
        log.info("start_reconciled", start_gate=self.kill_switch.gate.value, differences=told)

    async def _held(self, reads: Reads) -> tuple[dict[str, int], dict[str, int]]:
        theirs = {position.symbol: position.quantity for position in await self.broker.positions() if position.quantity}
        ours = {position.symbol: position.quantity for position in reads.find(Position) if position.quantity}
        return theirs, ours

    async def _positions(self, reads: Reads) -> list[Difference]:
        theirs, ours = await self._held(reads)
        known = {lock.symbol: lock.external_quantity for lock in reads.find(SymbolLock)}
        return [
            Difference(
                f"position {symbol}: the broker holds {theirs.get(symbol, 0)}, we hold {ours.get(symbol, 0)}"
                + (f", and {known[symbol]} are known as somebody else's" if known.get(symbol) else ""),
                symbol,
            )
            for symbol in sorted(theirs.keys() | ours.keys() | known.keys())
            if theirs.get(symbol, 0) - ours.get(symbol, 0) != known.get(symbol, 0)
        ]

    async def _live_orders(self, reads: Reads) -> list[tuple[OrderReport, BrokerOrder | None]]:
        """Every live order at the broker, with ours that it is; those of somebody else have none."""
        reports = with_legs(await self.broker.open_orders())
        parents = {report.broker_order_id: report for report in reports}
        return [(report, order_of_report(report, parents, reads)) for report in reports]

    async def _orders(self, reads: Reads) -> list[Difference]:
        found, seen = [], set()
        for report, order in await self._live_orders(reads):
            lock = reads.get(SymbolLock, report.symbol)
            if order is not None:
                seen.add(order.client_order_id)
            elif lock is None or not lock.knows(report.broker_order_id):
                text = f"order {report.broker_order_id} of {report.symbol} is not ours"
                found.append(Difference(text, report.symbol))
        for order in reads.find(BrokerOrder, state=AT_BROKER, outcome=SendOutcome.CONFIRMED):
            primary = order.parent_client_order_id is None
            if primary and order.client_order_id not in seen:
                answer = await self.broker.look_up(order.client_order_id)
                if answer.found is Found.NO:
                    text = f"order {order.client_order_id} of {order.symbol} is unknown to the broker"
                    found.append(Difference(text, order.symbol))
        return found
