"""The plain baseline: multinomial logistic regression over the features of the decision, by gradient descent.

The loss is the mean log-loss, a day counting once, plus l2/2 times the squared weights (Hastie, Tibshirani & Friedman, The
Elements of Statistical Learning, 2nd ed. 2009, 4.4). The descent is Nesterov's (Sov. Math. Dokl. 27, 1983), its step one over
the bound of the curvature: half the largest eigenvalue of the inputs' second moments, plus l2 (Boehning, Ann. Inst. Stat. Math.
44, 1992).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES, Outcome, day_weights
from finagent.quant.evaluation.scores import brier_scores, climatology, log_losses
from finagent.quant.learning.experiment import State
from finagent.quant.learning.learning_rows import LearningRows

DEVIATIONS_MAX = 8.0  # a value further from the mean counts as that far
_MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class LogisticPlan:
    """An epoch is so many `steps` of the descent; it ends after `epochs`, or when one changes the loss less than `tolerance`."""

    l2: float = 0.01
    epochs: int = 30
    steps: int = 5
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.steps < 1 or not 0.0 <= self.l2 < np.inf:
            raise BadInput(f"logistic: epochs and steps of at least 1 and l2 from 0 are needed: {self}")


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """Numbers of the model: `mean` and `deviation` [features] of each input, `weights` [features, classes], `bias` [classes]."""

    mean: Floats
    deviation: Floats
    weights: Floats
    bias: Floats

    def probabilities(self, inputs: Floats) -> Floats:
        """[rows, classes] of inputs [rows, features]; what is unknown counts as the mean."""
        return _softmax(self._standard(inputs) @ self.weights + self.bias)

    def _standard(self, inputs: Floats) -> Floats:
        return _standardised(inputs, self.mean, self.deviation)

    def scores(self, inputs: Floats, gap: Floats) -> Floats:
        """The probability [rows] that the price goes the way of the gap [rows] before it goes the other way or nowhere."""
        found = self.probabilities(inputs)
        scores: Floats = np.where(gap > 0.0, found[:, Outcome.UP], found[:, Outcome.DOWN])
        return scores


@dataclass(slots=True)
class LogisticTraining:
    """Experiment over rows to learn from, and rows that it is tested on after each epoch (None: all are learned from)."""

    plan: LogisticPlan
    rows: LearningRows
    tested: LearningRows | None
    _mean: Floats = field(init=False)
    _deviation: Floats = field(init=False)
    _inputs: Floats = field(init=False)
    _shares: Floats = field(init=False)
    _weights: Floats = field(init=False)
    _velocity: Floats = field(init=False)
    _step: float = field(init=False)
    _epoch: int = field(init=False, default=0)
    _loss: float = field(init=False, default=np.inf)
    _gained: float = field(init=False, default=np.inf)

    def __post_init__(self) -> None:
        """BadInput for no rows."""
        if not len(self.rows):
            raise BadInput("logistic: no row to learn from")
        inputs = _last(self.rows)
        known = np.isfinite(inputs)
        counts = np.maximum(known.sum(axis=0), 1)
        self._mean = np.where(known, inputs, 0.0).sum(axis=0) / counts
        spread = np.sqrt(np.where(known, np.square(inputs - self._mean), 0.0).sum(axis=0) / counts)
        self._deviation = np.where(spread > 1e-9 * np.maximum(np.abs(self._mean), 1.0), spread, 1.0)
        self._inputs = _standardised(inputs, self._mean, self._deviation)
        weights = day_weights(self.rows.starts)
        self._shares = weights / weights.sum()
        whole = np.column_stack((self._inputs, np.ones(len(inputs)))) * np.sqrt(self._shares)[:, np.newaxis]
        self._step = 1.0 / (0.5 * float(np.linalg.eigvalsh(whole.T @ whole)[-1]) + self.plan.l2)
        self._weights = np.zeros((inputs.shape[1] + 1, CLASSES))
        self._velocity = np.zeros_like(self._weights)

    @property
    def epochs(self) -> int:
        return self.plan.epochs

    @property
    def finished(self) -> bool:
        return self._epoch >= self.plan.epochs or abs(self._gained) < self.plan.tolerance

    @property
    def model(self) -> LogisticModel:
        """As it is now."""
        return LogisticModel(self._mean, self._deviation, self._weights[:-1].copy(), self._weights[-1].copy())

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        """Losses in nats, Brier scores over all classes; `climatology_*` is what the base rates score on the tested rows."""
        if epoch != self._epoch or self.finished:
            raise BadInput(f"epoch {epoch}: " + ("training is finished" if self.finished else f"the next one is {self._epoch}"))
        happened = np.eye(CLASSES)[self.rows.outcomes]
        for _ in range(self.plan.steps):
            ahead = self._weights + _MOMENTUM * self._velocity
            error = (_softmax(self._inputs @ ahead[:-1] + ahead[-1]) - happened) * self._shares[:, np.newaxis]
            slope = np.concatenate((self._inputs.T @ error + self.plan.l2 * ahead[:-1], error.sum(axis=0, keepdims=True)))
            self._velocity = _MOMENTUM * self._velocity - self._step * slope
            self._weights = self._weights + self._velocity
        self._epoch += 1
        found = self.model
        loss = float(log_losses(found.probabilities(_last(self.rows)), self.rows.outcomes) @ self._shares)
        loss += 0.5 * self.plan.l2 * float(np.square(found.weights).sum())
        self._loss, self._gained = loss, self._loss - loss
        return {"train_loss": loss} | self._test(found)

    def state(self) -> State:
        """The figures of the descent decide when it ends, so they are part of it."""
        counters = np.asarray([self._epoch, self._loss, self._gained])
        return {"weights": self._weights.copy(), "velocity": self._velocity.copy(), "counters": counters}

    def restore(self, state: State) -> None:
        shapes = {name: np.shape(array) for name, array in state.items()}
        if shapes != {"weights": self._weights.shape, "velocity": self._weights.shape, "counters": (3,)}:
            raise BadInput(f"logistic: the state is of another training: {shapes}")
        self._weights, self._velocity = state["weights"].copy(), state["velocity"].copy()
        self._epoch, self._loss, self._gained = int(state["counters"][0]), *map(float, state["counters"][1:])

    def _test(self, found: LogisticModel) -> dict[str, float]:
        if self.tested is None:
            return {}
        happened, weights = self.tested.outcomes, day_weights(self.tested.starts)
        rates = climatology(self.rows.outcomes, CLASSES, self._shares)
        told = {}
        for name, forecast in (
            ("", found.probabilities(_last(self.tested))),
            ("climatology_", np.tile(rates, (len(happened), 1))),
        ):
            told[f"{name}test_loss"] = float(np.average(log_losses(forecast, happened), weights=weights))
            told[f"{name}test_brier"] = float(np.average(brier_scores(forecast, happened), weights=weights))
        return told


def _last(rows: LearningRows) -> Floats:
    return rows.inputs[:, -1, :].astype(np.float64)


def _standardised(inputs: Floats, mean: Floats, deviation: Floats) -> Floats:
    standard = np.clip((inputs - mean) / deviation, -DEVIATIONS_MAX, DEVIATIONS_MAX)
    found: Floats = np.where(np.isnan(standard), 0.0, standard)
    return found


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found
