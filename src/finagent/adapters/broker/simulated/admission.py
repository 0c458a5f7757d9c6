"""Which requests the broker takes: pure rules with the codes and the words of Alpaca."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from finagent.adapters.broker.simulated.matching import on_tick
from finagent.adapters.broker.simulated.orders import LedgerOrder
from finagent.adapters.broker.simulated.policy import BrokerPolicy
from finagent.domain.money import CENT, ZERO, plain
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, Side
from finagent.domain.ports.order_execution import OrderRequest

ENTRY_TYPES = (OrderType.MARKET, OrderType.LIMIT)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The broker's no: HTTP status, code and message, and what the body says beside them."""

    status: int
    code: int
    message: str
    details: tuple[tuple[str, str], ...] = ()


DUPLICATE = Refusal(422, 40010001, "client_order_id must be unique")
UNKNOWN_ORDER = Refusal(404, 40410000, "order not found")


def unprocessable(message: str) -> Refusal:
    """The request is not one that anybody could take."""
    return Refusal(422, 42210000, message)


def forbidden(message: str, **details: str) -> Refusal:
    """The account cannot take it."""
    return Refusal(403, 40310000, message, tuple(details.items()))


@dataclass(frozen=True, slots=True)
class Standing:
    """The account as a new order meets it: live orders and position of its symbol, last price, buying power left (USD)."""

    listed: bool
    last_price: Decimal | None
    position: int
    live: tuple[LedgerOrder, ...]
    buying_power: Decimal


def malformed(request: OrderRequest, policy: BrokerPolicy) -> Refusal | None:
    """What is wrong with the request itself."""
    if request.quantity <= 0:
        return unprocessable("qty must be > 0")
    wants_limit = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    wants_stop = request.type in (OrderType.STOP, OrderType.STOP_LIMIT)
    if (request.limit_price is not None) != wants_limit or (request.stop_price is not None) != wants_stop:
        return unprocessable(f"a {request.type.value.lower()} order with these prices is not valid")
    for name in ("limit_price", "stop_price", "take_profit_price", "stop_loss_price"):
        price = getattr(request, name)
        if price is not None and not (price.is_finite() and price > 0):
            return unprocessable(f"{name} must be > 0")
        if price is not None and not on_tick(price):
            return unprocessable(f"invalid {name} {plain(price)}. sub-penny increment does not fulfill minimum pricing criteria")
    if request.order_class is OrderClass.BRACKET:
        return _malformed_bracket(request, policy)
    if request.order_class is OrderClass.OCO:
        return _malformed_oco(request)
    if request.take_profit_price is not None or request.stop_loss_price is not None:
        return unprocessable("a simple order has no legs")
    return None


def _malformed_bracket(request: OrderRequest, policy: BrokerPolicy) -> Refusal | None:
    if request.type not in ENTRY_TYPES and not policy.stop_entry_brackets:
        return Refusal(422, 40010001, "bracket orders must be market or limit orders")
    target, stop = request.take_profit_price, request.stop_loss_price
    if target is None or stop is None:
        return unprocessable("bracket orders require take_profit.limit_price and stop_loss.stop_price")
    reference = request.limit_price if request.limit_price is not None else request.stop_price
    sign = request.side.sign
    if sign * (target - stop) < 2 * CENT or (
        reference is not None and (sign * (reference - stop) < CENT or sign * (target - reference) < CENT)
    ):
        return unprocessable(f"stop {plain(stop)} and target {plain(target)} must lie on either side of the entry")
    return None


def _malformed_oco(request: OrderRequest) -> Refusal | None:
    target, stop = request.limit_price, request.stop_loss_price
    if request.type is not OrderType.LIMIT or target is None or stop is None:
        return unprocessable("oco orders require a limit price and stop_loss.stop_price")
    if request.take_profit_price not in (None, target):
        return unprocessable("take_profit.limit_price differs from the limit price")
    if request.side.sign * (stop - target) < CENT:
        return unprocessable(f"stop {plain(stop)} must lie beyond the market from target {plain(target)}")
    return None


def inadmissible(request: OrderRequest, standing: Standing, policy: BrokerPolicy) -> Refusal | None:
    """Why the account cannot take the order now."""
    if not standing.listed:
        return unprocessable(f'could not find asset "{request.symbol}"')
    if standing.last_price is None:
        return unprocessable(f'asset "{request.symbol}" has no price')
    opposite = _opposite(request, standing.live)
    if opposite is not None:
        return opposite
    closing = available(request.side, standing)
    opening = request.quantity - closing
    if opening <= 0:
        return None
    if request.order_class is OrderClass.OCO or (request.side is Side.SELL and not policy.short_selling) or closing > 0:
        existing = abs(standing.position) if standing.position * request.side.sign < 0 else 0
        return forbidden(
            f"insufficient qty available for order (requested: {request.quantity}, available: {closing})",
            available=str(closing),
            existing_qty=str(existing),
            held_for_orders=str(existing - closing),
            symbol=request.symbol,
        )
    cost = reservation(request.quantity, request.limit_price or request.stop_price, standing.last_price, policy)
    if cost > standing.buying_power:
        left = plain(max(standing.buying_power, ZERO))
        return forbidden("insufficient buying power", buying_power=left, cost_basis=plain(cost))
    return None


def available(side: Side, standing: Standing) -> int:
    """Shares of the position that an order of this side can close: those that no other order has a claim on.

    What a live bracket's entry bought so far belongs to its legs: it is free again when the bracket is cancelled.
    """
    held = max(0, -side.sign * standing.position)
    claims: dict[str, int] = {}
    for order in standing.live:
        claim = 0
        if order.side is side and order.working:
            claim = order.remaining
        elif order.leg is Leg.ENTRY and order.side is not side:
            claim = order.filled_quantity
        claims[order.group_id] = max(claims.get(order.group_id, 0), claim)
    return max(0, held - sum(claims.values()))


def reservation(quantity: int, named_price: Decimal | None, last_price: Decimal, policy: BrokerPolicy) -> Decimal:
    """Buying power that an opening order holds back: its shares at the worst price it names, or that we expect."""
    return quantity * (named_price or last_price * (1 + policy.market_order_buffer_bps / 10_000))


def opens(order: LedgerOrder, position: int) -> bool:
    """The order adds to the position rather than closing it."""
    return order.status is not OrderState.HELD and order.side.sign * position >= 0 and order.leg in (None, Leg.ENTRY)


def _opposite(request: OrderRequest, live: Iterable[LedgerOrder]) -> Refusal | None:
    """An order that could meet our own on the other side is a wash trade, unless a complex order carries it."""
    if request.order_class is not OrderClass.SIMPLE:
        return None
    for order in live:
        if order.side is request.side or not order.working:
            continue
        prices = (request.limit_price, order.limit_price)
        if request.stop_price is None and order.stop_price is None and None not in prices:
            buy, sell = prices if request.side is Side.BUY else prices[::-1]
            if buy is not None and sell is not None and buy < sell:
                continue
        return forbidden("potential wash trade detected. use complex orders")
    return None
