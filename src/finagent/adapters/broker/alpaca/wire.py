"""Alpaca's answers as our reports. Amounts are text there and decimals here; times RFC 3339 with nanoseconds in any zone.

An order of ours that cannot be read raises Unreadable; one of somebody else's is rounded and named, so that it is seen.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.domain.money import ZERO, plain
from finagent.domain.orders import Leg, OrderState, OrderType, Side
from finagent.domain.ports.order_execution import BrokerAccount, BrokerPosition, ExecutionReport, OrderReport

Json = dict[str, Any]
AMOUNT_MAX = Decimal(10**15)  # USD or shares: beyond any account
SIDES = {"buy": Side.BUY, "sell": Side.SELL, "sell_short": Side.SELL}  # activities tell a short sale apart
TYPES = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop": OrderType.STOP,
    "stop_limit": OrderType.STOP_LIMIT,
    "trailing_stop": OrderType.STOP,  # never ours
}
LEGS = {OrderType.LIMIT: Leg.TARGET, OrderType.STOP: Leg.STOP, OrderType.STOP_LIMIT: Leg.STOP}
STATES = {
    "held": OrderState.HELD,
    "partially_filled": OrderState.PARTIALLY_FILLED,
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELLED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
    "replaced": OrderState.CANCELLED,  # by an order with an id of its own: never by us
    # whatever may still trade is live: a day order that is done for the day is told as expired later
    **dict.fromkeys(
        (
            *("new", "accepted", "pending_new", "accepted_for_bidding", "pending_cancel", "pending_replace"),
            *("pending_review", "stopped", "suspended", "calculated", "done_for_day"),
        ),
        OrderState.ACCEPTED,
    ),
}


@dataclass(frozen=True, slots=True)
class AlpacaAccount:
    """The account, and what the broker does not let it do."""

    account: BrokerAccount
    blocks: tuple[str, ...]


def order_report(body: Any, parent: str | None = None) -> OrderReport:
    """An order with the legs nested in it; `parent` is the broker's id of the order that carries it."""
    name = text(body, "id")
    type_ = one_of(TYPES, text(body, "type"), f"order {name}: type")
    filled = whole_shares(amount(body, "filled_qty") or ZERO)
    state = one_of(STATES, text(body, "status"), f"order {name}: status")
    average = amount(body, "filled_avg_price", missing=True)
    return OrderReport(
        broker_order_id=name,
        client_order_id=text(body, "client_order_id"),
        parent_broker_order_id=parent,
        leg=LEGS.get(type_) if parent else None,
        symbol=text(body, "symbol"),
        side=one_of(SIDES, text(body, "side"), f"order {name}: side"),
        quantity=whole_shares(amount(body, "qty", missing=True) or ZERO),  # null in an order that names dollars: never ours
        type=type_,
        limit_price=amount(body, "limit_price", missing=True),
        stop_price=amount(body, "stop_price", missing=True),
        state=OrderState.PARTIALLY_FILLED if state is OrderState.ACCEPTED and filled else state,
        filled_quantity=filled,
        average_price=average if filled else None,
        updated_at=instant(text(body, "updated_at")),
        legs=tuple(order_report(leg, name) for leg in rows(body.get("legs") or [])),
    )


def flat(reports: Iterable[OrderReport]) -> Iterator[OrderReport]:
    """Each order, then its legs as orders of their own."""
    for report in reports:
        yield report
        yield from report.legs


def execution_report(body: Any) -> ExecutionReport:
    """An activity of type FILL. Alpaca charges no commission; fees of the day are activities of another type."""
    name = text(body, "id")
    price, quantity = amount(body, "price"), whole_shares(amount(body, "qty"))
    if price <= 0 or quantity == 0:
        raise Unreadable(f"execution {name}: {quantity} shares at {price}")
    return ExecutionReport(
        execution_id=name,
        broker_order_id=text(body, "order_id"),
        symbol=text(body, "symbol"),
        side=one_of(SIDES, text(body, "side"), f"execution {name}: side"),
        quantity=quantity,
        price=price,
        fee=ZERO,
        at=instant(text(body, "transaction_time")),
    )


def account(body: Any) -> AlpacaAccount:
    """The account by the number that its owner sees."""
    number = text(body, "account_number")
    blocks = tuple(name for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user") if body.get(name))
    return AlpacaAccount(BrokerAccount(number, amount(body, "cash"), amount(body, "buying_power")), blocks)


def positions(body: Any) -> tuple[BrokerPosition, ...]:
    """Positions in whole shares, short ones negative. We never hold a part of a share: one that somebody else bought is named
    as a position of its own, which no ledger of ours can match."""
    return tuple(position for row in rows(body) for position in _positions(row))


def _positions(row: Any) -> Iterator[BrokerPosition]:
    symbol, shares = text(row, "symbol"), abs(amount(row, "qty"))
    sign = -1 if text(row, "side") == "short" else 1
    yield BrokerPosition(symbol, sign * int(shares))
    if shares % 1:
        yield BrokerPosition(f"{symbol} (a part of a share, {plain(shares % 1)})", sign)


def executions(body: Any) -> list[ExecutionReport]:
    """A page of activities of type FILL."""
    return [execution_report(row) for row in rows(body)]


def page_of_orders(body: Any) -> tuple[dict[str, Json], datetime]:
    """Orders by the broker's id, not read yet, and when the last of them was submitted."""
    page = {text(row, "id"): row for row in rows(body)}
    last = instant(text(rows(body)[-1], "submitted_at")) if page else datetime.max.replace(tzinfo=UTC)
    return page, last


def whole_shares(shares: Decimal) -> int:
    """A part of a share is never ours; counted as one, it cannot be overlooked."""
    if shares < 0:
        raise Unreadable(f"{shares} shares: fewer than none")
    return int(shares.to_integral_value(ROUND_UP))


def instant(written: str) -> datetime:
    """An RFC 3339 time in UTC; what is finer than a microsecond is cut."""
    try:
        at = datetime.fromisoformat(written)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"{written!r} is not a time") from error
    raise Unreadable(f"{written!r} has no zone")


def amount(body: Any, name: str, *, missing: bool = False) -> Any:
    """A decimal out of text or a number; None where it may be missing. Refuses NaN, infinity and anything else by name."""
    value = body.get(name) if isinstance(body, dict) else None
    if value is None and missing:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable(f"{name} is {value!r}: not an amount")
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise Unreadable(f"{name} is {value!r}: not an amount") from error
    if not number.is_finite() or not -AMOUNT_MAX <= number <= AMOUNT_MAX:
        raise Unreadable(f"{name} is {str(value)[:40]!r}: not a finite amount below {AMOUNT_MAX}")
    return number


def without_legs(report: OrderReport) -> OrderReport:
    """The order alone."""
    return replace(report, legs=())


def rows(body: Any) -> list[Any]:
    """A page: a JSON array, else it is no page."""
    if not isinstance(body, list):
        raise Unreadable(f"a {type(body).__name__} where a list should be")
    return body


def text(body: Any, name: str) -> str:
    """A text that is there."""
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{name} is {value!r}: not a text")
    return value


def one_of(table: dict[str, Any], name: str, what: str) -> Any:
    """What a word stands for."""
    if name not in table:
        raise Unreadable(f"{what} {name!r} is not known")
    return table[name]
