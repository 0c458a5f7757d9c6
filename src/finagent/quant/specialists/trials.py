"""Networks and plain models side by side, walking forward over the same rows: what each is worth on days it has not seen.

Needs torch and scikit-learn (`pip install "finagent[models]"`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import abstains, fit_conformal
from finagent.quant.evaluation.calibration import calibration_error
from finagent.quant.evaluation.labels import CLASSES, day_weights
from finagent.quant.evaluation.overfitting import backtest_overfitting, deflated_sharpe
from finagent.quant.evaluation.scores import accuracy, brier_scores, log_losses
from finagent.quant.evaluation.sharpe import annual_sharpe
from finagent.quant.evaluation.walk_forward import Blocks, Split, walk_forward
from finagent.quant.specialists.networks import NETWORKS
from finagent.quant.specialists.training import Recipe, Scaling, SpecialistTraining, TrainingRows, scaling_of

CLIMATOLOGY, LOGISTIC, BOOSTING = "climatology", "logistic", "boosting"
OVERFITTING_BLOCKS = (16, 8, 4, 2)
Probabilities = Callable[[TrainingRows, NDArray[np.float32]], Floats]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Over all tested rows. `coverage` the fraction with one side only (conformal sets of the half before the last), `accuracy`
    of everything and `accuracy_covered` of those; `returns` [sessions] of trading the likelier side, a mean of the rows that are
    not abstained from."""

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


def run_trials(
    rows: TrainingRows, long_return: Floats, recipe: Recipe, blocks: Blocks, done: Callable[[str], None] = lambda _: None
) -> TrialReport:
    """All of NETWORKS and three plain models by the same purged walk-forward. `long_return` [rows] of a trade that buys, as a
    fraction; a label lasts for its day. `done` is told each model and block."""
    splits = walk_forward(rows.days, rows.days, blocks)
    makers: dict[str, Probabilities] = {
        CLIMATOLOGY: _climatology,
        LOGISTIC: _plain(lambda: LogisticRegression(C=0.1, max_iter=500)),
        BOOSTING: _plain(lambda: HistGradientBoostingClassifier(max_iter=100, learning_rate=0.05, random_state=0)),
    } | {name: _network(replace(recipe, network=name)) for name in NETWORKS}
    told = {name: _walked(rows, splits, maker, name, done) for name, maker in makers.items()}
    tested = np.concatenate([split.test for split in splits])
    returns = {
        name: _returns(rows, tested, told[name], long_return, recipe.miss_fraction) for name in makers if name != CLIMATOLOGY
    }
    ratios = [annual_sharpe(each) for each in returns.values()]
    deviation = float(np.std(ratios, ddof=1))
    results = tuple(
        _result(name, rows, tested, told[name], returns.get(name), len(returns), deviation, recipe.miss_fraction)
        for name in makers
    )
    sessions = len(np.unique(rows.days[tested]))
    return TrialReport(results, len(tested), sessions, _overfitting(list(returns.values())), deviation)


def _walked(rows: TrainingRows, splits: Sequence[Split], maker: Probabilities, name: str, done: Callable[[str], None]) -> Floats:
    found = []
    for split in splits:
        known = TrainingRows(
            *(getattr(rows, field)[split.train] for field in ("values", "outcome", "target_atr", "days", "weight"))
        )
        found.append(maker(known, rows.values[split.test]))
        done(name)
    return np.concatenate(found)


def _climatology(known: TrainingRows, values: NDArray[np.float32]) -> Floats:
    weights = np.bincount(known.outcome, weights=known.weight, minlength=CLASSES)
    return np.tile(weights / weights.sum(), (len(values), 1))


def _plain(make: Callable[[], LogisticRegression | HistGradientBoostingClassifier]) -> Probabilities:
    def probabilities(known: TrainingRows, values: NDArray[np.float32]) -> Floats:
        scaling: Scaling = scaling_of(known.values)
        flat = scaling.applied(known.values).reshape(len(known.values), -1)
        model = make().fit(flat, known.outcome, sample_weight=known.weight)
        found = np.zeros((len(values), CLASSES))
        found[:, model.classes_] = model.predict_proba(scaling.applied(values).reshape(len(values), -1))
        return found

    return probabilities


def _network(recipe: Recipe) -> Probabilities:
    def probabilities(known: TrainingRows, values: NDArray[np.float32]) -> Floats:
        training, epoch = SpecialistTraining(known, recipe), 0
        while not training.finished:
            training.run_epoch(epoch)
            epoch += 1
        return training.trained().probabilities(values)

    return probabilities


def _covered(told: Floats, outcome: NDArray[np.int64], miss_fraction: float) -> NDArray[np.bool_]:
    """Rows of the later half with one side only, by sets fitted on the earlier half: as whoever trades could know them."""
    half = len(outcome) // 2
    sets = fit_conformal(told[:half], outcome[:half], miss_fraction).sets(told)
    covered = ~abstains(sets)
    covered[:half] = False
    return covered


def _returns(rows: TrainingRows, tested: NDArray[np.intp], told: Floats, long_return: Floats, miss_fraction: float) -> Floats:
    side = np.sign(told[:, 2] - told[:, 0])
    traded = _covered(told, rows.outcome[tested], miss_fraction)
    days, place = np.unique(rows.days[tested], return_inverse=True)
    count = np.bincount(place[traded], minlength=len(days))
    total = np.bincount(place[traded], weights=(side * long_return[tested])[traded], minlength=len(days))
    return np.divide(total, count, out=np.zeros(len(days)), where=count > 0)


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
        coverage=float(covered[half:].mean()),
        accuracy_covered=float(right[covered].mean()) if covered.any() else float("nan"),
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
