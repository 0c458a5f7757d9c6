"""A book and one more trade, against the plain way: build the book anew and measure it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.errors import BadInput
from finagent.quant.risk.exposure import Book, BookLimits, History
from finagent.quant.risk.value_at_risk import filtered, tail

SYMBOLS = tuple(f"S{n}" for n in range(6))
CHANCE = np.random.Generator(np.random.Philox(key=3))
MARKET = CHANCE.standard_t(5, 120) * 0.01
RETURNS = MARKET[:, None] * np.linspace(-0.5, 1.8, 6) + CHANCE.standard_t(5, (120, 6)) * 0.012
HISTORY = History.measured(SYMBOLS, RETURNS, MARKET)
SCENARIOS = filtered(RETURNS)
NO_LIMITS = BookLimits(1e12, 1e12, 2.0)

symbols = st.sampled_from(SYMBOLS)
usd = st.integers(-40_000, 40_000).map(float)
prices = st.integers(200, 30_000).flatmap(lambda cents: st.sampled_from([cents / 100, -cents / 100]))
books = st.dictionaries(symbols, usd).map(lambda held: Book.of(HISTORY, held))


def losses(book: Book) -> np.ndarray:
    """The book's losses in each scenario, from the returns."""
    return -(SCENARIOS @ book.exposures)


@given(books, symbols, prices, st.integers(1, 300))
def test_a_trade_is_the_book_built_anew(book: Book, symbol: str, price: float, quantity: int) -> None:
    found = book.trade_risk(symbol, price, quantity, NO_LIMITS)
    exposures = dict(zip(SYMBOLS, book.exposures, strict=True))
    anew = Book.of(HISTORY, exposures | {symbol: exposures[symbol] + price * quantity})
    added = book.with_trade(symbol, price * quantity)

    assert (found.value_at_risk, found.expected_shortfall) == pytest.approx(
        (anew.tail().value_at_risk, anew.tail().expected_shortfall)
    )
    assert anew.tail().value_at_risk == pytest.approx(tail(-losses(anew)).value_at_risk)
    assert found.beta == pytest.approx(anew.beta, abs=1e-6)
    assert found.value_at_risk_quantity == found.beta_quantity == found.correlation_quantity == quantity
    np.testing.assert_allclose(added.profits, anew.profits, atol=1e-6)
    np.testing.assert_allclose(added.product, anew.product, atol=1e-6)
    assert (added.variance, added.beta) == pytest.approx((anew.variance, anew.beta), rel=1e-6, abs=1e-3)


def test_what_value_at_risk_allows_is_all_that_meets_it() -> None:
    """By trying one share after the other, in books where the limit lies near: most of all cases stop half way."""
    chance, stops = np.random.Generator(np.random.Philox(key=9)), 0
    for _ in range(200):
        book = Book.of(HISTORY, dict(zip(SYMBOLS, chance.uniform(-20_000, 40_000, 6), strict=True)))
        column, price, quantity = int(chance.integers(6)), float(chance.choice([-1, 1]) * chance.uniform(50, 400)), 100
        before, one_more = -losses(book), price * SCENARIOS[:, column]
        tried = [tail(before + shares * one_more).value_at_risk for shares in range(1, quantity + 1)]
        limit = float(chance.uniform(min(tried), max(tried)) + 1e-9)
        allowed = book.trade_risk(SYMBOLS[column], price, quantity, BookLimits(limit, 1e12, 2.0)).value_at_risk_quantity

        assert allowed == next((shares for shares, value in enumerate(tried) if value > limit), quantity)
        stops += 0 < allowed < quantity
    assert stops >= 80


@given(books, symbols, prices, st.integers(1, 300), st.integers(0, 60_000))
def test_what_beta_allows_is_all_that_meets_it(book: Book, symbol: str, price: float, quantity: int, limit: int) -> None:
    allowed = book.trade_risk(symbol, price, quantity, BookLimits(1e12, limit + 0.37, 2.0)).beta_quantity
    beta = HISTORY.betas[SYMBOLS.index(symbol)] * price
    meets = [abs(book.beta + shares * beta) <= limit + 0.37 for shares in range(quantity + 1)]

    assert allowed == max(next((shares for shares, met in enumerate(meets) if not met), quantity + 1) - 1, 0)


def test_beta_and_correlation_are_those_of_the_returns() -> None:
    book = Book.of(HISTORY, {"S4": 30_000.0})
    same = book.trade_risk("S4", 50.0, 10, BookLimits(1e12, 1e12, 0.8))
    short = book.trade_risk("S4", -50.0, 10, BookLimits(1e12, 1e12, 0.8))
    slope = np.cov(RETURNS[:, 4], MARKET)[0, 1] / MARKET.var(ddof=1)

    assert book.beta == pytest.approx(30_000 * slope)
    assert (same.correlation, short.correlation) == pytest.approx((1.0, -1.0))
    assert (same.correlation_quantity, short.correlation_quantity) == (0, 10)


def test_an_empty_book_has_no_risk_and_no_correlation() -> None:
    book = Book.of(HISTORY, {})

    assert book.tail().value_at_risk == 0.0
    assert book.trade_risk("S0", 50.0, 10, BookLimits(0.0, 1e12, 0.0)).correlation_quantity == 10
    assert book.trade_risk("S0", 50.0, 10, BookLimits(0.0, 0.0, 0.0)).value_at_risk_quantity == 0


def test_a_symbol_without_beta_is_not_bound_by_it() -> None:
    flat = Book.of(replace(HISTORY, betas=np.zeros(6)), {"S1": 10_000.0})

    assert flat.trade_risk("S0", 50.0, 10, BookLimits(1e12, 0.0, 2.0)).beta_quantity == 10


def test_components_sum_to_the_value_at_risk() -> None:
    book = Book.of(HISTORY, {"S0": 20_000.0, "S5": 50_000.0})

    assert book.components().sum() == pytest.approx(book.tail().value_at_risk)


def test_what_is_not_known_is_refused() -> None:
    book = Book.of(HISTORY, {})
    with pytest.raises(BadInput, match="no price history"):
        Book.of(HISTORY, {"GONE": 1.0})
    with pytest.raises(BadInput, match="no price history"):
        book.trade_risk("GONE", 1.0, 1, NO_LIMITS)
    with pytest.raises(BadInput, match="not finite"):
        Book.of(HISTORY, {"S0": float("nan")})
    with pytest.raises(BadInput, match="not finite"):
        book.with_trade("S0", float("inf"))
    for price in (0.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="is no price"):
            book.trade_risk("S0", price, 1, NO_LIMITS)
    with pytest.raises(BadInput, match="a history of"):
        History.measured(SYMBOLS, RETURNS[1:], MARKET)
