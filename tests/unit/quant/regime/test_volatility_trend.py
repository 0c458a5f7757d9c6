"""The regime filter tells planted markets apart, and knows nothing of tomorrow."""

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.domain.ports.regime import Regime, RegimeProbabilities
from finagent.quant.regime.volatility_trend import VolatilityTrend

FILTER: RegimeProbabilities = VolatilityTrend()


def closes(*markets: tuple[int, float, float]) -> np.ndarray:
    """Sessions, mean and deviation of daily returns, one market after the other."""
    chance = np.random.Generator(np.random.Philox(key=7))
    returns = np.concatenate([mean + deviation * chance.standard_normal(count) for count, mean, deviation in markets])
    return np.asarray(100.0 * np.exp(np.cumsum(returns)))


def test_each_market_is_told_for_what_it_is() -> None:
    calm, crash, rise = (400, 0.0, 0.008), (60, -0.004, 0.035), (300, 0.0025, 0.005)
    told = FILTER.probabilities(closes(calm, crash, calm, rise))

    assert told[410:460, Regime.BEAR].mean() > 0.8
    assert told[100:400, Regime.BEAR].mean() < 0.3
    assert told[900:1160, Regime.BULL].mean() > 0.7
    assert told[100:400, Regime.SIDEWAYS].mean() > told[100:400, Regime.BULL].mean()
    np.testing.assert_allclose(told.sum(axis=1), 1.0, atol=1e-12)
    assert (told >= 0.0).all()


def test_no_row_depends_on_a_later_close() -> None:
    whole = closes((300, 0.0, 0.01), (100, 0.0, 0.04))
    told = FILTER.probabilities(whole)
    for row in (5, 30, 299, 300, 350):
        other = whole.copy()
        other[row + 1 :] *= np.exp(2.0 * np.random.Generator(np.random.Philox(key=row)).standard_normal(len(whole) - row - 1))
        assert np.array_equal(FILTER.probabilities(other)[: row + 1], told[: row + 1])


def test_holes_keep_what_was_known_and_an_outlier_stays_finite() -> None:
    series = closes((200, 0.0, 0.01))
    series[150:153] = np.nan
    series[180:] *= 0.4
    told = FILTER.probabilities(series)
    assert np.array_equal(told[150:153], np.tile(told[149], (3, 1)))
    assert np.isfinite(told).all()
    assert told[180, Regime.BEAR] > 0.9
    np.testing.assert_allclose(told[:21], 1 / 3)


def test_prices_that_stand_still_are_no_division_by_zero() -> None:
    assert np.isfinite(FILTER.probabilities(np.full(100, 50.0))).all()


def test_wrong_series_and_settings_are_refused() -> None:
    for wrong in (np.asarray([100.0, 0.0]), np.asarray([100.0, np.inf]), np.ones((3, 2))):
        with pytest.raises(BadInput, match="regime filter"):
            FILTER.probabilities(wrong)
    with pytest.raises(BadInput, match="memory_sessions"):
        VolatilityTrend(memory_sessions=300.0)
