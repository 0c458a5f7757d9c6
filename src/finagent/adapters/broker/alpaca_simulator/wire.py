"""How ids, amounts, times and orders read at Alpaca: money is text, times have nine decimals, what is absent is null."""

from datetime import datetime, timedelta
from decimal import Decimal

from finagent.adapters.broker.simulated.orders import Execution, LedgerOrder
from finagent.adapters.broker.simulated.statement import Listed, Surroundings
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.identity import digest
from finagent.domain.money import plain
from finagent.domain.orders import Leg, OrderClass, OrderState, TimeInForce
from finagent.domain.time import EXCHANGE_ZONE, to_text

PREFIX, FILLER = "sb-", "000000"
EXCHANGE = "NASDAQ"
GTC_LIFE = timedelta(days=90)
AVERAGE_PLACES = Decimal("0.000001")
STATUS = {
    OrderState.HELD: "held",
    OrderState.ACCEPTED: "new",
    OrderState.PARTIALLY_FILLED: "partially_filled",
    OrderState.FILLED: "filled",
    OrderState.CANCELLED: "canceled",
    OrderState.EXPIRED: "expired",
    OrderState.REJECTED: "rejected",
}


def uuid_of(*name: str) -> str:
    """A UUID derived from what it names."""
    return _uuid(digest(*name))


def order_uuid(broker_order_id: str) -> str:
    """The broker's own id in the form of a UUID; `broker_order_id` is its inverse."""
    return _uuid(broker_order_id.removeprefix(PREFIX) + FILLER)


def broker_order_id(order_uuid: str) -> str:
    """The broker's own id; something that names no order for a text that is no such UUID."""
    word = order_uuid.lower().replace("-", "")
    return PREFIX + (word[:12] + word[13:16] + word[17:]).removesuffix(FILLER)


def asset_uuid(symbol: str) -> str:
    """The asset's id."""
    return uuid_of("asset", symbol)


def execution_uuid(execution: Execution) -> str:
    """The same in a trade update and in an activity."""
    return uuid_of("execution", execution.execution_id)


def time_text(instant: datetime) -> str:
    """UTC with nine decimals: `2008-10-01T13:35:00.000001000Z`."""
    return to_text(instant).removesuffix("Z") + "000Z"


def local_text(instant: datetime) -> str:
    """Exchange time with its offset: `2008-10-01T09:35:00.000000000-04:00`."""
    text = instant.astimezone(EXCHANGE_ZONE).isoformat(timespec="microseconds")
    return f"{text[:-6]}000{text[-6:]}"


def amount(value: Decimal) -> str:
    """Money to the cent or finer."""
    return plain(value.quantize(AVERAGE_PLACES))


def order_json(listed: Listed, legs: list[Listed] | None, around: Surroundings) -> Json:
    """An order as Alpaca tells it; `legs` None: flat."""
    order, ended = listed.order, order_end(listed.order)
    average = order.notional / order.filled_quantity if order.filled_quantity else None
    nested = None if not legs else [order_json(leg, None, around) for leg in legs]
    return {
        "id": order_uuid(order.broker_order_id),
        "client_order_id": order.client_order_id,
        "created_at": time_text(listed.submitted_at),
        "updated_at": time_text(max(order.changed_at, listed.submitted_at)),
        "submitted_at": time_text(listed.submitted_at),
        "filled_at": ended.get(OrderState.FILLED),
        "expired_at": ended.get(OrderState.EXPIRED),
        "canceled_at": None if listed.replaced else ended.get(OrderState.CANCELLED),
        "failed_at": ended.get(OrderState.REJECTED),
        "replaced_at": time_text(listed.replaced.at) if listed.replaced else None,
        "replaced_by": order_uuid(listed.replaced.by_id) if listed.replaced else None,
        "replaces": order_uuid(listed.replaces) if listed.replaces else None,
        "asset_id": asset_uuid(order.symbol),
        "symbol": order.symbol,
        "asset_class": "us_equity",
        "notional": None,
        "qty": str(order.quantity),
        "filled_qty": str(order.filled_quantity),
        "filled_avg_price": None if average is None else amount(average),
        "order_class": "" if order.order_class is OrderClass.SIMPLE else order.order_class.value.lower(),
        "order_type": order.type.value.lower(),
        "type": order.type.value.lower(),
        "side": order.side.value.lower(),
        "position_intent": _intent(order, around.positions.get(order.symbol, 0)),
        "time_in_force": order.time_in_force.value.lower(),
        "limit_price": _price(order.limit_price),
        "stop_price": _price(order.stop_price),
        "status": order_status(listed, around),
        "extended_hours": False,
        "legs": nested,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "subtag": None,
        "source": None,
        "expires_at": time_text(_expires_at(listed)),
    }


def order_status(listed: Listed, around: Surroundings) -> str:
    """The word for its state: `accepted` before the exchange opens; a stop stands behind its target, `held`, until elected."""
    order, session = listed.order, listed.session
    if order.status.live and order.group_id in around.cancelling:
        return "pending_cancel"
    if order.status is OrderState.ACCEPTED:
        if order.leg is Leg.STOP and not order.elected:
            return "held"
        return "new" if session is not None and session.opens_at <= around.now else "accepted"
    return "replaced" if listed.replaced else STATUS[order.status]


def order_end(order: LedgerOrder) -> dict[OrderState, str]:
    """When it ended, by what."""
    return {} if order.status.live else {order.status: time_text(order.changed_at)}


def _expires_at(listed: Listed) -> datetime:
    day = listed.order.time_in_force is TimeInForce.DAY and listed.session is not None
    return listed.session.closes_at if day and listed.session else listed.submitted_at + GTC_LIFE


def _intent(order: LedgerOrder, position: int) -> str:
    closes = order.leg in (Leg.TARGET, Leg.STOP) or position * order.side.sign < 0
    return f"{order.side.value.lower()}_to_{'close' if closes else 'open'}"


def _price(price: Decimal | None) -> str | None:
    return None if price is None else plain(price)


def _uuid(word: str) -> str:
    """30 hex digits of a word with the marks of a random UUID."""
    return f"{word[:8]}-{word[8:12]}-4{word[12:15]}-8{word[15:18]}-{word[18:30]}"
