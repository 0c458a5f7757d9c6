"""An order that takes another's place: PATCH makes a new order, it never changes the old one."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from finagent.adapters.broker.simulated.admission import Refusal, unprocessable
from finagent.adapters.broker.simulated.matching import on_tick
from finagent.adapters.broker.simulated.orders import LedgerOrder
from finagent.domain.identity import digest
from finagent.domain.money import ZERO, plain
from finagent.domain.orders import Leg, OrderClass, OrderState, TimeInForce


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is wanted of the new order; None: as the old one. `quantity` counts what the old one has filled."""

    client_order_id: str | None = None
    quantity: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None


@dataclass(frozen=True, slots=True)
class Replaced:
    """One row of ledger_replacement."""

    replaced_id: str
    by_id: str
    at: datetime


def irreplaceable(order: LedgerOrder, wanted: Replacement) -> Refusal | None:
    """Why the order cannot be replaced so. A leg keeps its quantity, the entry of a complex order keeps all."""
    if not order.status.live:
        return unprocessable(f'order is already in "{order.status.value.lower()}" state')
    if order.leg is Leg.ENTRY:
        return unprocessable("the entry of a bracket cannot be replaced here: cancel it")
    if order.order_class is not OrderClass.SIMPLE and wanted.quantity not in (None, order.quantity):
        return unprocessable("qty of a leg cannot be changed")
    if wanted.quantity is not None and wanted.quantity <= order.filled_quantity:
        return unprocessable(f"qty must be more than the filled qty {order.filled_quantity}")
    for name in ("limit_price", "stop_price"):
        price = getattr(wanted, name)
        if price is not None and getattr(order, name) is None:
            return unprocessable(f"a {order.type.value.lower()} order has no {name}")
        if price is not None and (price <= 0 or not on_tick(price)):
            return unprocessable(f"invalid {name} {plain(price)}. sub-penny increment does not fulfill minimum pricing criteria")
    return None


def successor(order: LedgerOrder, wanted: Replacement, at: datetime) -> LedgerOrder:
    """The new order: what the old one has not filled, under ids of its own, from the next bar on."""
    own = digest(order.broker_order_id, "replacement", length=24)
    new_id = f"sb-{own}"
    return replace(
        order,
        broker_order_id=new_id,
        client_order_id=wanted.client_order_id or f"replacement-{own}",
        group_id=new_id if order.order_class is OrderClass.SIMPLE else order.group_id,
        quantity=(wanted.quantity or order.quantity) - order.filled_quantity,
        limit_price=wanted.limit_price if wanted.limit_price is not None else order.limit_price,
        stop_price=wanted.stop_price if wanted.stop_price is not None else order.stop_price,
        time_in_force=wanted.time_in_force or order.time_in_force,
        status=OrderState.HELD if order.status is OrderState.HELD else OrderState.ACCEPTED,
        filled_quantity=0,
        notional=ZERO,
        elected=False,
        market_time=at,
        active_from=at,
        changed_at=at,
    )
