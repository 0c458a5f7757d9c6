"""Money is exact, prices lie on their tick, one amount has one text."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.money import CENT, SUB_DOLLAR_TICK, Rounding, exact, plain, to_tick

amounts = st.decimals(Decimal("0.0001"), Decimal(1_000_000), places=8)
floats = st.floats(0.0001, 1e6, allow_nan=False)
signed = st.decimals(-1_000_000, 1_000_000, places=8)


@given(st.one_of(amounts, floats), st.sampled_from(Rounding))
def test_a_price_goes_to_its_tick_in_the_direction_asked_for(price: Decimal | float, rounding: Rounding) -> None:
    value, rounded = exact(price), to_tick(price, rounding)
    tick = CENT if value >= 1 else SUB_DOLLAR_TICK

    assert rounded % tick == 0
    assert abs(rounded - value) < tick
    if rounding is Rounding.DOWN:
        assert rounded <= value
    if rounding is Rounding.UP:
        assert rounded >= value
    if rounding is Rounding.NEAREST:
        assert abs(rounded - value) <= tick / 2


@given(st.one_of(amounts, floats), st.sampled_from(Rounding))
def test_a_price_on_its_tick_stays_there(price: Decimal | float, rounding: Rounding) -> None:
    once = to_tick(price, rounding)

    assert to_tick(once, rounding) == once


@given(signed)
def test_text_names_the_amount_exactly_and_only_one_text_does(amount: Decimal) -> None:
    assert Decimal(plain(amount)) == amount
    assert plain(amount * Decimal("1.00")) == plain(amount)
    assert "E" not in plain(amount)


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_a_float_is_read_through_its_shortest_text(number: float) -> None:
    assert float(exact(number)) == number
    assert str(exact(0.1)) == "0.1"
