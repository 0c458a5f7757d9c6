"""What a specialist must beat: the base rates, a logistic regression and gradient boosting.

Imports scikit-learn, which the agent does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets, fit_conformal, sides
from finagent.quant.evaluation.labels import CLASSES, Outcome, day_weights
from finagent.quant.evaluation.scores import climatology
from finagent.quant.learning.learning_rows import EMBARGO_SESSIONS, LearningRows, Singles, training_parts
from finagent.quant.specialists.specialist import StandardInputs, decided, fit_standard_inputs

LOGISTIC_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class Climatology:
    """Forecaster that tells the base rates and takes no side."""

    base_rates: Floats

    def probabilities(self, inputs: Singles) -> Floats:
        """[rows, classes]."""
        return np.tile(self.base_rates, (len(inputs), 1))

    def sides(self, inputs: Singles) -> NDArray[np.int8]:
        """[rows], all zero."""
        return np.zeros(len(inputs), dtype=np.int8)


@dataclass(frozen=True, slots=True)
class Classifier:
    """Forecaster around a classifier of scikit-learn; `rows_of` gives the matrix that it takes."""

    model: Any
    rows_of: Callable[[Singles], Floats]
    conformal: ConformalSets

    def probabilities(self, inputs: Singles) -> Floats:
        """[rows, classes]."""
        return _told(self.model, self.rows_of(inputs))

    def sides(self, inputs: Singles) -> NDArray[np.int8]:
        """[rows] see abstention.sides."""
        return sides(self.conformal.sets(decided(self.probabilities(inputs))))


def learn_climatology(rows: LearningRows) -> Climatology:
    """The base rates of days, each of which counts once."""
    return Climatology(climatology(rows.outcomes, CLASSES, day_weights(rows.starts)))


def learn_logistic(rows: LearningRows, miss_fraction: float = 0.1, penalty: float = 1.0) -> Classifier:
    """Multinomial logistic regression on standard inputs, an unknown one counting as the mean; `penalty` of squared weights."""
    standard = fit_standard_inputs(training_parts(rows).fit.inputs)
    model = LogisticRegression(C=1.0 / penalty, max_iter=LOGISTIC_ITERATIONS)
    return _learned(model, _Standard(standard), rows, miss_fraction)


def learn_boosting(rows: LearningRows, miss_fraction: float = 0.1, seed: int = 0) -> Classifier:
    """Gradient boosting of trees as it comes, which takes unknown values as they are (Friedman, Ann. Stat. 29, 2001)."""
    return _learned(HistGradientBoostingClassifier(random_state=seed), _flat, rows, miss_fraction)


@dataclass(frozen=True, slots=True)
class _Standard:
    inputs: StandardInputs

    def __call__(self, inputs: Singles) -> Floats:
        return _flat(self.inputs(inputs)[0])


def _flat(inputs: Singles) -> Floats:
    return inputs.reshape(len(inputs), -1).astype(np.float64)


def _learned(model: Any, rows_of: Callable[[Singles], Floats], rows: LearningRows, miss_fraction: float) -> Classifier:
    """From all rows but the last part, which tells what it abstains from, as that of a specialist does."""
    parts = training_parts(rows)
    learned = rows.take(np.flatnonzero(rows.ends < parts.calibration.starts[0] - EMBARGO_SESSIONS))
    if len(np.unique(learned.outcomes)) < 2:
        raise BadInput(f"baselines: all of {len(learned)} rows have the same outcome: nothing is to be told apart")
    with threadpool_limits(1):  # threads that wait for each other cost more than they bring, and others train beside
        model.fit(rows_of(learned.inputs), learned.outcomes, sample_weight=day_weights(learned.starts))
    calibration = parts.calibration
    moved = calibration.outcomes != Outcome.FLAT
    of_sides = decided(_told(model, rows_of(calibration.inputs)))
    return Classifier(model, rows_of, fit_conformal(of_sides[moved], calibration.outcomes[moved], miss_fraction))


def _told(model: Any, matrix: Floats) -> Floats:
    """[rows, classes], zero for a class that was not there to be learned."""
    told = np.zeros((len(matrix), CLASSES))
    with threadpool_limits(1):
        told[:, model.classes_.astype(int)] = model.predict_proba(matrix)
    return told
