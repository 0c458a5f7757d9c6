"""Rows whose edge is known because it was planted: the positive control of everything that claims to learn."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.calibration import softmax
from finagent.quant.evaluation.labels import CLASSES, Outcome

FLAT_LOGIT = -0.15  # about three rows in ten are flat
LOGITS_A_UNIT = 2.0  # of a strength: at 0.3 the best possible accuracy is some points above the base rate


class Edge(Enum):
    """What the classes depend on: the sum of two features, the product of two, or nothing."""

    LINEAR = "linear"
    INTERACTION = "interaction"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PlantedRows:
    """`features` [rows, features] of unit variance, `outcome` [rows] as Outcome, `days` [rows] ascending; `truth` [rows, classes]
    the probabilities that the outcomes were drawn with: nobody can do better."""

    features: Floats
    outcome: NDArray[np.int64]
    days: NDArray[np.int64]
    truth: Floats

    @property
    def oracle_accuracy(self) -> float:
        """The share of rows whose likeliest class happened."""
        return float((self.truth.argmax(axis=1) == self.outcome).mean())

    @property
    def base_rate(self) -> float:
        """The share of the commonest class: what knowing nothing earns."""
        return float(np.bincount(self.outcome, minlength=CLASSES).max() / len(self.outcome))


def plant(
    edge: Edge, strength: float, seed: int, *, days: int, rows_a_day: int, features: int = 20, flat_logit: float = FLAT_LOGIT
) -> PlantedRows:
    """Rows with an edge of that strength. Every row of a day shares a part of its features, as candidates of one day do; above
    zero `flat_logit` makes FLAT the likeliest class. BadInput for a strength that is not finite or below zero, and for fewer than
    three features."""
    if not 0.0 <= strength < np.inf or features < 3 or days < 1 or rows_a_day < 1:
        raise BadInput(f"planted edge: strength {strength}, {features} features, {days} days of {rows_a_day} rows")
    draw = np.random.Generator(np.random.Philox(key=seed))
    rows = days * rows_a_day
    day = np.repeat(np.arange(days), rows_a_day)
    shared = draw.normal(size=(days, features))[day]
    values = np.sqrt(0.1) * shared + np.sqrt(0.9) * draw.normal(size=(rows, features))
    signal = {
        Edge.LINEAR: (values[:, 0] + values[:, 1]) / np.sqrt(2.0),
        Edge.INTERACTION: values[:, 0] * values[:, 1],
        Edge.NONE: np.zeros(rows),
    }[edge]
    logits = np.zeros((rows, CLASSES))
    logits[:, Outcome.FLAT] = flat_logit
    logits[:, Outcome.UP] = LOGITS_A_UNIT * strength * signal / 2.0
    logits[:, Outcome.DOWN] = -logits[:, Outcome.UP]
    truth = softmax(logits)
    outcome = (draw.random(rows)[:, np.newaxis] > truth.cumsum(axis=1)).sum(axis=1).clip(max=CLASSES - 1)
    return PlantedRows(values, outcome.astype(np.int64), day, truth)


def with_leak(rows: PlantedRows, seed: int) -> PlantedRows:
    """The same with one more column that knows the outcome, a little blurred: what a feature computed after the decision is."""
    blur = np.random.Generator(np.random.Philox(key=seed)).normal(scale=0.3, size=len(rows.outcome))
    leak = (rows.outcome - 1.0 + blur)[:, np.newaxis]
    return PlantedRows(np.concatenate((rows.features, leak), axis=1), rows.outcome, rows.days, rows.truth)
