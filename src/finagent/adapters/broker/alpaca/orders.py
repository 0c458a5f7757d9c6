"""Our request as the SDK's request: always our own id, prices on their tick before they become floats, whole shares, no
extended hours."""

from decimal import Decimal

from alpaca.trading import enums, requests
from pydantic import ValidationError

from finagent.domain.errors import BadInput
from finagent.domain.money import to_tick
from finagent.domain.orders import OrderClass, OrderType, Side, TimeInForce
from finagent.domain.ports.order_execution import OrderRequest

CLIENT_ORDER_ID_LENGTH_MAX = 128
SIDES = {Side.BUY: enums.OrderSide.BUY, Side.SELL: enums.OrderSide.SELL}
TIMES_IN_FORCE = {TimeInForce.DAY: enums.TimeInForce.DAY, TimeInForce.GTC: enums.TimeInForce.GTC}
CLASSES = {
    OrderClass.SIMPLE: enums.OrderClass.SIMPLE,
    OrderClass.BRACKET: enums.OrderClass.BRACKET,
    OrderClass.OCO: enums.OrderClass.OCO,
}
TYPES = {
    OrderType.MARKET: requests.MarketOrderRequest,
    OrderType.LIMIT: requests.LimitOrderRequest,
    OrderType.STOP: requests.StopOrderRequest,
    OrderType.STOP_LIMIT: requests.StopLimitOrderRequest,
}


def order_data(request: OrderRequest) -> requests.OrderRequest:
    """What the SDK sends. Raises BadInput for a request that nobody could take, before anything leaves."""
    if not 0 < len(request.client_order_id) <= CLIENT_ORDER_ID_LENGTH_MAX:
        raise BadInput(f"order {request.client_order_id!r}: an id has 1 to {CLIENT_ORDER_ID_LENGTH_MAX} characters")
    fields = {
        "symbol": request.symbol,
        "qty": request.quantity,
        "side": SIDES[request.side],
        "time_in_force": TIMES_IN_FORCE[request.time_in_force],
        "order_class": CLASSES[request.order_class],
        "extended_hours": False,
        "client_order_id": request.client_order_id,
        "limit_price": _price(request.limit_price),
        "stop_price": _price(request.stop_price),
    }
    target = request.limit_price if request.order_class is OrderClass.OCO else request.take_profit_price
    if target is not None and request.order_class is not OrderClass.SIMPLE:
        fields["take_profit"] = requests.TakeProfitRequest(limit_price=_float(target))
    if request.stop_loss_price is not None:
        fields["stop_loss"] = requests.StopLossRequest(stop_price=_float(request.stop_loss_price))
    try:
        return TYPES[request.type](**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(problem["msg"] for problem in error.errors())
        raise BadInput(f"order {request.client_order_id}: {problems}") from error


def _price(price: Decimal | None) -> float | None:
    return None if price is None else _float(price)


def _float(price: Decimal) -> float:
    """The float whose shortest text is the price on its tick, so that is what stands in the JSON."""
    return float(to_tick(price))
