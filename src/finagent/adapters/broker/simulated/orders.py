"""Orders as the broker keeps them, and what it derives of its own: ids, groups, reports' facts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from finagent.domain.identity import digest
from finagent.domain.money import ZERO
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, Side, TimeInForce
from finagent.domain.ports.order_execution import OrderRequest

MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class LedgerOrder:
    """One row of ledger_order. `group_id` is the broker id of the request's first order.

    `market_time` is when it was received, `active_from` the first instant whose bar it may trade in (a leg: when its entry
    was filled), `changed_at` the last change, all in market time. `notional` is the exact value of what was filled.
    """

    broker_order_id: str
    client_order_id: str
    parent_broker_order_id: str | None
    group_id: str
    leg: Leg | None
    order_class: OrderClass
    symbol: str
    side: Side
    quantity: int
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce
    status: OrderState
    filled_quantity: int
    notional: Decimal
    elected: bool
    market_time: datetime
    active_from: datetime
    changed_at: datetime

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled_quantity

    @property
    def working(self) -> bool:
        """It can trade: live and not held back."""
        return self.status in (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)

    @property
    def reference(self) -> Decimal | None:
        """The price that the order names: what it reserves, and what its legs are measured from."""
        return self.limit_price if self.limit_price is not None else self.stop_price


@dataclass(frozen=True, slots=True)
class Execution:
    """One row of ledger_execution; USD."""

    execution_id: str
    broker_order_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    fee: Decimal
    market_time: datetime

    @property
    def cash_change(self) -> Decimal:
        return -self.side.sign * self.quantity * self.price - self.fee


def next_minute(instant: datetime) -> datetime:
    """The first whole minute after the instant: when a request of this instant is seen to have had its effect."""
    return instant.replace(second=0, microsecond=0) + MINUTE


def broker_order_id(client_order_id: str, ordinal: int) -> str:
    """Derived, so that the same request is the same order in any process; `ordinal` counts earlier uses of the client's id."""
    return "sb-" + digest(client_order_id, ordinal, length=24)


def orders_of(request: OrderRequest, ordinal: int, at: datetime) -> list[LedgerOrder]:
    """The orders that a request opens, the first one first."""
    first_id = broker_order_id(request.client_order_id, ordinal)
    first_leg = {OrderClass.SIMPLE: None, OrderClass.BRACKET: Leg.ENTRY, OrderClass.OCO: Leg.TARGET}[request.order_class]
    first = LedgerOrder(
        first_id,
        request.client_order_id,
        None,
        first_id,
        first_leg,
        request.order_class,
        request.symbol,
        request.side,
        request.quantity,
        request.type,
        request.limit_price,
        request.stop_price,
        request.time_in_force,
        OrderState.ACCEPTED,
        0,
        ZERO,
        False,
        at,
        at,
        at,
    )
    if request.order_class is OrderClass.SIMPLE:
        return [first]
    stop = _leg(first, Leg.STOP, OrderType.STOP, None, request.stop_loss_price)
    if request.order_class is OrderClass.OCO:
        return [first, stop]
    return [first, _leg(first, Leg.TARGET, OrderType.LIMIT, request.take_profit_price, None), stop]


def _leg(first: LedgerOrder, leg: Leg, type_: OrderType, limit: Decimal | None, stop: Decimal | None) -> LedgerOrder:
    """A leg with the broker's own ids: it leaves what a bracket's entry brought, or shares the side of an OCO's target."""
    held = first.order_class is OrderClass.BRACKET
    side = first.side if not held else Side.SELL if first.side is Side.BUY else Side.BUY
    own = digest(first.broker_order_id, leg.value, length=24)
    return LedgerOrder(
        f"sb-{own}",
        f"leg-{own}",
        first.broker_order_id,
        first.group_id,
        leg,
        first.order_class,
        first.symbol,
        side,
        first.quantity,
        type_,
        limit,
        stop,
        first.time_in_force,
        OrderState.HELD if held else OrderState.ACCEPTED,
        0,
        ZERO,
        False,
        first.market_time,
        first.active_from,
        first.market_time,
    )
