"""What a model relies on: how much worse it forecasts held-out rows when one of its features is shuffled among them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.evaluation.scores import log_losses
from finagent.quant.specialists.training_rows import Single, TrainingRows

SHUFFLES = 5
ROWS_MAX = 1000  # whole days are left out beyond that: more rows cost time and say the same
SESSIONS_MIN = 2  # for an error
_SEED = 7


@dataclass(frozen=True, slots=True)
class Importance:
    """`increase` [features] of the log-loss in nats, days counting alike, and its standard error over days [features]; both
    without a feature where there are too few days. `rows` are those that were shuffled."""

    increase: Floats
    standard_error: Floats
    rows: TrainingRows


def permutation_importance(probabilities: Callable[[Single], Floats], held_out: TrainingRows) -> Importance:
    """Of each feature alone, all its steps together (Breiman, Mach. Learn. 45, 2001). Features that say the same share what they
    are worth: the one of them stands in for the other."""
    rows = _some_days(held_out)
    _, place = np.unique(rows.days, return_inverse=True)
    counts, count = np.bincount(place), len(rows.days)
    if len(counts) < SESSIONS_MIN:
        return Importance(np.empty(0), np.empty(0), rows)
    base = log_losses(probabilities(rows.values), rows.outcome)
    outcome, shuffled = np.tile(rows.outcome, SHUFFLES), np.tile(rows.values, (SHUFFLES, 1, 1))
    increase, error = [], []
    for feature in range(rows.values.shape[2]):
        draw = np.random.Generator(np.random.Philox(key=(_SEED << 32) + feature))
        order = np.concatenate([draw.permutation(count) for _ in range(SHUFFLES)])
        whole, shuffled[:, :, feature] = shuffled[:, :, feature].copy(), rows.values[order, :, feature]
        worse = (log_losses(probabilities(shuffled), outcome).reshape(SHUFFLES, count) - base).mean(axis=0)
        shuffled[:, :, feature] = whole
        by_day = np.bincount(place, weights=worse) / counts
        increase.append(by_day.mean())
        error.append(by_day.std(ddof=1) / np.sqrt(len(counts)))
    return Importance(np.asarray(increase), np.asarray(error), rows)


def _some_days(rows: TrainingRows) -> TrainingRows:
    """Whole days, evenly, of so many rows about."""
    step = -(-len(rows.days) // ROWS_MAX)
    _, place = np.unique(rows.days, return_inverse=True)
    return rows.take(np.flatnonzero(place % step == 0)) if step > 1 else rows
