"""Backtests of value at risk: by the papers' formulas, by hand, and by forecasts that are known to be right or wrong."""

import math

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.risk.value_at_risk import filtered, tail
from finagent.quant.risk.var_backtest import coverage, filtered_book_forecasts, filtered_forecasts, plain_forecasts


def breaches(days: int, *at: int) -> np.ndarray:
    found = np.zeros(days, dtype=np.bool_)
    found[list(at)] = True
    return found


def test_kupiec_by_its_published_region() -> None:
    """Kupiec (1995), table 3: at 95 % confidence and a test size of 5 %, 255 days accept 7 to 20 breaches, both rejected next."""
    said = [coverage(breaches(255, *range(0, 2 * n, 2)), 0.95).kupiec_p > 0.05 for n in (6, 7, 20, 21)]

    assert said == [False, True, True, False]


def test_both_ratios_by_hand() -> None:
    """Ten days, breaches on days 2, 3 and 7: of nine pairs, two of six quiet days are followed by a breach, one of three loud."""
    found = coverage(breaches(10, 2, 3, 7), 0.9)
    frequency = 2 * (3 * math.log(0.3) + 7 * math.log(0.7) - 3 * math.log(0.1) - 7 * math.log(0.9))
    apart = 2 * math.log(2 / 6) + 4 * math.log(4 / 6) + math.log(1 / 3) + 2 * math.log(2 / 3)
    dependence = 2 * (apart - 3 * math.log(3 / 9) - 6 * math.log(6 / 9))

    assert (found.days, found.breaches, found.rate) == (10, 3, 0.3)
    assert found.kupiec_p == pytest.approx(math.erfc(math.sqrt(frequency / 2)))
    assert found.independence_p == pytest.approx(math.erfc(math.sqrt(max(dependence, 0) / 2)), abs=1e-6)
    assert found.christoffersen_p == pytest.approx(math.exp(-(frequency + dependence) / 2))


def test_the_tails_are_those_of_scipy() -> None:
    chi2 = pytest.importorskip("scipy.stats").chi2
    found = coverage(breaches(300, 3, 4, 5, 80, 81, 200), 0.95)
    frequency, dependence = chi2.isf(found.kupiec_p, 1), chi2.isf(found.independence_p, 1)

    assert found.christoffersen_p == pytest.approx(chi2.sf(frequency + dependence, 2))
    assert dependence > 10.0


def test_clusters_are_found_where_the_frequency_is_right() -> None:
    clustered = coverage(breaches(400, *range(100, 120)), 0.95)

    assert clustered.kupiec_p == pytest.approx(1.0)
    assert clustered.independence_p < 1e-9
    assert clustered.christoffersen_p < 1e-9


@pytest.mark.parametrize("breached", [np.zeros(9, dtype=np.bool_), np.ones(9, dtype=np.bool_)])
def test_none_and_all_have_finite_answers(breached: np.ndarray) -> None:
    found = coverage(breached, 0.95)

    assert 0.0 <= found.kupiec_p <= 1.0
    assert found.independence_p == 1.0
    assert 0.0 <= found.christoffersen_p <= 1.0


def volatile(days: int, seed: int) -> np.ndarray:
    """Returns whose volatility clusters: GARCH(1, 1) with the persistence of an index, drawn from a t distribution."""
    noise = np.random.Generator(np.random.Philox(key=seed)).standard_t(6, days) / math.sqrt(1.5)
    returns, variance = np.empty(days), 1e-4
    for day in range(days):
        returns[day] = math.sqrt(variance) * noise[day]
        variance = 1e-6 + 0.14 * returns[day] ** 2 + 0.85 * variance
    return returns


def test_filtered_forecasts_are_those_of_each_window_alone() -> None:
    returns = volatile(330, 5)
    forecasts = filtered_forecasts(returns, 60)

    assert len(forecasts) == 270
    for day in (60, 61, 200, 329):
        assert forecasts[day - 60] == pytest.approx(tail(filtered(returns[day - 60 : day])).value_at_risk, rel=1e-12)


def test_a_forecast_knows_nothing_of_its_day_or_later() -> None:
    returns = volatile(300, 5)
    changed = returns.copy()
    changed[200:] = 9.0

    assert (filtered_forecasts(changed, 60)[: 200 - 60 + 1] == filtered_forecasts(returns, 60)[: 200 - 60 + 1]).all()


def test_forecasts_of_a_book_filter_each_symbol_by_its_own_volatility() -> None:
    chance = np.random.Generator(np.random.Philox(key=5))
    returns, usd = chance.standard_t(5, (340, 3)) * [0.01, 0.02, 0.005], np.asarray([1_000.0, -400.0, 2_500.0])
    forecasts = filtered_book_forecasts(returns, usd, 60)

    assert forecasts.shape == (280,)
    for day in (0, 7, 279):
        assert forecasts[day] == pytest.approx(tail(filtered(returns[day : day + 60]) @ usd).value_at_risk)
    assert forecasts[7] != pytest.approx(filtered_forecasts(returns @ usd, 60)[7])


def test_plain_forecasts_measure_the_days_before_each_day() -> None:
    assert plain_forecasts(np.arange(6.0), 2, lambda past: float(past.sum())).tolist() == [1.0, 3.0, 5.0, 7.0]
    with pytest.raises(BadInput, match="a window of 6"):
        plain_forecasts(np.arange(6.0), 6, lambda past: float(past.sum()))


def test_filtered_forecasts_cover_where_volatility_clusters_and_past_ones_do_not() -> None:
    returns = volatile(6_000, 8)
    actual = returns[500:]
    plain = np.quantile(np.lib.stride_tricks.sliding_window_view(returns[:-1], 500), 0.05, axis=1)
    ours, past = coverage(-actual > filtered_forecasts(returns, 500), 0.95), coverage(actual < plain, 0.95)

    assert ours.christoffersen_p > 0.05
    assert past.independence_p < 1e-3


def test_nonsense_is_refused() -> None:
    with pytest.raises(BadInput, match="two days"):
        coverage(np.zeros(1, dtype=np.bool_), 0.95)
    with pytest.raises(BadInput, match="confidence"):
        coverage(np.zeros(9, dtype=np.bool_), 1.0)
    for window in (1, 9):
        with pytest.raises(BadInput, match="window"):
            filtered_forecasts(np.zeros(9), window)
