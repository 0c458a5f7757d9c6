"""At what price an order trades in a bar."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.adapters.broker.simulated.matching import Bar, Costs, Cross, cross
from finagent.domain.orders import Side

FREE = Costs(Decimal(0), Decimal(0))
COSTLY = Costs(Decimal("0.0005"), Decimal("0.0010"))  # 10 bp of spread, 10 bp of slippage
BUY, SELL = Side.BUY, Side.SELL


def bar(open_: str, high: str, low: str, close: str) -> Bar:
    return Bar(Decimal(open_), Decimal(high), Decimal(low), Decimal(close), 1000)


MIDDLE = bar("10.00", "10.50", "9.50", "10.20")


@pytest.mark.parametrize(
    ("side", "limit", "stop", "elected", "expected"),
    [
        (BUY, None, None, False, (True, "10.00")),
        (SELL, None, None, False, (True, "10.00")),
        (BUY, "10.10", None, False, (True, "10.00")),
        (BUY, "9.70", None, False, (True, "9.70")),
        (BUY, "9.50", None, False, (True, "9.50")),
        (BUY, "9.49", None, False, (True, None)),
        (SELL, "9.90", None, False, (True, "10.00")),
        (SELL, "10.40", None, False, (True, "10.40")),
        (SELL, "10.51", None, False, (True, None)),
        (BUY, None, "10.30", False, (True, "10.30")),
        (BUY, None, "10.51", False, (False, None)),
        (BUY, None, "9.80", False, (True, "10.00")),
        (SELL, None, "9.80", False, (True, "9.80")),
        (SELL, None, "10.20", False, (True, "10.00")),
        (SELL, None, "9.49", False, (False, None)),
        (SELL, None, "9.80", True, (True, "10.00")),
        (BUY, "10.35", "10.30", False, (True, "10.30")),
        (BUY, "9.90", "9.80", False, (True, "9.90")),
        (BUY, "9.40", "9.30", False, (True, None)),
        (SELL, "9.75", "9.80", False, (True, "9.80")),
        (SELL, "10.10", "10.20", False, (True, "10.10")),
    ],
)
def test_the_price_without_costs(
    side: Side, limit: str | None, stop: str | None, elected: bool, expected: tuple[bool, str | None]
) -> None:
    """Worse of stop and open through a gap; a limit touched at the open takes the open, reached later gets its limit."""
    got = cross(side, limit and Decimal(limit), stop and Decimal(stop), elected, MIDDLE, FREE)  # type: ignore[arg-type]  # "" never given

    assert got == Cross(expected[0], Decimal(expected[1]) if expected[1] else None)


def test_costs_go_against_the_taker_and_end_on_the_cent() -> None:
    assert cross(BUY, None, None, False, MIDDLE, COSTLY).price == Decimal("10.02")  # 10.01501 rounded up
    assert cross(SELL, None, None, False, MIDDLE, COSTLY).price == Decimal("9.98")  # 9.98501 rounded down


def test_a_limit_that_only_the_mid_price_touches_does_not_trade() -> None:
    assert cross(BUY, Decimal("9.50"), None, False, MIDDLE, COSTLY).price is None
    assert cross(SELL, Decimal("10.50"), None, False, MIDDLE, COSTLY).price is None


def test_a_stop_limit_elected_inside_the_bar_beyond_its_limit_waits() -> None:
    """What the bar did after the election is unknown, so its low is no proof."""
    got = cross(BUY, Decimal("10.30"), Decimal("10.30"), False, MIDDLE, COSTLY)

    assert got == Cross(True, None)


cents = st.integers(min_value=500, max_value=2000).map(lambda n: Decimal(n) / 100)


@st.composite
def bars(draw: st.DrawFn) -> Bar:
    prices = [draw(cents) for _ in range(4)]
    return Bar(prices[0], max(prices), min(prices), prices[1], 100)


@given(side=st.sampled_from(Side), limit=st.none() | cents, stop=st.none() | cents, elected=st.booleans(), bar=bars())
def test_no_price_outside_the_bar_or_beyond_the_limit(
    side: Side, limit: Decimal | None, stop: Decimal | None, elected: bool, bar: Bar
) -> None:
    price = cross(side, limit, stop, elected, bar, FREE).price
    if price is not None:
        assert bar.low <= price <= bar.high
        assert limit is None or side.sign * price <= side.sign * limit
        if stop is not None and not elected:
            assert side.sign * price >= side.sign * min(stop, limit or stop, key=lambda p: side.sign * p)


@given(side=st.sampled_from(Side), limit=st.none() | cents, stop=st.none() | cents, elected=st.booleans(), bar=bars())
def test_costs_never_help(side: Side, limit: Decimal | None, stop: Decimal | None, elected: bool, bar: Bar) -> None:
    free, costly = (cross(side, limit, stop, elected, bar, costs) for costs in (FREE, COSTLY))
    assert costly.elected == free.elected
    if costly.price is not None:
        assert free.price is not None
        assert side.sign * costly.price >= side.sign * free.price
        assert limit is None or side.sign * costly.price <= side.sign * limit


@given(limit=st.none() | cents, stop=st.none() | cents, elected=st.booleans(), bar=bars())
def test_selling_is_buying_in_the_mirror(limit: Decimal | None, stop: Decimal | None, elected: bool, bar: Bar) -> None:
    """Reflect prices at 25 USD: whole cents, so free of rounding, and the sides change places."""

    def mirror(price: Decimal | None) -> Decimal | None:
        return None if price is None else 25 - price

    reflected = Bar(25 - bar.open, 25 - bar.low, 25 - bar.high, 25 - bar.close, bar.volume)
    sold, bought = (
        cross(SELL, limit, stop, elected, bar, FREE),
        cross(BUY, mirror(limit), mirror(stop), elected, reflected, FREE),
    )
    assert (sold.elected, sold.price) == (bought.elected, mirror(bought.price))
