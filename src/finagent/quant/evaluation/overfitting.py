"""What the best of many trials is worth: the deflated Sharpe ratio and the probability of backtest overfitting."""

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.sharpe import probabilistic_sharpe

ROUNDING = 1e-12  # of a mean square: a variance below it is the rounding of sums
EULER_MASCHERONI = 0.5772156649015329
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Overfitting:
    """`probability` that the best trial in sample is no better than the median out of sample; `logits` of its relative rank
    there, one for each way to halve the sessions."""

    probability: float
    logits: Floats


def expected_best_sharpe(trials: int, trial_deviation: float) -> float:
    """The largest ratio to expect of `trials` without any skill whose ratios have this standard deviation, in its unit (Bailey &
    Lopez de Prado, J. Portfolio Manag. 40, 2014). BadInput for no trial or a deviation that is not finite or below zero."""
    if trials < 1 or not 0.0 <= trial_deviation < math.inf:
        raise BadInput(f"deflated Sharpe ratio: {trials} trials with deviation {trial_deviation}: one trial or more, 0 or more")
    if trials == 1:
        return 0.0
    likely = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    tail = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return trial_deviation * ((1.0 - EULER_MASCHERONI) * likely + EULER_MASCHERONI * tail)


def deflated_sharpe(returns: Floats, trials: int, trial_deviation: float) -> float:
    """The probability that the true Sharpe ratio of the chosen trial is above the best to expect by chance alone (Bailey & Lopez
    de Prado 2014). `returns` [sessions] as fractions; `trial_deviation` of the annual ratios of all trials. NaN where nothing
    moves; errors as of annual_sharpe and expected_best_sharpe."""
    return probabilistic_sharpe(returns, expected_best_sharpe(trials, trial_deviation))


def backtest_overfitting(returns: Floats, blocks: int = 16) -> Overfitting:
    """Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado & Zhu, J. Comput. Finance 20, 2017) by Sharpe
    ratio. `returns` [sessions, trials] as fractions; the oldest sessions are left out until `blocks` equal blocks are full.

    BadInput for fewer than two trials, blocks that are odd, above 16 or of fewer than two sessions, and for returns that are not
    finite.
    """
    if returns.ndim != 2 or returns.shape[1] < 2 or not np.isfinite(returns).all():
        raise BadInput(f"backtest overfitting: returns of shape {returns.shape} must be finite, of two trials or more")
    length = len(returns) // blocks if 2 <= blocks <= 16 and blocks % 2 == 0 else 0
    if length < 2:
        raise BadInput(f"backtest overfitting: {len(returns)} sessions in {blocks} blocks: 2 to 16, even, two sessions or more")
    used = returns[len(returns) - length * blocks :].reshape(blocks, length, -1)
    halves = np.asarray(list(combinations(range(blocks), blocks // 2)))
    inside = np.zeros((len(halves), blocks))
    np.put_along_axis(inside, halves, 1.0, axis=1)
    count = length * blocks // 2
    sums, squares = used.sum(axis=1), np.square(used).sum(axis=1)
    learned = _ratios(inside @ sums, inside @ squares, count)
    tested = _ratios((1.0 - inside) @ sums, (1.0 - inside) @ squares, count)
    chosen = np.take_along_axis(tested, learned.argmax(axis=1)[:, np.newaxis], axis=1)
    places = (tested < chosen).sum(axis=1) + ((tested == chosen).sum(axis=1) + 1) / 2.0  # from 1, the mean place for equals
    relative = places / (returns.shape[1] + 1)
    logits: Floats = np.log(relative / (1.0 - relative))
    return Overfitting(float((logits <= 0.0).mean()), logits)


def _ratios(total: Floats, square: Floats, count: int) -> Floats:
    """Sharpe ratios of sessions from sums over `count` of them; zero where nothing moves."""
    mean = total / count
    variance = square / count - mean**2
    moves = variance > ROUNDING * square / count
    ratios: Floats = mean / np.sqrt(np.where(moves, variance, np.inf))
    return ratios
