"""Alarms ring for what knows the future, and for nothing else."""

from datetime import date, timedelta

import numpy as np
import pytest

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.features.backtest_alarms import Backtest, BacktestFigures, figures, probe

SESSIONS, SYMBOLS = 500, 20
DAYS = tuple(date(2020, 1, 1) + timedelta(days=number) for number in range(SESSIONS))


def world(seed: int, edge: float = 0.0) -> tuple[Floats, Floats]:
    """Ten honest features, the first of which explains `edge` of the deviation of the returns, and the returns."""
    chance = np.random.default_rng(seed)
    rows = chance.standard_normal((SESSIONS, SYMBOLS, 10))
    noise = chance.standard_normal((SESSIONS, SYMBOLS))
    return rows, 0.02 * (edge * rows[:, :, 0] + noise)


def told(rows: Floats, returns: Floats) -> BacktestFigures:
    return figures(probe(rows, returns, DAYS))


@pytest.mark.parametrize("seed", range(20))
def test_honest_features_ring_no_alarm(seed: int) -> None:
    rows, returns = world(seed)
    rows[seed : seed + 30, :, 3] = np.nan
    returns[:, seed % SYMBOLS] = np.nan
    assert told(rows, returns).alarms() == ()


def test_a_small_honest_edge_is_found_and_rings_nothing_but_what_it_is() -> None:
    rows, returns = world(1, edge=0.03)
    found = told(rows, returns)
    assert 0.5 < found.sharpe < 3.5
    assert abs(found.shuffled_skill) < 0.1


def test_a_feature_that_knows_the_return_rings_every_alarm() -> None:
    """Today's high over the open, as in the look-ahead that turns a model of 50 % into one of 76 %."""
    rows, returns = world(2)
    chance = np.random.default_rng(3)
    rows[:, :, 4] = np.maximum(returns, 0.0) + 0.004 * np.abs(chance.standard_normal(returns.shape))
    found = told(rows, returns)
    words = " | ".join(found.alarms())
    assert found.sharpe > 3.0
    assert found.hit_fraction > 0.6
    for part in ("the Sharpe ratio is", "of the signals are right", "falls from", "learned from shuffled returns", "no month of"):
        assert part in words, part


def test_figures_by_hand() -> None:
    days = tuple(date(2024, 1, 1) + timedelta(days=number) for number in range(60))
    signals, returns = np.zeros((60, 2)), np.full((60, 2), np.nan)
    signals[:, 0], returns[:, 0] = 1.0, np.tile([0.02, -0.01, 0.01], 20)
    signals[::2, 1], returns[:, 1] = -1.0, 0.01
    found = figures(Backtest(days, signals, returns, 0.0))
    daily = np.where(np.arange(60) % 2 == 0, (returns[:, 0] - 0.01) / 2, returns[:, 0])
    assert found.signals == 90
    assert found.hit_fraction == pytest.approx(40 / 90)
    assert found.sharpe == pytest.approx(daily.mean() / daily.std(ddof=1) * np.sqrt(252))
    assert (found.months, found.losing_months) == (2, 0)


def test_too_few_sessions_and_no_signal_are_refused() -> None:
    none = np.zeros((59, 2))
    with pytest.raises(BadInput, match="a backtest of 59 sessions says nothing: 60 are needed"):
        figures(Backtest(DAYS[:59], none, none, 0.0))
    with pytest.raises(BadInput, match="without a single signal"):
        figures(Backtest(DAYS[:60], np.zeros((60, 2)), np.zeros((60, 2)), 0.0))
