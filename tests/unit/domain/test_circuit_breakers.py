"""Each breaker trips at its limit and not before, into the state that it brings about."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.circuit_breakers import STATE_AFTER, Breaker, BreakerLimits, Readings, tripped
from finagent.domain.errors import BadInput
from finagent.domain.trading_state import TradingState

LIMITS = BreakerLimits(Decimal("0.02"), Decimal("0.10"), Decimal(50), 5, 3, Decimal("0.5"))
CALM = Readings(Decimal(100_000), Decimal(100_000), Decimal(100_000), Decimal(0), 0, 0, Decimal(0))


@pytest.mark.parametrize(
    ("at_limit", "below", "breaker"),
    [
        ({"equity": Decimal(98_000)}, {"equity": Decimal("98000.01")}, Breaker.DAILY_LOSS),
        ({"peak_equity": Decimal(111_112)}, {"peak_equity": Decimal(111_111)}, Breaker.DRAWDOWN),
        ({"slippage_bps": Decimal(50), "fills": 5}, {"slippage_bps": Decimal("49.99"), "fills": 5}, Breaker.SLIPPAGE),
        ({"slippage_bps": Decimal(50), "fills": 5}, {"slippage_bps": Decimal(500), "fills": 4}, Breaker.SLIPPAGE),
        ({"refusals": 3}, {"refusals": 2}, Breaker.REFUSALS),
        ({"unusable_fraction": Decimal("0.5")}, {"unusable_fraction": Decimal("0.49")}, Breaker.DATA_QUALITY),
    ],
)
def test_a_breaker_trips_at_its_limit(at_limit: dict[str, Decimal], below: dict[str, Decimal], breaker: Breaker) -> None:
    (trip,) = tripped(replace(CALM, **at_limit), LIMITS)  # type: ignore[arg-type]  # fields of several types
    assert (trip.breaker, trip.state) == (breaker, STATE_AFTER[breaker])
    assert breaker.value in str(trip)
    assert tripped(replace(CALM, **below), LIMITS) == ()  # type: ignore[arg-type]  # as above


def test_halting_comes_before_reducing() -> None:
    everything = Readings(Decimal(1), Decimal(100), Decimal(100), Decimal(100), 9, 9, Decimal(1))
    trips = tripped(everything, LIMITS)
    assert {trip.breaker for trip in trips} == set(Breaker)
    states = [trip.state for trip in trips]
    assert states == sorted(states, key=[TradingState.HALTED, TradingState.REDUCING].index)


def test_an_unknown_equity_says_nothing_of_losses_and_all_of_it_is_gone_where_there_was_none() -> None:
    assert tripped(replace(CALM, equity=None, session_open_equity=Decimal(0)), LIMITS) == ()
    assert {trip.breaker for trip in tripped(replace(CALM, session_open_equity=Decimal(0)), LIMITS)} == {Breaker.DAILY_LOSS}


AMOUNTS = st.decimals(0, 10**6, places=2)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_whoever_lost_more_is_never_freer(equity: Decimal, opened: Decimal, less: Decimal) -> None:
    readings = replace(CALM, equity=equity, session_open_equity=opened, peak_equity=opened)
    poorer = replace(readings, equity=max(equity - less, Decimal(0)))
    assert {trip.breaker for trip in tripped(readings, LIMITS)} <= {trip.breaker for trip in tripped(poorer, LIMITS)}


def test_limits_are_finite() -> None:
    with pytest.raises(BadInput, match="drawdown_fraction_max"):
        replace(LIMITS, drawdown_fraction_max=Decimal("NaN"))
