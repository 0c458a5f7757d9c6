"""Does one model forecast better than another? Losses compared by day: a test at the end, and evidence at any time."""

import math
from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.scores import PROBABILITY_MIN, Classes, log_losses

EVIDENCE_MIN = 20.0  # a false promotion in at most one of 20 pairs that are equal, whenever one looks
# Of what a usual day can take at worst. Smaller stakes need years to reach the limit and only thin out the mixture.
STAKES = np.asarray([0.25, 0.5, 0.95])
QUADRATURE = np.polynomial.legendre.leggauss(64)
LOG_CAPITAL_MAX = 700.0  # a float ends there, and whoever has so much needs no more
DAYS_MIN = 3  # for a variance with one lag


@dataclass(frozen=True, slots=True)
class DayDifferences:
    """`mean` [days] of the champion's loss minus the challenger's, in nats, above zero where the challenger was better; `bound`
    [days] the largest size it could have, known when both had forecast and nothing had happened yet."""

    days: Classes
    mean: Floats
    bound: Floats
    predictions: int


@dataclass(frozen=True, slots=True)
class LossTest:
    """`difference` of the losses, in their unit, and its standard error; `p_value` of one so large or larger when the challenger
    is no better, one-sided."""

    difference: float
    standard_error: float
    p_value: float
    days: int


def day_differences(champion: Floats, challenger: Floats, outcomes: Classes, days: Classes) -> DayDifferences:
    """Log-loss of two models that forecast the same rows, by day: candidates of one day share its news and count as one draw.
    Probabilities [rows, classes], `outcomes` and `days` [rows]; BadInput as of log_losses and for other shapes."""
    if champion.shape != challenger.shape or days.shape != outcomes.shape:
        raise BadInput(
            f"comparison: forecasts {champion.shape} and {challenger.shape} on days {days.shape}: the same rows are needed"
        )
    difference = log_losses(champion, outcomes) - log_losses(challenger, outcomes)
    ratios = np.log(np.maximum(challenger, PROBABILITY_MIN) / np.maximum(champion, PROBABILITY_MIN))
    told, place, rows = np.unique(days, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=difference) / rows
    bound = np.bincount(place, weights=np.abs(ratios).max(axis=1)) / rows
    return DayDifferences(told, mean, bound, len(outcomes))


def compare_losses(differences: Floats, lags: int | None = None) -> LossTest:
    """The test of Diebold & Mariano (J. Bus. Econ. Stat. 13, 1995) on means of days [days], with the variance of Newey & West
    (Econometrica 55, 1987) and Student's distribution. For one look at the end: who looks every day is wrong far more often.

    `lags` in days, by default the floor of 4 (days / 100)^(2/9). BadInput for fewer than DAYS_MIN days, as many lags as days, or
    a difference that is not finite.
    """
    days = len(differences)
    if differences.ndim != 1 or days < DAYS_MIN or not np.isfinite(differences).all():
        raise BadInput(f"comparison: differences {differences.shape} must be finite, of {DAYS_MIN} days or more")
    reach = math.floor(4.0 * (days / 100.0) ** (2.0 / 9.0)) if lags is None else lags
    if not 0 <= reach < days:
        raise BadInput(f"comparison: {reach} lags over {days} days, 0 to {days - 1} are possible")
    mean = float(differences.mean())
    centred = differences - mean
    variance = float(centred @ centred)
    for lag in range(1, reach + 1):
        variance += 2.0 * (1.0 - lag / (reach + 1.0)) * float(centred[lag:] @ centred[:-lag])
    error = math.sqrt(variance / days / (days - 1)) if variance > 0.0 else 0.0
    p_value = student_tail(mean / error, days - 1) if error > 0.0 else float(mean <= 0.0)
    return LossTest(mean, error, p_value, days)


def student_tail(value: float, freedom: int) -> float:
    """The probability that Student's t with so many degrees of freedom is above `value`, to 1e-12."""
    # With t = sqrt(freedom) tan(angle) the density is a power of the cosine; beyond the reach nothing is left of it to integrate.
    reach = 12.0 / math.sqrt(freedom)
    angle = min(max(math.atan(value / math.sqrt(freedom)), -reach), reach)
    nodes, weights = QUADRATURE
    area = float(weights @ np.cos(angle * (nodes + 1.0) / 2.0) ** (freedom - 1)) * angle / 2.0
    constant = math.exp(math.lgamma((freedom + 1) / 2.0) - math.lgamma(freedom / 2.0)) / math.sqrt(math.pi)
    return min(max(0.5 - constant * area, 0.0), 1.0)


def evidence(mean: Floats, bound: Floats) -> Floats:
    """The capital [days] of who began with 1 and bets each day on the challenger: an e-process (Waudby-Smith & Ramdas, J. R.
    Stat. Soc. B 86, 2024; of forecasts: Henzi & Ziegel, Biometrika 109, 2022).

    While the challenger is not expected to be better on any day, it is ever above 1 / alpha with a probability of at most alpha
    (Ville), so it may be looked at daily. `mean` and `bound` [days] as of DayDifferences. Three bettors share the capital, each
    with one of STAKES, in units of the mean bound so far, so that days weigh alike, or of the day's own where that is larger, so
    that nobody can lose all. BadInput for a mean that is not finite or is beyond its bound.
    """
    if mean.shape != bound.shape or mean.ndim != 1 or not np.isfinite(mean).all() or not np.isfinite(bound).all():
        raise BadInput(f"evidence: means {mean.shape} and bounds {bound.shape} must be finite, one of each a day")
    unit = np.maximum(bound, bound.cumsum() / np.arange(1, len(bound) + 1))
    beyond = np.abs(mean) > bound * (1.0 + 1e-9)
    if beyond.any():
        raise BadInput(f"evidence: the difference of day {int(beyond.argmax())} is beyond its bound")
    gains = np.divide(mean, unit, out=np.zeros_like(mean), where=unit > 0.0)
    grown = np.log1p(STAKES[:, np.newaxis] * gains).cumsum(axis=1)
    capital: Floats = np.exp(np.minimum(grown, LOG_CAPITAL_MAX)).mean(axis=0)
    return capital


def promotion_day(capital: Floats, least: float = EVIDENCE_MIN) -> int | None:
    """The index of the first day on which the evidence is above `least`; None: not yet."""
    above = capital > least
    return int(above.argmax()) if above.any() else None
