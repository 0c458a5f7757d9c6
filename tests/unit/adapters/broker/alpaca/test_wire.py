"""Whatever stands in an answer, it is read or refused by name; nothing else ever comes out of it."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.adapters.broker.alpaca.scripted_alpaca import account, an_order

from finagent.adapters.broker.alpaca import wire
from finagent.adapters.broker.alpaca.errors import Unreadable
from finagent.domain.ports.order_execution import OrderReport

FILL = {
    "id": "x",
    "transaction_time": "2026-11-24T14:59:30.5Z",
    "price": "100.2",
    "qty": "4",
    "side": "buy",
    "symbol": "IBM",
    "order_id": "o",
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["1e999999999", "-0", "0.5", "NaN", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-24"]),
)
READERS: tuple[tuple[Callable[[Any], Any], dict[str, Any]], ...] = (
    (wire.order_report, an_order(legs=[an_order(id="leg", type="stop")])),
    (wire.execution_report, FILL),
    (wire.account, account()),
    (lambda body: wire.positions([body]), {"symbol": "IBM", "qty": "10", "side": "long"}),
    (lambda body: wire.page_of_orders([body]), an_order()),
)


def numbers(report: OrderReport) -> list[Decimal]:
    found = (report.limit_price, report.stop_price, report.average_price)
    return [number for number in found if number is not None] + [n for leg in report.legs for n in numbers(leg)]


@pytest.mark.parametrize(("read", "whole"), READERS, ids=["order", "execution", "account", "position", "page"])
@settings(max_examples=60)
@given(data=st.data())
def test_an_odd_value_anywhere_is_read_or_refused(read: Callable[[Any], Any], whole: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(whole)))
    try:
        told = read({**whole, name: data.draw(ODD)})
    except Unreadable:
        return
    if isinstance(told, OrderReport):
        assert all(math.isfinite(number) for number in numbers(told))
        assert told.quantity >= 0


@pytest.mark.parametrize("read", [reader for reader, _ in READERS], ids=["order", "execution", "account", "position", "page"])
@settings(max_examples=20)
@given(body=ODD)
def test_what_is_no_object_is_refused(read: Callable[[Any], Any], body: Any) -> None:
    with pytest.raises(Unreadable):
        read(body)
