"""Orders, intents and fills refuse what cannot be."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.errors import BadInput
from finagent.domain.orders import (
    Fill,
    Leg,
    OrderClass,
    OrderIntent,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    advance,
)

AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
ENTRY = OrderIntent(
    "fa-1",
    "dec-1",
    None,
    Leg.ENTRY,
    0,
    "IBM",
    Side.BUY,
    100,
    OrderType.STOP_LIMIT,
    Decimal("100.26"),
    Decimal("100.01"),
    OrderClass.BRACKET,
    TimeInForce.DAY,
    0,
    "",
    AT,
    AT,
)
FILL = Fill("x-1", "fa-1", "dec-1", "IBM", Side.BUY, 100, Decimal("100.02"), Decimal(0), AT)


@pytest.mark.parametrize("quantity", [0, -1])
def test_an_intent_is_for_a_positive_quantity(quantity: int) -> None:
    with pytest.raises(BadInput, match="fa-1: quantity"):
        replace(ENTRY, quantity=quantity)


@pytest.mark.parametrize("kind", OrderType)
def test_an_intent_names_exactly_the_prices_of_its_type(kind: OrderType) -> None:
    wants = {
        OrderType.MARKET: (None, None),
        OrderType.LIMIT: (Decimal(1), None),
        OrderType.STOP: (None, Decimal(1)),
        OrderType.STOP_LIMIT: (Decimal(1), Decimal(1)),
    }
    for limit in (None, Decimal(1)):
        for stop in (None, Decimal(1)):
            if (limit, stop) == wants[kind]:
                assert replace(ENTRY, type=kind, limit_price=limit, stop_price=stop).type is kind
            else:
                with pytest.raises(BadInput, match=f"{kind.value} with"):
                    replace(ENTRY, type=kind, limit_price=limit, stop_price=stop)


@pytest.mark.parametrize("price", [Decimal("nan"), Decimal("inf")])
def test_prices_are_numbers(price: Decimal) -> None:
    with pytest.raises(BadInput, match=r"OrderIntent\.limit_price is"):
        replace(ENTRY, limit_price=price)
    with pytest.raises(BadInput, match=r"Fill\.price is"):
        replace(FILL, price=price)


@pytest.mark.parametrize("change", [{"quantity": 0}, {"quantity": -5}, {"price": Decimal(0)}, {"price": Decimal(-1)}])
def test_an_execution_is_of_some_shares_at_some_price(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="execution x-1"):
        replace(FILL, **change)


def test_the_fill_that_raced_the_cancel_counts() -> None:
    assert advance(OrderState.CANCELLED, OrderState.FILLED) is OrderState.FILLED
    assert advance(OrderState.FILLED, OrderState.CANCELLED) is OrderState.FILLED


def test_old_news_changes_nothing() -> None:
    assert advance(OrderState.PARTIALLY_FILLED, OrderState.ACCEPTED) is OrderState.PARTIALLY_FILLED


@pytest.mark.parametrize("state", OrderState)
def test_an_order_is_live_until_it_is_terminal(state: OrderState) -> None:
    ended = {"FILLED", "CANCELLED", "EXPIRED", "REJECTED", "DENIED"}

    assert state.terminal == (state.name in ended)
    assert state.live == (state.name not in ended)


def test_sides_have_the_sign_of_their_shares() -> None:
    assert [side.sign for side in (Side.BUY, Side.SELL)] == [1, -1]
