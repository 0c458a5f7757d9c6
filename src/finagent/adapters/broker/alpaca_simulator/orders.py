"""Orders and what closes positions: HTTP to the broker's frames and back."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from finagent.adapters.broker.alpaca_simulator.day_trading import require_no_pattern
from finagent.adapters.broker.alpaca_simulator.desk import Desk, Refused, Withheld, present, told
from finagent.adapters.broker.alpaca_simulator.faults import Fault, FaultKind
from finagent.adapters.broker.alpaca_simulator.wire import broker_order_id, order_json, order_status, order_uuid
from finagent.adapters.broker.simulated import wire as frames
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.replacement import Replacement
from finagent.adapters.broker.simulated.statement import Listed
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.errors import BadInput
from finagent.domain.orders import OrderClass, OrderType, Side, TimeInForce
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.time import from_text

CLIENT_ORDER_ID_LENGTH_MAX = 128
LIST_DEFAULT, LIST_MAX = 50, 500
BAD_REQUEST, UNPROCESSABLE = 40010001, 42210000
CLASSES = {"": OrderClass.SIMPLE, "simple": OrderClass.SIMPLE, "bracket": OrderClass.BRACKET, "oco": OrderClass.OCO}


class OrderDesk:
    """What /v2/orders and DELETE /v2/positions do. Raises Refused with Alpaca's status, code and message."""

    def __init__(self, desk: Desk, start_cash: Decimal, calendar: ExchangeCalendar) -> None:
        self._desk = desk
        self._start_cash = start_cash
        self._calendar = calendar
        self._hidden: dict[str, int] = {}
        self.suspended = False

    async def place(self, body: Json, fault: Fault | None = None) -> Json:
        """POST /v2/orders; the order with its legs."""
        if self.suspended:
            raise Refused(403, 40310000, "new orders are rejected by user request")
        request = order_request(body)
        scripted: Json = {}
        if fault is not None and fault.kind is FaultKind.LATE:
            scripted = {"late_minutes": fault.minutes}
        elif fault is not None and fault.kind is FaultKind.REJECTED:
            scripted = {"rejected": True}
        elif fault is not None and fault.kind is FaultKind.HIDDEN:
            self._hidden[request.client_order_id] = fault.look_ups

        def place(broker: SimulatedBroker) -> Json:
            require_no_pattern(broker, request, self._start_cash, self._calendar)
            return _place(broker, request, scripted)

        return await self._desk.ask(place)

    async def page(self, query: Mapping[str, str]) -> list[Json]:
        """GET /v2/orders: a page of them, flat unless nested."""
        return await self._desk.ask(lambda broker: _list(broker, query))

    async def get(self, order_id: str, nested: bool) -> Json:
        """GET /v2/orders/{id}."""
        return await self._desk.ask(lambda broker: _told_order(broker, _known(broker, order_id), nested))

    async def get_named(self, client_order_id: str, nested: bool) -> Json:
        """GET /v2/orders:by_client_order_id."""
        if self._hidden.get(client_order_id, 0) > 0:
            self._hidden[client_order_id] -= 1
            raise Refused(404, 40410000, f"order not found for {client_order_id}")

        def look_up(broker: SimulatedBroker) -> Json:
            told(broker, {"method": "look_up", "client_order_id": client_order_id})
            listed = broker.statement.named(client_order_id)
            if listed is None:
                raise Refused(404, 40410000, f"order not found for {client_order_id}")
            return _told_order(broker, listed, nested)

        return await self._desk.ask(look_up)

    async def replace(self, order_id: str, body: Json) -> Json:
        """PATCH /v2/orders/{id}: a new order, whose id is told, takes the place of the old one."""
        wanted = _replacement(body)
        return await self._desk.ask(lambda broker: _replaced(broker, _known(broker, order_id), wanted))

    async def cancel(self, order_id: str, fault: Fault | None = None) -> None:
        """DELETE /v2/orders/{id}: ends its group before the next minute trades."""
        late = fault.minutes if fault is not None and fault.kind is FaultKind.CANCEL_LATE else 0
        await self._desk.ask(lambda broker: _cancel(broker, _known(broker, order_id), late))

    async def cancel_all(self) -> list[Json]:
        """DELETE /v2/orders: a status for each live order."""

        def cancel_each(broker: SimulatedBroker) -> list[Json]:
            return [_status_of(broker, listed) for listed in broker.statement.live()]

        return await self._desk.ask(cancel_each)

    async def close(self, symbol: str, query: Mapping[str, str]) -> Json:
        """DELETE /v2/positions/{symbol}: the order that closes all of it, `qty` shares or `percentage`."""
        return await self._desk.ask(lambda broker: _close(broker, symbol, query))

    async def close_all(self, cancel_orders: bool) -> list[Json]:
        """DELETE /v2/positions: a status for each position. Shares that an order holds back stay held until its cancel has had
        its effect, so those are refused: cancel, wait, close."""

        def close_each(broker: SimulatedBroker) -> list[Json]:
            for listed in broker.statement.live() if cancel_orders else ():
                _status_of(broker, listed)
            held = broker.statement.holdings(present(broker))
            return [_closed(broker, holding.symbol) for holding in held]

        return await self._desk.ask(close_each)


def order_request(body: Json) -> OrderRequest:
    """What the body of POST /v2/orders asks for; raises Refused for what no order can be."""
    for name in ("trail_price", "trail_percent"):
        if body.get(name) is not None:
            raise Refused(422, UNPROCESSABLE, f"{name}: trailing stops are not simulated")
    name = _client_order_id(body) or str(uuid.uuid4())
    order_class = _one_of(CLASSES, body.get("order_class") or "", "order_class")
    type_ = _one_of({each.value.lower(): each for each in OrderType}, body.get("type"), "type")
    in_force = _one_of({each.value.lower(): each for each in TimeInForce}, body.get("time_in_force"), "time_in_force")
    if body.get("extended_hours") and (type_ is not OrderType.LIMIT or in_force is not TimeInForce.DAY):
        raise Refused(422, BAD_REQUEST, 'only type="limit" is allowed for extended hours orders')
    if body.get("extended_hours") and order_class is not OrderClass.SIMPLE:
        raise Refused(422, BAD_REQUEST, "complex orders are not allowed for extended hours orders")
    target, stop = body.get("take_profit") or {}, body.get("stop_loss") or {}
    if stop.get("limit_price") is not None:
        raise Refused(422, UNPROCESSABLE, "stop_loss.limit_price is not simulated: the stop becomes a market order")
    target_price, limit_price = _price(target, "limit_price"), _price(body, "limit_price")
    if order_class is OrderClass.OCO:
        limit_price = limit_price or target_price
    return OrderRequest(
        name,
        str(body.get("symbol") or ""),
        _one_of({each.value.lower(): each for each in Side}, body.get("side"), "side"),
        _quantity(body, order_class, in_force),
        type_,
        limit_price,
        _price(body, "stop_price"),
        order_class,
        in_force,
        target_price,
        _price(stop, "stop_price"),
    )


def _replacement(body: Json) -> Replacement:
    quantity = _number(body.get("qty"), "qty")
    if quantity is not None and quantity != quantity.to_integral_value():
        raise Refused(422, UNPROCESSABLE, "qty must be a whole number of shares")
    in_force = body.get("time_in_force")
    words = {each.value.lower(): each for each in TimeInForce}
    return Replacement(
        _client_order_id(body),
        None if quantity is None else int(quantity),
        _price(body, "limit_price"),
        _price(body, "stop_price"),
        None if in_force is None else _one_of(words, in_force, "time_in_force"),
    )


def _client_order_id(body: Json) -> str | None:
    name = body.get("client_order_id") or None
    if name is not None and (not isinstance(name, str) or len(name) > CLIENT_ORDER_ID_LENGTH_MAX):
        raise Refused(422, BAD_REQUEST, f"client_order_id must be no more than {CLIENT_ORDER_ID_LENGTH_MAX} characters")
    return name


def _quantity(body: Json, order_class: OrderClass, in_force: TimeInForce) -> int:
    """Whole shares; says no to a fraction as Alpaca does where it may not be one, and where the asset is not fractionable."""
    quantity, notional = _number(body.get("qty"), "qty"), _number(body.get("notional"), "notional")
    if (quantity is None) == (notional is None):
        raise Refused(422, BAD_REQUEST, "qty or notional is required" if quantity is None else "only one of qty or notional")
    if quantity is not None and quantity == quantity.to_integral_value():
        return int(quantity)
    if order_class is not OrderClass.SIMPLE:
        raise Refused(422, UNPROCESSABLE, "fractional orders must be simple orders")
    if in_force is not TimeInForce.DAY:
        raise Refused(422, UNPROCESSABLE, "fractional orders must be DAY orders")
    raise Refused(403, 40310000, f'asset "{body.get("symbol")}" is not fractionable')


def _one_of(words: Mapping[str, Any], word: Any, name: str) -> Any:
    if word not in words:
        raise Refused(422, BAD_REQUEST, f"invalid {name}: {word!r} is none of {', '.join(filter(None, words))}")
    return words[word]


def _price(body: Json, name: str) -> Decimal | None:
    return _number(body.get(name), name)


def _number(value: Any, name: str) -> Decimal | None:
    """Text or a JSON number."""
    if value is None:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Refused(422, BAD_REQUEST, f"invalid {name}: {value!r} is not a number") from None
    if not number.is_finite():
        raise Refused(422, BAD_REQUEST, f"invalid {name}: {value!r} is not finite")
    return number


def _place(broker: SimulatedBroker, request: OrderRequest, scripted: Json | None = None) -> Json:
    answer = told(broker, {"method": "submit", "request": frames.request_to_json(request), **(scripted or {})})
    first, *legs = broker.statement.group(answer["broker_order_id"])
    return order_json(first, legs, broker.statement.surroundings(present(broker)))


def _replaced(broker: SimulatedBroker, listed: Listed, wanted: Replacement) -> Json:
    frame = {"method": "replace", "broker_order_id": listed.order.broker_order_id}
    answer = told(broker, {**frame, "wanted": frames.replacement_to_json(wanted)})
    new = broker.statement.order(answer["broker_order_id"])
    assert new is not None
    return _told_order(broker, new, nested=False)


def _known(broker: SimulatedBroker, order_id: str) -> Listed:
    listed = broker.statement.order(broker_order_id(order_id))
    if listed is None:
        raise Refused(404, 40410000, f"order not found for {order_id}")
    return listed


def _told_order(broker: SimulatedBroker, listed: Listed, nested: bool) -> Json:
    order = listed.order
    legs = broker.statement.group(order.group_id)[1:] if nested and order.parent_broker_order_id is None else None
    return order_json(listed, legs, broker.statement.surroundings(present(broker)))


def _cancel(broker: SimulatedBroker, listed: Listed, late_minutes: int = 0) -> None:
    if not listed.order.status.live:
        word = order_status(listed, broker.statement.surroundings(present(broker)))
        raise Refused(422, UNPROCESSABLE, f'order is already in "{word}" state')
    frame = {"method": "cancel", "broker_order_id": listed.order.broker_order_id, "late_minutes": late_minutes}
    told(broker, frame)


def _status_of(broker: SimulatedBroker, listed: Listed) -> Json:
    """An item of a multi-status: a cancel that got no answer is a 500."""
    try:
        _cancel(broker, listed)
    except Withheld:
        return {"id": order_uuid(listed.order.broker_order_id), "status": 500}
    except Refused as refused:
        return {"id": order_uuid(listed.order.broker_order_id), "status": refused.status}
    return {"id": order_uuid(listed.order.broker_order_id), "status": 200}


def _list(broker: SimulatedBroker, query: Mapping[str, str]) -> list[Json]:
    status, direction = query.get("status", "open"), query.get("direction", "desc")
    nested = query.get("nested", "").lower() == "true"
    after, until = (instant_of(query.get(name), name) for name in ("after", "until"))
    symbols = frozenset(filter(None, query.get("symbols", "").split(",")))
    limit = limit_of(query.get("limit"), LIST_DEFAULT, LIST_MAX)
    _one_of({"open": 1, "closed": 1, "all": 1}, status, "status")
    statement, found = broker.statement, []
    for listed in statement.live() if status == "open" and not nested else statement.orders(after, until):
        order = listed.order
        if (after and listed.submitted_at <= after) or (until and listed.submitted_at >= until):
            continue
        if (symbols and order.symbol not in symbols) or (nested and order.parent_broker_order_id is not None):
            continue
        if query.get("side") in ("buy", "sell") and order.side.value.lower() != query["side"]:
            continue
        legs = statement.group(order.group_id)[1:] if nested else None
        alive = order.status.live or any(leg.order.status.live for leg in legs or ())
        if status == "all" or alive == (status == "open"):
            found.append((listed, legs))
    around = statement.surroundings(present(broker))
    ordered = found if direction == "asc" else found[::-1]
    return [order_json(listed, legs, around) for listed, legs in ordered[:limit]]


def limit_of(text: str | None, default: int, most: int) -> int:
    """How many items a page may have."""
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise Refused(422, BAD_REQUEST, f"limit {text!r} is not between 1 and {most}")
    return int(text)


def instant_of(text: str | None, name: str) -> datetime | None:
    """An instant with its zone; a date is its midnight, UTC."""
    if text is None:
        return None
    try:
        return from_text(text if "T" in text or " " in text else f"{text}T00:00:00Z")
    except BadInput as error:
        raise Refused(422, BAD_REQUEST, f"invalid {name}: {error}") from None


def _close(broker: SimulatedBroker, symbol: str, query: Mapping[str, str]) -> Json:
    held = {holding.symbol: holding for holding in broker.statement.holdings(present(broker))}.get(symbol)
    if held is None:
        raise Refused(404, 40410000, "position does not exist")
    whole = abs(held.quantity)
    quantity, percentage = _number(query.get("qty"), "qty"), _number(query.get("percentage"), "percentage")
    shares = quantity if quantity is not None else Decimal(whole) * (Decimal(100) if percentage is None else percentage) / 100
    if shares > whole:
        raise Refused(422, UNPROCESSABLE, f"requested quantity {shares} is more than the position of {whole}")
    side = Side.SELL if held.quantity > 0 else Side.BUY
    name, count = str(uuid.uuid4()), int(shares)
    request = OrderRequest(name, symbol, side, count, OrderType.MARKET, None, None, OrderClass.SIMPLE, TimeInForce.DAY)
    return _place(broker, request)


def _closed(broker: SimulatedBroker, symbol: str) -> Json:
    try:
        return {"symbol": symbol, "status": 200, "body": _close(broker, symbol, {})}
    except Refused as refused:
        return {"symbol": symbol, "status": refused.status, "body": refused.body}
