"""What a broker's report of one of our orders changes in what we know."""

from collections.abc import Iterable
from datetime import datetime

from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Next
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, OrderState, SendOutcome, advance
from finagent.domain.ports.order_execution import OrderReport
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text

ENTRY_ENDINGS = {
    OrderState.CANCELLED: SignalOutcome.CANCELLED,
    OrderState.EXPIRED: SignalOutcome.CANCELLED,
    OrderState.REJECTED: SignalOutcome.REJECTED,
}


def matches(intent: OrderIntent, report: OrderReport) -> bool:
    """The broker's order is the one we meant: symbol, side, quantity, type and prices agree."""
    return (report.symbol, report.side, report.quantity, report.type, report.limit_price, report.stop_price) == (
        intent.symbol,
        intent.side,
        intent.quantity,
        intent.type,
        intent.limit_price,
        intent.stop_price,
    )


def order_event(order: BrokerOrder, kind: str, at: datetime, **body: object) -> DecisionEvent:
    """The next event of an order in its decision's story."""
    body = {"client_order_id": order.client_order_id, "leg": order.leg.value, **body}
    return DecisionEvent(SubjectType.DECISION, order.decision_id, kind, at, trace_id(order.decision_id), order.decision_id, body)


def order_of_report(report: OrderReport, parents: dict[str, OrderReport], reads: Reads) -> BrokerOrder | None:
    """Our order that the report speaks of: by our own id, a leg by (parent, leg); None for an order that is not ours."""
    own = reads.get(BrokerOrder, report.client_order_id)
    if own is not None or report.parent_broker_order_id is None or report.leg is None:
        return own
    parent = parents.get(report.parent_broker_order_id)
    parent_id = parent.client_order_id if parent is not None else None
    if parent_id is None:
        found = reads.find(BrokerOrder, broker_order_id=report.parent_broker_order_id)
        parent_id = found[0].client_order_id if found else None
    legs = reads.find(BrokerOrder, parent_client_order_id=parent_id, leg=report.leg) if parent_id else []
    return legs[0] if legs else None


def with_legs(reports: Iterable[OrderReport]) -> list[OrderReport]:
    """Reports and the legs nested in them, each once, parents first."""
    flat: dict[str, OrderReport] = {}
    for report in reports:
        flat.setdefault(report.broker_order_id, report)
        for leg in report.legs:
            flat.setdefault(leg.broker_order_id, leg)
    return list(flat.values())


def adopt(order: BrokerOrder, report: OrderReport, reads: Reads, at: datetime) -> Effect:
    """The order is at the broker: CONFIRMED, with all that the report says of it and of its legs."""
    effect = apply_report(order, report, reads, at)
    for leg in report.legs:
        ours = order_of_report(leg, {report.broker_order_id: report}, reads)
        if ours is not None:
            effect += apply_report(ours, leg, reads, at)
    return effect


def ahead(report: OrderReport, order: BrokerOrder) -> bool:
    """The report counts shares whose executions we have not seen."""
    return report.filled_quantity > order.filled_quantity


def apply_report(order: BrokerOrder, report: OrderReport, reads: Reads, at: datetime) -> Effect:
    """The state moves along its table; an entry that ended unfilled ends its candidate. Old news changes nothing.

    Quantities are not taken from reports: they come from executions (see activity). Until those come that a report counts, the
    order is live: one that ended holds exactly what its executions say, and nothing is sold or protected by guess.
    """
    state = advance(order.state, OrderState.ACCEPTED if ahead(report, order) else report.state)
    confirmed = order.outcome is not SendOutcome.CONFIRMED
    if state is order.state and not confirmed and order.broker_order_id == report.broker_order_id:
        return Effect()
    values = {"state": state, "broker_order_id": report.broker_order_id, "outcome": SendOutcome.CONFIRMED, "updated_at": at}
    change = Set(BrokerOrder, (order.client_order_id,), values, {"state": order.state, "outcome": order.outcome})
    event = order_event(order, "order_reported", at, state=state.value, broker_order_id=report.broker_order_id)
    effect = Effect((change,), (), (event,))
    unfilled = report.filled_quantity == 0 and order.filled_quantity == 0
    if order.leg is Leg.ENTRY and state in ENTRY_ENDINGS and state is not order.state and unfilled:
        effect += entry_ended(order, ENTRY_ENDINGS[state], f"entry {state.value.lower()} unfilled", reads, at)
    if order.leg is Leg.ENTRY and order.state is OrderState.PARKED and state.live:
        effect += _expiry_of_found(order, reads, at)
    return effect


def _expiry_of_found(order: BrokerOrder, reads: Reads, at: datetime) -> Effect:
    """An entry that was parked when its validity ended and is found alive: nobody else would cancel it."""
    intent = reads.get(OrderIntent, order.client_order_id)
    if intent is None or intent.valid_until is None or at < intent.valid_until:
        return Effect()
    payload = {"client_order_id": order.client_order_id, "decision_id": order.decision_id}
    return Effect(next=(Next("expire", f"expire:{order.client_order_id}:found:{to_text(at)}", payload),))


def entry_ended(order: BrokerOrder, outcome: SignalOutcome, reason: str, reads: Reads, at: datetime) -> Effect:
    """The candidate's outcome, unless it has one; the legs of an entry that never was end with it."""
    if reads.get(DecisionOutcome, order.decision_id) is not None:
        return Effect()
    ended = DecisionOutcome(order.decision_id, outcome, reason, at)
    return Effect((ended,), (), (order_event(order, "signal_ended", at, outcome=outcome.value, reason=reason),))


def end_legs(order: BrokerOrder, state: OrderState, outcome: SendOutcome, reads: Reads, at: datetime) -> Effect:
    """The legs of a request that never came to life at the broker end as it ended."""
    values = {"state": state, "outcome": outcome, "updated_at": at}
    legs = reads.find(BrokerOrder, parent_client_order_id=order.client_order_id)
    return Effect(tuple(Set(BrokerOrder, (leg.client_order_id,), values, {"state": leg.state}) for leg in legs if leg.state.live))
