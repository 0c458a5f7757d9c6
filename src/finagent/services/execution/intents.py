"""From an approved plan or an open quantity to the intents that are committed before anything is sent."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from finagent.domain import identity
from finagent.domain.effect import Effect
from finagent.domain.jobs import SEND_ENTRY_PRIORITY, Next
from finagent.domain.orders import BrokerOrder, Leg, OrderClass, OrderIntent, OrderState, OrderType, Side, TimeInForce
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.ports.store import Reads
from finagent.domain.risk import Approved
from finagent.domain.time import to_text
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import LedgerIdentity

FIRST_SEND = "first"


@dataclass(frozen=True, slots=True)
class IntentWriter:
    """Builds intents of one ledger; a new generation of a leg only after the previous one is terminal."""

    ledger: LedgerIdentity

    def entry(self, approved: Approved[TradePlan], at: datetime, *, bracket: bool) -> Effect:
        """The entry, in a bracket with its stop and target, and the job that sends it."""
        plan, quantity = approved.item, approved.quantity
        entry = self._intent(
            plan.decision_id,
            Leg.ENTRY,
            0,
            None,
            plan.symbol,
            plan.side,
            quantity,
            OrderType.STOP_LIMIT,
            plan.entry_limit,
            plan.entry,
            OrderClass.BRACKET if bracket else OrderClass.SIMPLE,
            approved.rank,
            "",
            plan.valid_until,
            at,
        )
        legs = self._protection(plan, quantity, 0, entry.client_order_id, at) if bracket else ()
        return self._committed((entry, *legs), SEND_ENTRY_PRIORITY + approved.rank, at)

    def oco(self, plan: TradePlan, quantity: int, generation: int, at: datetime) -> Effect:
        """Target and stop on a quantity that is already held; the target carries the stop."""
        target, stop = self._protection(plan, quantity, generation, None, at)
        return self._committed((target, stop), None, at)

    def exit(self, plan: TradePlan, quantity: int, generation: int, reason: str, at: datetime) -> Effect:
        """A market order that closes the quantity."""
        side = Side.SELL if plan.side is Side.BUY else Side.BUY
        intent = self._intent(
            plan.decision_id,
            Leg.EXIT,
            generation,
            None,
            plan.symbol,
            side,
            quantity,
            OrderType.MARKET,
            None,
            None,
            OrderClass.SIMPLE,
            0,
            reason,
            None,
            at,
        )
        return self._committed((intent,), None, at)

    def _protection(
        self, plan: TradePlan, quantity: int, generation: int, entry: str | None, at: datetime
    ) -> tuple[OrderIntent, OrderIntent]:
        """Target and stop. In a bracket both hang on the entry; alone, the target is the parent of the stop."""
        side = Side.SELL if plan.side is Side.BUY else Side.BUY
        order_class = OrderClass.BRACKET if entry else OrderClass.OCO
        target = self._intent(
            plan.decision_id,
            Leg.TARGET,
            generation,
            entry,
            plan.symbol,
            side,
            quantity,
            OrderType.LIMIT,
            plan.target,
            None,
            order_class,
            0,
            "",
            None,
            at,
        )
        stop = self._intent(
            plan.decision_id,
            Leg.STOP,
            generation,
            entry or target.client_order_id,
            plan.symbol,
            side,
            quantity,
            OrderType.STOP,
            None,
            plan.stop,
            order_class,
            0,
            "",
            None,
            at,
        )
        return target, stop

    def _intent(
        self,
        decision: str,
        leg: Leg,
        generation: int,
        parent: str | None,
        symbol: str,
        side: Side,
        quantity: int,
        type_: OrderType,
        limit: Decimal | None,
        stop: Decimal | None,
        order_class: OrderClass,
        rank: int,
        reason: str,
        valid_until: datetime | None,
        at: datetime,
    ) -> OrderIntent:
        name = identity.client_order_id(self.ledger.account, self.ledger.ledger_id, decision, leg.value, generation)
        return OrderIntent(
            name,
            decision,
            parent,
            leg,
            generation,
            symbol,
            side,
            quantity,
            type_,
            limit,
            stop,
            order_class,
            TimeInForce.DAY,
            rank,
            reason,
            valid_until,
            at,
        )

    def _committed(self, intents: tuple[OrderIntent, ...], priority: int | None, at: datetime) -> Effect:
        """All intents of one request with their orders, the send of the first, and the end of its validity."""
        first = intents[0]
        orders = tuple(
            BrokerOrder(
                i.client_order_id,
                i.decision_id,
                i.symbol,
                i.parent_client_order_id,
                i.leg,
                None,
                None,
                OrderState.PENDING,
                0,
                None,
                None,
                "",
                0,
                None,
                at,
            )
            for i in intents
        )
        jobs = [send_job(first, FIRST_SEND, priority)]
        if first.valid_until is not None:
            payload = {"client_order_id": first.client_order_id, "decision_id": first.decision_id}
            jobs.append(
                Next("expire", f"expire:{first.client_order_id}:{to_text(first.valid_until)}", payload, first.valid_until)
            )
        return Effect((*intents, *orders), tuple(jobs))


def send_job(intent: OrderIntent, send: str, priority: int | None) -> Next:
    """The job that sends an intent; `send` is FIRST_SEND or the market time of the decision to send it again."""
    payload = {"client_order_id": intent.client_order_id, "decision_id": intent.decision_id}
    return Next(
        "send",
        f"send:{intent.client_order_id}:{send}",
        payload,
        priority=priority,
        trace_id=identity.trace_id(intent.decision_id),
    )


def request_of(intent: OrderIntent, reads: Reads) -> OrderRequest:
    """The request that carries the intent and its legs."""
    legs = {leg.leg: leg for leg in reads.find(OrderIntent, parent_client_order_id=intent.client_order_id)}
    target, stop = legs.get(Leg.TARGET), legs.get(Leg.STOP)
    return OrderRequest(
        intent.client_order_id,
        intent.symbol,
        intent.side,
        intent.quantity,
        intent.type,
        intent.limit_price,
        intent.stop_price,
        intent.order_class,
        intent.time_in_force,
        target.limit_price if target else None,
        stop.stop_price if stop else None,
    )
