"""The best of many is worth less than it looks, by published figures and by noise."""

import math

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.overfitting import backtest_overfitting, deflated_sharpe, expected_best_sharpe
from finagent.quant.evaluation.sharpe import annual_sharpe, probabilistic_sharpe


def test_the_best_to_expect_by_published_figures() -> None:
    """Bailey & Lopez de Prado 2014: 100 trials with an annual variance of 1/2, so 1/500 by day, reach 0.1132 by day."""
    assert expected_best_sharpe(100, math.sqrt(1 / 500)) == pytest.approx(0.1132, abs=1e-4)
    assert expected_best_sharpe(1, 5.0) == 0.0
    assert expected_best_sharpe(10, 0.0) == 0.0


@pytest.mark.statistics
@pytest.mark.parametrize("trials", [5, 50, 500])
def test_the_best_to_expect_is_what_the_best_of_noise_reaches(trials: int) -> None:
    best = np.random.default_rng(9).normal(size=(2000, trials)).max(axis=1)
    assert expected_best_sharpe(trials, 1.0) == pytest.approx(best.mean(), abs=0.06)


def test_more_trials_deflate_more() -> None:
    returns = np.random.default_rng(10).normal(0.001, 0.01, 500)
    assert deflated_sharpe(returns, 1, 0.5) == probabilistic_sharpe(returns)
    deflated = [deflated_sharpe(returns, trials, 0.5) for trials in (1, 10, 100)]
    assert deflated == sorted(deflated, reverse=True)
    best = expected_best_sharpe(10, 0.5)
    assert deflated_sharpe(returns, 10, 0.5) == probabilistic_sharpe(returns, best)


@pytest.mark.statistics
def test_the_best_of_fifty_without_skill_is_rarely_believed() -> None:
    """Undeflated the best of 50 looks sure in most cases."""
    chance = np.random.default_rng(11)
    believed, looked = [], []
    for _ in range(100):
        trials = chance.normal(0.0, 0.01, size=(50, 500))
        ratios = np.asarray([annual_sharpe(trial) for trial in trials])
        best = trials[ratios.argmax()]
        believed.append(deflated_sharpe(best, 50, float(ratios.std(ddof=1))) > 0.9)
        looked.append(probabilistic_sharpe(best) > 0.9)
    assert np.mean(believed) < 0.12
    assert np.mean(looked) > 0.9


def test_overfitting_by_hand() -> None:
    """Two halves; who was better in the one was worse in the other: the last of two, a rank of 1/3, each time."""
    up, down = [0.01, 0.03], [-0.01, -0.03]
    found = backtest_overfitting(np.asarray([up + down, down + up]).T, blocks=2)
    assert found.probability == 1.0
    assert found.logits.tolist() == pytest.approx([math.log(1 / 2)] * 2)
    found = backtest_overfitting(np.asarray([up + up, down + down]).T, blocks=2)
    assert found.probability == 0.0
    assert found.logits.tolist() == pytest.approx([math.log(2)] * 2)


def test_trials_that_do_the_same_are_in_the_middle() -> None:
    same = np.tile([[0.01], [0.02], [-0.01], [0.04]], (4, 3))
    assert backtest_overfitting(same, blocks=4).logits.tolist() == pytest.approx([0.0] * 6)
    assert backtest_overfitting(np.full((16, 3), 0.1), blocks=4).probability == 1.0


@pytest.mark.statistics
def test_noise_is_overfitted_half_the_time_and_skill_is_not() -> None:
    chance = np.random.default_rng(12)
    noise = [backtest_overfitting(chance.normal(size=(240, 20)), 10).probability for _ in range(100)]
    assert np.mean(noise) == pytest.approx(0.5, abs=float(3 * np.std(noise) / 10))
    skilled = chance.normal(size=(240, 20))
    skilled[:, 3] += 0.4
    assert backtest_overfitting(skilled, 10).probability < 0.05


def test_what_does_not_fit_is_refused_by_name() -> None:
    returns = np.ones((40, 3))
    for blocks in (0, 3, 18):
        with pytest.raises(BadInput, match=f"40 sessions in {blocks} blocks"):
            backtest_overfitting(returns, blocks)
    with pytest.raises(BadInput, match="7 sessions in 4 blocks"):
        backtest_overfitting(returns[:7], 4)
    with pytest.raises(BadInput, match="of two trials or more"):
        backtest_overfitting(returns[:, :1], 4)
    with pytest.raises(BadInput, match="0 trials"):
        expected_best_sharpe(0, 1.0)
    with pytest.raises(BadInput, match="deviation nan"):
        expected_best_sharpe(3, math.nan)
