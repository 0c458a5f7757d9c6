"""Does what is forecast at 60 % happen in 60 % of cases? Reliability, its one-number error, and the temperature that mends it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.scores import PROBABILITY_MIN, Classes, require_forecasts

TEMPERATURE_MIN, TEMPERATURE_MAX = 0.05, 20.0
SKILL_DEVIATIONS_MIN = 1.645  # of the gain by day: one in twenty who know nothing is believed
BISECTIONS = 60  # halve the range of the temperature's logarithm to below a float's step


@dataclass(frozen=True, slots=True)
class Reliability:
    """Points of the reliability curve, one for each bin that has rows: mean probability, fraction that happened, rows."""

    forecast: Floats
    happened: Floats
    rows: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The mean distance of forecast and frequency, weighted by rows: 0 is calibrated."""
        return float((self.rows * np.abs(self.forecast - self.happened)).sum() / self.rows.sum())

    @property
    def excess_error(self) -> float:
        """What is left of the error beyond that of a calibrated forecaster with as many rows, whose frequencies are drawn by
        chance (the mean of a half-normal in each bin); 0 or above. Without it a constant, which has one bin, would look better
        calibrated than whoever tells rows apart (Broecker, Q. J. R. Meteorol. Soc. 138, 2012)."""
        by_chance = np.sqrt(2.0 / np.pi * self.forecast * (1.0 - self.forecast) / self.rows)
        return max(0.0, self.error - float((self.rows * by_chance).sum() / self.rows.sum()))


def reliability(probabilities: Floats, happened: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Bins of equal width over probabilities [rows] in [0, 1]; BadInput for others, no rows or no bins. (Murphy & Winkler, Appl.
    Stat. 26, 1977.)"""
    if probabilities.shape != happened.shape or not len(happened) or bins < 1:
        raise BadInput(f"reliability: {probabilities.shape} forecasts of {happened.shape} in {bins} bins")
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise BadInput("reliability: a probability is not from 0 to 1")
    place = np.minimum((probabilities * bins).astype(np.intp), bins - 1)
    rows = np.bincount(place, minlength=bins)
    filled = rows > 0
    forecast = np.bincount(place, weights=probabilities, minlength=bins)[filled] / rows[filled]
    frequency = np.bincount(place, weights=happened, minlength=bins)[filled] / rows[filled]
    return Reliability(forecast, frequency, rows[filled].astype(np.int64))


def calibration_error(probabilities: Floats, outcomes: Classes, bins: int = 15) -> float:
    """Expected calibration error of the likeliest class, 0 to 1 (Guo et al., ICML 2017). `probabilities` [rows, classes],
    `outcomes` [rows]; errors as of log_losses."""
    require_forecasts(probabilities, outcomes)
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    return reliability(confidence, probabilities.argmax(axis=1) == outcomes, bins).error


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Distributions [rows, classes] of finite logits; BadInput for others and for a temperature that is not above zero."""
    if not 0.0 < temperature < np.inf or not np.isfinite(logits).all():
        raise BadInput(f"softmax: temperature {temperature} must be above zero, and all logits finite")
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    told: Floats = odds / odds.sum(axis=1, keepdims=True)
    return told


def fit_temperature(logits: Floats, outcomes: Classes) -> float:
    """The divisor of the logits [rows, classes] with the least log-loss (Guo et al., ICML 2017), from TEMPERATURE_MIN to
    TEMPERATURE_MAX; it never changes which class is likeliest. Errors as of softmax and log_losses.

    The loss is convex in 1 / temperature, so its slope there changes sign once at most: bisection cannot miss it.
    """
    require_forecasts(softmax(logits), outcomes)
    rows = np.arange(len(outcomes))
    wide = logits.astype(np.float64)

    def slope(inverse: float) -> float:
        expected = (softmax(wide, 1.0 / inverse) * wide).sum(axis=1)
        return float((expected - wide[rows, outcomes]).mean())

    low, high = -np.log(TEMPERATURE_MAX), -np.log(TEMPERATURE_MIN)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        if slope(float(np.exp(middle))) > 0.0:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2.0))


def pooled(told: Floats, skill: float, base_rates: Floats) -> Floats:
    """`skill` parts of `told` [rows, classes] and the rest of `base_rates` [classes]."""
    return np.asarray(skill * told + (1.0 - skill) * base_rates)


def fit_skill(told: Floats, base_rates: Floats, outcomes: Classes, weight: Floats, days: Classes) -> float:
    """The share of `told` [rows, classes] beside `base_rates` [classes] in the linear pool with the least log-loss (Hall &
    Mitchell, Int. J. Forecast. 23, 2007), 0 to 1. `weight` [rows] above zero, `days` [rows]; errors as of log_losses.

    0 for whose first share gains no more than chance would: while classes happen as often as `base_rates` say, told / base_rates
    of what happened is 1 in the mean, whatever is told. Rows of one day count as one draw. A little skill that is none would be
    enough for conformal sets to rule out the rarer side, and so for trades.

    The loss is convex in the share, so its slope changes sign once at most: bisection cannot miss it.
    """
    require_forecasts(told, outcomes)
    own, base = told[np.arange(len(outcomes)), outcomes], base_rates[outcomes]
    _, place = np.unique(days, return_inverse=True)
    gain = np.bincount(place, weights=weight * (own / np.maximum(base, PROBABILITY_MIN) - 1.0))
    if gain.sum() <= SKILL_DEVIATIONS_MIN * np.sqrt(np.square(gain).sum()):
        return 0.0

    def slope(share: float) -> float:
        return float((weight * (base - own) / np.maximum(share * own + (1.0 - share) * base, PROBABILITY_MIN)).sum())

    low, high = 0.0, 1.0
    if slope(high) <= 0.0:
        return 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if slope(middle) > 0.0 else (middle, high)
    return (low + high) / 2.0
