"""How good probabilities were: proper scores of each forecast, accuracy with its error, AUC, and the base rate to beat."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.features.cross_section import ranks

Classes = NDArray[np.integer]
PROBABILITY_MIN = 1e-12  # what a forecast of zero is scored as when it happens
SUM_ERROR_MAX = 1e-5  # float32 rows of a softmax add up to 1 within this


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The fraction of forecasts whose likeliest class happened, and its standard error."""

    fraction: float
    standard_error: float


def log_losses(probabilities: Floats, outcomes: Classes) -> Floats:
    """Minus the logarithm of the probability of what happened, in nats [rows] (Good, J. R. Stat. Soc. B 14, 1952).
    `probabilities` [rows, classes], `outcomes` [rows] as columns of it; BadInput for what is neither."""
    require_forecasts(probabilities, outcomes)
    losses: Floats = -np.log(np.maximum(probabilities[np.arange(len(outcomes)), outcomes], PROBABILITY_MIN))
    return losses


def brier_scores(probabilities: Floats, outcomes: Classes) -> Floats:
    """The square distance of each forecast from what happened, over all classes, 0 to 2 [rows] (Brier, Mon. Weather Rev. 78,
    1950: of two classes it is twice the score of one probability). Inputs and errors as of log_losses."""
    require_forecasts(probabilities, outcomes)
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(outcomes)), outcomes] -= 1.0
    scores: Floats = np.square(distance).sum(axis=1)
    return scores


def accuracy(probabilities: Floats, outcomes: Classes, days: Classes | None = None) -> Accuracy:
    """The standard error is binomial; with `days` [rows], rows of one day count as one draw (Liang & Zeger, Biometrika 73, 1986).
    Inputs and errors as of log_losses."""
    require_forecasts(probabilities, outcomes)
    right = (probabilities.argmax(axis=1) == outcomes).astype(np.float64)
    fraction, rows = float(right.mean()), len(right)
    if days is None:
        return Accuracy(fraction, float(np.sqrt(fraction * (1.0 - fraction) / rows)))
    _, place = np.unique(days, return_inverse=True)
    by_day = np.bincount(place, weights=right - fraction)
    return Accuracy(fraction, float(np.sqrt(np.square(by_day).sum())) / rows)


def auc(scores: Floats, happened: NDArray[np.bool_]) -> float:
    """The chance that what happened was scored above what did not, equal scores counting half (Hanley & McNeil, Radiology 143,
    1982). Both [rows]; BadInput for scores that are not finite and for one class only."""
    count = int(np.count_nonzero(happened))
    other = len(happened) - count
    if scores.shape != happened.shape or not np.isfinite(scores).all():
        raise BadInput(f"AUC: scores {scores.shape} must be finite, one for each of {happened.shape}")
    if not count or not other:
        raise BadInput(f"AUC: {count} rows of {len(happened)} happened, some of each kind are needed")
    places = ranks(scores.astype(np.float64)) * (len(scores) - 1)  # from zero, the mean place for equal scores
    return float((places[happened].sum() - count * (count - 1) / 2.0) / (count * other))


def climatology(outcomes: Classes, classes: int, weights: Floats | None = None) -> Floats:
    """The base rates [classes] of rows to learn from: the forecast of who knows nothing else. BadInput for no rows, and for
    outcomes that are not classes."""
    if not len(outcomes) or outcomes.min() < 0 or outcomes.max() >= classes:
        raise BadInput(f"climatology: {len(outcomes)} outcomes, at least one is needed, all from 0 to {classes - 1}")
    counts = np.bincount(outcomes, weights=weights, minlength=classes)
    rates: Floats = counts / counts.sum()
    return rates


def require_forecasts(probabilities: Floats, outcomes: Classes) -> None:
    """BadInput unless there is a finite distribution for each outcome, and each outcome is one of its classes."""
    if probabilities.ndim != 2 or outcomes.shape != probabilities.shape[:1] or not len(outcomes):
        raise BadInput(f"forecasts {probabilities.shape} for outcomes {outcomes.shape}: one row for each is needed")
    if outcomes.min() < 0 or outcomes.max() >= probabilities.shape[1]:
        raise BadInput(f"outcomes are from {outcomes.min()} to {outcomes.max()}, not classes of {probabilities.shape[1]}")
    sound = (probabilities >= 0.0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1.0) <= SUM_ERROR_MAX)
    if not sound.all():
        first = int(sound.argmin())
        raise BadInput(f"the forecast of row {first} is no distribution: {probabilities[first].tolist()}")
