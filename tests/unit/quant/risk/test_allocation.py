"""Risk split over the trades of a scan: it adds up, is capped, knows no order and no unit, and the calmer trade has more."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.quant.risk.test_hierarchical_parity import returns_with_factors

from finagent.domain.errors import BadInput
from finagent.quant.risk.allocation import Allocation, AllocationPolicy, risk_multiples
from finagent.quant.risk.covariance import shrunk_covariance
from finagent.quant.risk.hierarchical_parity import hierarchical_parity

HRP = AllocationPolicy(Allocation.HRP, 250, 60, 0.25, 2.0, 0.5)
NAMES = tuple(f"S{n:02d}" for n in range(30))
methods = st.sampled_from((Allocation.HRP, Allocation.INVERSE_VARIANCE, Allocation.EQUAL_RISK))
seeds = st.integers(0, 2**32)


def multiples(returns: np.ndarray, policy: AllocationPolicy = HRP) -> list[float]:
    names = NAMES[: returns.shape[1]]
    found = risk_multiples(names, returns, policy)
    return [float(found[name]) for name in names]


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 20), methods)
def test_what_is_known_risks_together_what_equal_parts_would_and_no_trade_too_much(
    seed: int, trades: int, method: Allocation
) -> None:
    found = multiples(returns_with_factors(seed, 120, trades), replace(HRP, method=method))

    assert sum(found) == pytest.approx(trades, abs=1e-4 * trades)
    assert min(found) > 0.0
    assert max(found) <= 2.0
    assert max(found) <= 0.25 * trades + 1e-4 or trades < 4


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 12).flatmap(lambda trades: st.permutations(range(trades))), methods)
def test_the_order_of_the_trades_changes_nothing(seed: int, order: list[int], method: Allocation) -> None:
    trades = len(order)
    returns, policy = returns_with_factors(seed, 90, trades), replace(HRP, method=method)
    shuffled = risk_multiples([NAMES[place] for place in order], returns[:, order], policy)

    assert shuffled == risk_multiples(NAMES[:trades], returns, policy)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 12), methods, st.floats(0.01, 100.0))
@example(467231, 3, Allocation.HRP, 25.0)  # shrunk to one correlation: a tree among equals
def test_the_unit_of_returns_changes_nothing(seed: int, trades: int, method: Allocation, scale: float) -> None:
    returns, policy = returns_with_factors(seed, 90, trades), replace(HRP, method=method)

    assert multiples(returns * scale, policy) == pytest.approx(multiples(returns, policy), abs=2e-4)


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(1.05, 5.0), st.sampled_from((Allocation.HRP, Allocation.INVERSE_VARIANCE)))
def test_of_two_trades_the_one_that_gets_wilder_gets_less(seed: int, wilder: float, method: Allocation) -> None:
    returns, policy = returns_with_factors(seed, 90, 2), replace(HRP, method=method)
    before, after = multiples(returns, policy), multiples(returns * [wilder, 1.0], policy)

    assert after[0] < before[0]
    assert after[1] > before[1]


def test_hierarchical_parity_is_that_of_the_shrunk_covariance() -> None:
    returns = returns_with_factors(5, 250, 3)
    weights = hierarchical_parity(shrunk_covariance(returns).matrix)

    assert max(weights) < 2 / 3, "no cap in this example"
    assert multiples(returns) == pytest.approx(weights * 3, abs=1e-4)


@given(seeds, st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_trade_without_enough_history_gets_a_stated_part_and_what_it_is_denied_stays_unused(
    seed: int, known: int, unknown: int
) -> None:
    returns = returns_with_factors(seed, 90, known + unknown)
    returns[17, known:] = np.nan
    found = multiples(returns)

    assert found[known:] == [0.5] * unknown
    assert sum(found[:known]) == pytest.approx(known, abs=1e-3)


def test_equal_parts_and_a_trade_alone_are_not_scaled() -> None:
    returns = returns_with_factors(2, 90, 3)

    assert multiples(returns, replace(HRP, method=Allocation.EQUAL_RISK)) == [1.0, 1.0, 1.0]
    assert multiples(returns[:, :1]) == [1.0]


def test_the_cap_of_a_quarter_needs_four_trades_and_the_largest_multiple_none() -> None:
    calm = returns_with_factors(2, 90, 12) * [0.01, *[1.0] * 11]

    assert multiples(calm[:, :3])[0] == 2.0  # of three trades: two thirds
    assert multiples(calm[:, :5])[0] == 1.25  # a quarter of five
    assert multiples(calm)[0] == 2.0  # a quarter of twelve would be three


def test_too_few_days_and_what_never_moved_are_no_history() -> None:
    still = returns_with_factors(1, 90, 3)
    still[:, 1] = 0.001

    assert multiples(returns_with_factors(1, 59, 3)) == [0.5, 0.5, 0.5]
    assert multiples(returns_with_factors(1, 60, 3)) != [0.5, 0.5, 0.5]
    assert multiples(still)[1] == 0.5
    assert multiples(np.empty((0, 2))) == [0.5, 0.5]


def test_only_the_last_days_are_read() -> None:
    returns = returns_with_factors(3, 400, 3)
    changed = returns.copy()
    changed[:150, 1] *= 40.0

    assert multiples(changed) == multiples(returns)


def test_a_multiple_has_four_decimals() -> None:
    """What is committed must be the same on every machine, whatever the last bits of its arithmetic are."""
    found = risk_multiples(NAMES[:3], returns_with_factors(5, 250, 3), HRP)

    assert all(multiple.as_tuple().exponent == -4 for multiple in found.values())
    assert isinstance(found["S00"], Decimal)


@pytest.mark.parametrize(("days", "days_min"), [(50, 60), (50, 1)])
def test_a_history_that_cannot_be_enough_is_refused(days: int, days_min: int) -> None:
    with pytest.raises(BadInput, match="days_min"):
        replace(HRP, days=days, days_min=days_min)
