"""The table is that of plain scores on rows that were not learned from, in whatever order the blocks come."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.planted_edges import PlantedEdge, plant
from finagent.quant.evaluation.scores import brier_scores, climatology, log_losses
from finagent.quant.evaluation.walk_forward import Blocks, walk_forward
from finagent.quant.evaluation.walk_forward_report import Forecaster, Judging, WalkForwardReport, walk_forward_report
from finagent.quant.learning.learning_rows import LearningRows, Singles

WORLD = plant(PlantedEdge(strength=0.5, features=4, sessions=240, symbols=5), seed=8)
ROWS = WORLD.learning_rows()
SPLITS = walk_forward(ROWS.starts, ROWS.ends, Blocks(first_test=80, length=40))
TESTED = np.flatnonzero(ROWS.starts >= 80)


@dataclass(frozen=True)
class Constant:
    rates: Floats

    def probabilities(self, inputs: Singles) -> Floats:
        return np.tile(self.rates, (len(inputs), 1))

    def sides(self, inputs: Singles) -> NDArray[np.int8]:
        return np.zeros(len(inputs), dtype=np.int8)


@dataclass(frozen=True)
class ByTheFirstFeature:
    """It knows two probabilities, and takes a side where the feature is large."""

    sign: float = 1.0

    def probabilities(self, inputs: Singles) -> Floats:
        up = 0.4 + 0.15 * np.sign(self.sign * inputs[:, 0, 0]).astype(np.float64)
        return np.stack([0.8 - up, np.full(len(up), 0.2), up], axis=1)

    def sides(self, inputs: Singles) -> NDArray[np.int8]:
        first = self.sign * inputs[:, 0, 0]
        return np.where(np.abs(first) > 1.0, np.sign(first), 0.0).astype(np.int8)


def base_rates(rows: LearningRows) -> Forecaster:
    return Constant(climatology(rows.outcomes, 3))


def report(cost_atr: float = 0.0, trials: int = 3) -> WalkForwardReport:
    learners = {"base rates": base_rates, "right": lambda _: ByTheFirstFeature(), "wrong": lambda _: ByTheFirstFeature(-1.0)}
    return walk_forward_report(ROWS, SPLITS[::-1], learners, Judging(trials, cost_atr))


def test_figures_are_those_of_the_plain_scores() -> None:
    told = report()
    _, right, wrong = told.figures
    expected, outcomes = ByTheFirstFeature().probabilities(ROWS.inputs[TESTED]), ROWS.outcomes[TESTED]

    assert (told.blocks, told.rows, told.sessions) == (4, 800, 160)
    assert right.log_loss == pytest.approx(log_losses(expected, outcomes).mean())
    assert right.brier == pytest.approx(brier_scores(expected, outcomes).mean())
    assert right.auc == pytest.approx(1.0 - wrong.auc)
    assert right.auc > 0.55
    first = ROWS.inputs[TESTED, 0, 0]
    taken = np.abs(first) > 1.0
    assert right.coverage == pytest.approx(taken.mean())
    assert right.accuracy_covered == pytest.approx((np.sign(first) == np.sign(ROWS.targets_atr[TESTED]))[taken].mean())
    assert right.accuracy_covered > 0.6


def test_who_never_trades_has_no_sharpe_and_costs_lower_that_of_who_does() -> None:
    base, right, wrong = report().figures
    assert (base.coverage, base.sharpe) == (0.0, 0.0)
    assert math.isnan(base.accuracy_covered)
    assert math.isnan(base.deflated_sharpe)
    assert right.sharpe == pytest.approx(-wrong.sharpe)
    dear = report(cost_atr=0.2).figures
    assert dear[1].sharpe < right.sharpe
    assert dear[2].sharpe < wrong.sharpe, "both sides pay"
    assert report(trials=1000).figures[1].deflated_sharpe <= right.deflated_sharpe


def test_nobody_is_judged_on_what_it_learned_from() -> None:
    seen: list[tuple[int, int]] = []

    def learn(rows: LearningRows) -> Forecaster:
        seen.append((int(rows.ends.max()), len(rows)))
        return base_rates(rows)

    walk_forward_report(ROWS, SPLITS, {"one": learn, "other": base_rates}, Judging(2))
    assert [last for last, _ in seen] == [74, 114, 154, 194]


def test_trials_that_are_not_counted_are_refused() -> None:
    with pytest.raises(BadInput, match="2 trials must count each"):
        report(trials=2)
    with pytest.raises(BadInput, match="1 learners"):
        walk_forward_report(ROWS, SPLITS, {"one": base_rates}, Judging(5))
    with pytest.raises(BadInput, match="cost_atr"):
        Judging(3, float("nan"))
