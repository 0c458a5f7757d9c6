"""Models side by side, walking forward over the same rows: what each is worth on days it has not seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import abstains, fit_conformal
from finagent.quant.evaluation.calibration import calibration_error
from finagent.quant.evaluation.labels import Outcome, day_weights
from finagent.quant.evaluation.overfitting import backtest_overfitting, deflated_sharpe
from finagent.quant.evaluation.scores import accuracy, brier_scores, log_losses
from finagent.quant.evaluation.sharpe import annual_sharpe, session_returns
from finagent.quant.evaluation.walk_forward import Split
from finagent.quant.features.backtest_alarms import SHARPE_MAX
from finagent.quant.specialists.experiment import Experiment, State
from finagent.quant.specialists.training_rows import Single, TrainingRows

CLIMATOLOGY, LOGISTIC, BOOSTING = "climatology", "logistic", "boosting"
OVERFITTING_BLOCKS = (16, 8, 4, 2)
TOLD = "told"


class Learner(Experiment, Protocol):
    """An experiment that can be asked once it is finished."""

    def probabilities(self, values: Single) -> Floats:
        """[rows, classes] of values [rows, steps, features]."""
        ...


class Trial:
    """A learner on what was known before a block, and what it says of the block once it has ended: that alone is kept of it."""

    def __init__(self, rows: TrainingRows, split: Split, make: Callable[[TrainingRows], Learner]) -> None:
        self._test = rows.take(split.test)
        self._learner = make(rows.take(split.train))
        self.told: Floats | None = None

    @property
    def epochs(self) -> int:
        return self._learner.epochs

    @property
    def finished(self) -> bool:
        return self.told is not None

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        figures = dict(self._learner.run_epoch(epoch))
        if self._learner.finished:
            self.told = self._learner.probabilities(self._test.values)
            weight = day_weights(self._test.days)
            figures["test_log_loss"] = float(np.average(log_losses(self.told, self._test.outcome), weights=weight))
            figures["test_brier"] = float(np.average(brier_scores(self.told, self._test.outcome), weights=weight))
        return figures

    def state(self) -> State:
        return self._learner.state() if self.told is None else {TOLD: self.told}

    def restore(self, state: State) -> None:
        if TOLD not in state:
            self._learner.restore(state)
        elif len(state[TOLD]) != len(self._test.days):
            raise BadInput(f"trial: this state is one of {len(state[TOLD])} tested rows, not of {len(self._test.days)}")
        else:
            self.told = np.asarray(state[TOLD])


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Over all tested rows. `coverage` the fraction with one side only (conformal sets of the half before the last), `accuracy`
    of everything and `accuracy_covered` of those; `returns` [sessions of the later half] of trading the likelier side, a mean of
    the rows that are not abstained from."""

    name: str
    log_loss: float
    brier: float
    accuracy: float
    calibration_error: float
    coverage: float
    accuracy_covered: float
    sharpe: float
    deflated_sharpe: float
    returns: Floats


@dataclass(frozen=True, slots=True)
class TrialReport:
    """`overfitting_probability` over all trials with a strategy; `trial_deviation` of their annual Sharpe ratios."""

    results: tuple[TrialResult, ...]
    rows: int
    sessions: int
    overfitting_probability: float
    trial_deviation: float

    def result(self, name: str) -> TrialResult:
        return next(each for each in self.results if each.name == name)

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is too good to be true of it: look for a leak, and for what the rows leave out, before anything else."""
        return tuple(
            f"{each.name}: the Sharpe ratio is {each.sharpe:.2f}, above {SHARPE_MAX:g}"
            for each in self.results
            if each.sharpe > SHARPE_MAX
        )


def trial_report(
    rows: TrainingRows, tested: NDArray[np.intp], told: Mapping[str, Floats], long_return: Floats, miss_fraction: float
) -> TrialReport:
    """`told` by each model of the tested rows [tested, classes]; `long_return` [rows] of a trade that buys, as a fraction."""
    returns = {name: _returns(rows, tested, told[name], long_return, miss_fraction) for name in told if name != CLIMATOLOGY}
    deviation = float(np.std([annual_sharpe(each) for each in returns.values()], ddof=1))
    results = tuple(
        _result(name, rows, tested, told[name], returns.get(name), len(returns), deviation, miss_fraction) for name in told
    )
    sessions = len(np.unique(rows.days[tested]))
    return TrialReport(results, len(tested), sessions, _overfitting(list(returns.values())), deviation)


def _covered(told: Floats, outcome: NDArray[np.int64], miss_fraction: float) -> NDArray[np.bool_]:
    """[rows of the later half]: with one side only, by sets fitted on the earlier half: as whoever trades could know them."""
    half = len(outcome) // 2
    sets = fit_conformal(told[:half], outcome[:half], miss_fraction).sets(told[half:])
    return ~abstains(sets)


def _returns(rows: TrainingRows, tested: NDArray[np.intp], told: Floats, long_return: Floats, miss_fraction: float) -> Floats:
    """Of sessions in which it could have traded: those before would only thin out a Sharpe ratio."""
    later = slice(len(tested) // 2, None)
    side = np.sign(told[later, Outcome.UP] - told[later, Outcome.DOWN])
    covered = _covered(told, rows.outcome[tested], miss_fraction)
    return session_returns(rows.days[tested[later]], side * long_return[tested[later]], covered)


def _result(
    name: str,
    rows: TrainingRows,
    tested: NDArray[np.intp],
    told: Floats,
    returns: Floats | None,
    trials: int,
    deviation: float,
    miss_fraction: float,
) -> TrialResult:
    outcome, half = rows.outcome[tested], len(tested) // 2
    covered = _covered(told, outcome, miss_fraction)
    right = told.argmax(axis=1) == outcome
    weight = day_weights(rows.days[tested])
    return TrialResult(
        name=name,
        log_loss=float(np.average(log_losses(told, outcome), weights=weight)),
        brier=float(np.average(brier_scores(told, outcome), weights=weight)),
        accuracy=accuracy(told, outcome).fraction,
        calibration_error=calibration_error(told, outcome),
        coverage=float(covered.mean()),
        accuracy_covered=float(right[half:][covered].mean()) if covered.any() else float("nan"),
        sharpe=annual_sharpe(returns) if returns is not None else 0.0,
        deflated_sharpe=deflated_sharpe(returns, trials, deviation) if returns is not None else float("nan"),
        returns=returns if returns is not None else np.zeros(0),
    )


def _overfitting(returns: list[Floats]) -> float:
    """With as many blocks as the sessions allow; NaN for too few."""
    table = np.stack(returns, axis=1)
    for blocks in OVERFITTING_BLOCKS:
        try:
            return backtest_overfitting(table, blocks).probability
        except BadInput:
            continue
    return float("nan")
