"""Models and baselines on the same blocks that none of them had seen, as one table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.calibration import calibration_error
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.overfitting import backtest_overfitting, deflated_sharpe
from finagent.quant.evaluation.scores import accuracy, auc, brier_scores, log_losses
from finagent.quant.evaluation.sharpe import annual_sharpe
from finagent.quant.evaluation.walk_forward import Split
from finagent.quant.learning.learning_rows import LearningRows, Singles


class Forecaster(Protocol):
    """Who has learned. Neither call changes it, and a row's answer depends on that row alone."""

    def probabilities(self, inputs: Singles) -> Floats:
        """Distributions [rows, classes] over Outcome for inputs [rows, steps, features]."""
        ...

    def sides(self, inputs: Singles) -> NDArray[np.int8]:
        """[rows]: 1 to buy, -1 to sell short, 0 to abstain."""
        ...


Learner = Callable[[LearningRows], Forecaster]


@dataclass(frozen=True, slots=True)
class ForecastFigures:
    """Over all tested rows; see the functions of evaluation for each. `accuracy_error` counts a day as one draw; `auc` is of UP
    against DOWN; `coverage` the fraction of rows with a side, `accuracy_covered` how many of those have a return of that sign
    (NaN without any). `sharpe` is of the mean return a session, in ATR after costs; `deflated_sharpe` is NaN without a trade."""

    name: str
    log_loss: float
    brier: float
    calibration_error: float
    auc: float
    accuracy: float
    accuracy_error: float
    coverage: float
    accuracy_covered: float
    sharpe: float
    deflated_sharpe: float


@dataclass(frozen=True, slots=True)
class WalkForwardReport:
    """`trials` is how many models were tried until these were chosen, by which Sharpe ratios are deflated;
    `overfitting_probability` is over the models of `figures`."""

    blocks: int
    rows: int
    sessions: int
    trials: int
    overfitting_probability: float
    figures: tuple[ForecastFigures, ...]


@dataclass(frozen=True, slots=True)
class Judging:
    """`trials` see WalkForwardReport, all models of the table included; `cost_atr` is lost by each trade; the sessions are halved
    in `overfitting_blocks` blocks, see backtest_overfitting."""

    trials: int
    cost_atr: float = 0.0
    overfitting_blocks: int = 16

    def __post_init__(self) -> None:
        if not 0.0 <= self.cost_atr < math.inf:
            raise BadInput(f"judging: cost_atr is {self.cost_atr}, must be 0 or more")


def walk_forward_report(
    rows: LearningRows,
    splits: Sequence[Split],
    learners: Mapping[str, Learner],
    judging: Judging,
    done: Callable[[str, int], None] = lambda _name, _block: None,
) -> WalkForwardReport:
    """Each learner learns from the one side of each split and is judged on the other. `done` is told of each. BadInput for fewer
    than two learners, fewer trials than learners, and as of the functions of evaluation."""
    if len(learners) < 2 or judging.trials < len(learners):
        raise BadInput(f"judging: {len(learners)} learners, two are needed; {judging.trials} trials must count each of them")
    tested = np.concatenate([split.test for split in splits])
    truth = rows.take(np.sort(tested))
    order = np.argsort(tested, kind="stable")
    told: dict[str, tuple[Floats, NDArray[np.int8]]] = {}
    for name, learn in learners.items():
        probabilities, sides = [], []
        for block, split in enumerate(splits):
            forecaster, inputs = learn(rows.take(split.train)), rows.inputs[split.test]
            probabilities.append(forecaster.probabilities(inputs))
            sides.append(forecaster.sides(inputs))
            done(name, block)
        told[name] = np.concatenate(probabilities)[order], np.concatenate(sides)[order]
    returns = np.stack([_session_returns(truth, sides, judging.cost_atr) for _, sides in told.values()], axis=1)
    ratios = [annual_sharpe(column) for column in returns.T]
    deflation = judging.trials, float(np.std(ratios, ddof=1))
    figures = tuple(
        _figures(name, truth, forecast, column, deflation)
        for (name, forecast), column in zip(told.items(), returns.T, strict=True)
    )
    overfitting = backtest_overfitting(returns, judging.overfitting_blocks).probability
    return WalkForwardReport(len(splits), len(truth), len(returns), judging.trials, overfitting, figures)


def _figures(
    name: str,
    truth: LearningRows,
    forecast: tuple[Floats, NDArray[np.int8]],
    returns: Floats,
    deflation: tuple[int, float],
) -> ForecastFigures:
    probabilities, sides = forecast
    outcomes, moved = truth.outcomes, truth.outcomes != Outcome.FLAT
    of_sides = probabilities[moved][:, [Outcome.DOWN, Outcome.UP]]
    up = of_sides[:, 1] / np.maximum(of_sides.sum(axis=1), np.finfo(np.float64).tiny)
    right, taken = accuracy(probabilities, outcomes, truth.starts), sides != 0
    return ForecastFigures(
        name=name,
        log_loss=float(log_losses(probabilities, outcomes).mean()),
        brier=float(brier_scores(probabilities, outcomes).mean()),
        calibration_error=calibration_error(probabilities, outcomes),
        auc=auc(up, outcomes[moved] == Outcome.UP),
        accuracy=right.fraction,
        accuracy_error=right.standard_error,
        coverage=float(taken.mean()),
        accuracy_covered=float((np.sign(truth.targets_atr) == sides)[taken].mean()) if taken.any() else math.nan,
        sharpe=annual_sharpe(returns),
        deflated_sharpe=deflated_sharpe(returns, *deflation),
    )


def _session_returns(truth: LearningRows, sides: NDArray[np.int8], cost_atr: float) -> Floats:
    """The mean of each session's trades [sessions], zero without any."""
    taken = sides != 0
    made = np.where(taken, sides * truth.targets_atr - cost_atr, 0.0)
    _, place = np.unique(truth.starts, return_inverse=True)
    total = np.bincount(place, weights=made)
    mean: Floats = total / np.maximum(np.bincount(place, weights=taken.astype(np.float64)), 1.0)
    return mean
