"""Positions and cash are what the fills say, to the last decimal, in whatever order they come."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.money import ZERO
from finagent.domain.orders import Fill, Side
from finagent.domain.portfolio import Position, flat
from finagent.services.portfolio import Portfolio

AT = datetime(2008, 10, 1, 13, 30, tzinfo=UTC)
START = Decimal(100_000)
prices = st.integers(1, 50_000_000).map(lambda ticks: Decimal(ticks) / 10_000)
fees = st.integers(0, 100_000).map(lambda parts: Decimal(parts) / 1_000_000)
fills = st.lists(
    st.builds(
        lambda number, symbol, side, quantity, price, fee, minute: Fill(
            f"x-{number}", "fa-1", "dec-1", symbol, side, quantity, price, fee, AT + timedelta(minutes=minute)
        ),
        st.integers(),
        st.sampled_from(["AAPL", "IBM", "MSFT"]),
        st.sampled_from(Side),
        st.integers(1, 100_000),
        prices,
        fees,
        st.integers(0, 390),
    ),
    max_size=40,
)


def booked(all_fills: list[Fill]) -> Portfolio:
    positions: dict[str, Position] = {}
    for fill in all_fills:
        positions[fill.symbol] = (positions.get(fill.symbol) or flat(fill.symbol, fill.filled_at)).apply(fill)
    return Portfolio(START, tuple(positions[symbol] for symbol in sorted(positions)))


@given(fills)
def test_cash_and_quantities_are_exactly_those_of_the_fills(all_fills: list[Fill]) -> None:
    portfolio = booked(all_fills)
    cash, held = Fraction(START), defaultdict[str, int](int)
    for fill in all_fills:
        cash -= fill.side.sign * fill.quantity * Fraction(fill.price) + Fraction(fill.fee)
        held[fill.symbol] += fill.side.sign * fill.quantity

    assert Fraction(portfolio.cash) == cash
    assert {p.symbol: p.quantity for p in portfolio.positions} == held
    assert {p.symbol for p in portfolio.open} == {symbol for symbol, quantity in held.items() if quantity}


@given(fills, st.data())
def test_the_order_of_the_fills_does_not_matter(all_fills: list[Fill], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(all_fills))

    assert booked(shuffled) == booked(all_fills)


@given(fills, st.dictionaries(st.sampled_from(["AAPL", "IBM", "MSFT"]), prices, min_size=3))
def test_equity_is_start_cash_and_the_value_of_every_position(all_fills: list[Fill], marks: dict[str, Decimal]) -> None:
    portfolio = booked(all_fills)

    assert portfolio.equity(marks) == START + sum((p.value(marks[p.symbol]) for p in portfolio.positions), ZERO)


@given(prices, prices, st.integers(1, 100_000))
def test_a_round_trip_leaves_its_result_and_nothing_else(bought: Decimal, sold: Decimal, quantity: int) -> None:
    trip = [
        Fill("x-1", "fa-1", "dec-1", "IBM", Side.BUY, quantity, bought, ZERO, AT),
        Fill("x-2", "fa-2", "dec-1", "IBM", Side.SELL, quantity, sold, ZERO, AT),
    ]

    assert booked(trip).open == ()
    assert booked(trip).cash - START == quantity * (sold - bought)


def test_an_open_symbol_without_a_mark_has_no_equity() -> None:
    holding = booked([Fill("x-1", "fa-1", "dec-1", "IBM", Side.BUY, 1, Decimal(90), ZERO, AT)])

    with pytest.raises(KeyError, match="IBM"):
        holding.equity({})
