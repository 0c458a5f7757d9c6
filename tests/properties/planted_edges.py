"""Planted edges at length: every network beside the oracle, boosting and knowing nothing; nothing planted, many times, where one
side is rare; shuffled labels; a planted leak.

`python -m tests.properties.planted_edges DAYS` prints the figures as JSON; it ends with 1 where a promise is not kept.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from finagent.domain.bars import Floats
from finagent.quant.evaluation.abstention import abstains
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.scores import auc
from finagent.quant.features.backtest_alarms import Backtest
from finagent.quant.features.backtest_alarms import figures as backtest_figures
from finagent.quant.features.lookahead import Columns, decision_rows, find_leaks
from finagent.quant.specialists.networks import NETWORKS
from finagent.quant.specialists.planted_edges import Edge, PlantedRows, plant, with_leak
from finagent.quant.specialists.training import Recipe, SpecialistTraining, TrainedSpecialist
from finagent.quant.specialists.training_rows import Single, TrainingRows

A_DAY, HONEST = 20, 20  # rows of a day, and features of a row but for one that leaks
PLANTED = ((Edge.LINEAR, 0.3), (Edge.INTERACTION, 0.6), (Edge.NONE, 0.0))
EXCESS_KEPT_MIN, COVERAGE_MIN, COVERAGE_OF_NOTHING_MAX = 0.9, 0.2, 0.05
FLAT_LIKELIEST, NULLS, NULL_DAYS = 0.3, 60, 300  # a side is the rarest class: the first that a conformal set rules out
SHUFFLED_AUC_MIN, SHUFFLED_AUC_MAX = 0.47, 0.53
RECIPE = Recipe("flat", seeds=(1, 2, 3))


@dataclass(frozen=True)
class Figures:
    """Of one network on one edge; `kept` of the oracle's gain over the base rate."""

    edge: str
    strength: float
    network: str
    skill: float
    accuracy: float
    oracle: float
    base_rate: float
    boosting: float
    kept: float
    coverage: float
    held: bool


@dataclass(frozen=True)
class LeakFigures:
    """What the detector says of the features, and the alarms of what was learned from them."""

    leak: bool
    detector: tuple[str, ...]
    alarms: tuple[str, ...]
    held: bool


def values_of(planted: PlantedRows) -> Single:
    return planted.features.astype(np.float32)[:, np.newaxis, :]


def rows_of(planted: PlantedRows) -> TrainingRows:
    target = planted.outcome.astype(np.float64) - 1.0
    return TrainingRows(values_of(planted), planted.outcome, target, planted.days, np.ones(len(target)))


def learned(rows: TrainingRows, recipe: Recipe = RECIPE) -> TrainedSpecialist:
    training, epoch = SpecialistTraining(rows, recipe), 0
    while not training.finished:
        training.run_epoch(epoch)
        epoch += 1
    return training.trained()


def figures(edge: Edge, strength: float, recipe: Recipe, days: int) -> Figures:
    known, unseen = (plant(edge, strength, seed, days=days, rows_a_day=A_DAY) for seed in (1, 2))
    model = learned(rows_of(known), recipe)
    told = model.probabilities(values_of(unseen))
    accuracy = float((told.argmax(axis=1) == unseen.outcome).mean())
    boosting = HistGradientBoostingClassifier(random_state=0).fit(known.features, known.outcome)
    peer = float(boosting.score(unseen.features, unseen.outcome))
    assert model.conformal is not None
    coverage = float((~abstains(model.conformal.sets(told))).mean())
    gain = unseen.oracle_accuracy - unseen.base_rate
    kept = (accuracy - unseen.base_rate) / gain if edge is not Edge.NONE else 0.0
    error = np.sqrt(unseen.base_rate * (1.0 - unseen.base_rate) / len(told))
    held = {
        Edge.LINEAR: kept >= EXCESS_KEPT_MIN and coverage >= COVERAGE_MIN,
        Edge.INTERACTION: accuracy >= peer and coverage >= COVERAGE_MIN,
        Edge.NONE: coverage <= COVERAGE_OF_NOTHING_MAX and abs(accuracy - unseen.base_rate) <= 2.0 * error,
    }[edge]
    return Figures(
        edge=edge.value,
        strength=strength,
        network=recipe.network,
        skill=model.skill,
        accuracy=accuracy,
        oracle=unseen.oracle_accuracy,
        base_rate=unseen.base_rate,
        boosting=peer,
        kept=kept,
        coverage=coverage,
        held=bool(held),
    )


def coverage_of_nothing(days: int, count: int, recipe: Recipe = RECIPE) -> float:
    """Mean of so many worlds in which nothing was planted."""
    found = []
    for seed in range(count):
        known, unseen = (
            plant(Edge.NONE, 0.0, each, days=days, rows_a_day=5, flat_logit=FLAT_LIKELIEST) for each in (1000 + seed, 2000 + seed)
        )
        model = learned(rows_of(known), recipe)
        assert model.conformal is not None
        found.append(float((~abstains(model.conformal.sets(model.probabilities(values_of(unseen))))).mean()))
    return float(np.mean(found))


def shuffled(planted: PlantedRows, seed: int) -> PlantedRows:
    return replace(planted, outcome=np.random.Generator(np.random.Philox(key=seed)).permutation(planted.outcome))


def shuffled_auc(days: int, seed: int) -> float:
    """Of UP, by the networks alone: after calibration all rows are told nearly the same. All labels are in any order, tested ones
    too: a true edge would favour, or punish, whatever direction was learned by chance."""
    known, unseen = (shuffled(plant(Edge.LINEAR, 0.6, each, days=days, rows_a_day=A_DAY), each) for each in (seed, seed + 100))
    logits = learned(rows_of(known)).logits(values_of(unseen))
    return auc(logits[:, Outcome.UP] - logits[:, Outcome.DOWN], unseen.outcome == Outcome.UP)


def leak_figures(days: int, *, leak: bool) -> LeakFigures:
    """In a world without an edge, with a feature that is made of the outcome, or without one."""
    known, unseen = (plant(Edge.NONE, 0.0, seed, days=days, rows_a_day=A_DAY) for seed in (1, 2))
    if leak:
        known, unseen = with_leak(known, 5), with_leak(unseen, 6)
    told = learned(rows_of(known)).probabilities(values_of(unseen))
    moves = unseen.outcome - 1.0 + 0.5 * np.random.Generator(np.random.Philox(key=7)).normal(size=len(told))
    shape = (days, A_DAY)
    sessions = tuple(date(2015, 1, 1) + timedelta(days=place) for place in range(days))
    side = np.sign(told[:, Outcome.UP] - told[:, Outcome.DOWN])
    alarms = backtest_figures(Backtest(sessions, side.reshape(shape), 0.01 * moves.reshape(shape), 0.0)).alarms()
    detector = leaks_of(unseen, days)
    return LeakFigures(leak, detector, alarms, bool(alarms) is leak and bool(detector) is leak)


def leaks_of(planted: PlantedRows, days: int) -> tuple[str, ...]:
    """By replacing what is not known at a decision: the outcomes from its day on, and the features of later days."""
    features = planted.features.shape[1]
    columns = {f"f{place}": planted.features[:, place].reshape(days, A_DAY) for place in range(HONEST)}
    columns["outcome"] = planted.outcome.reshape(days, A_DAY).astype(np.float64)
    blur = planted.features[:, HONEST:].reshape(days, A_DAY, features - HONEST) - columns["outcome"][:, :, np.newaxis]

    def compute(given: Columns) -> Floats:
        inputs = [given[f"f{place}"] for place in range(HONEST)]
        made = [given["outcome"] + blur[:, :, place] for place in range(features - HONEST)]
        return np.stack(inputs + made, axis=2)

    names = [f"f{place}" for place in range(HONEST)] + ["leak"] * (features - HONEST)
    rows = decision_rows(columns, first=10, count=8)
    return tuple(map(str, find_leaks(compute, columns, names, rows, frozenset(columns) - {"outcome"})))


def main(days: int) -> int:
    torch.set_num_threads(1)
    edges = [figures(*planted, replace(RECIPE, network=network), days) for planted in PLANTED for network in NETWORKS]
    aucs = [shuffled_auc(days, seed) for seed in (1, 2, 3)]
    leaks = [leak_figures(days, leak=leak) for leak in (True, False)]
    nothing = coverage_of_nothing(NULL_DAYS, NULLS)
    told = {"shuffled_auc": aucs, "leaks": [asdict(each) for each in leaks], "coverage_of_nothing": nothing, "nulls": NULLS}
    print(json.dumps({"edges": [asdict(each) for each in edges], **told}, indent=2))
    honest = all(SHUFFLED_AUC_MIN <= each <= SHUFFLED_AUC_MAX for each in aucs) and nothing <= COVERAGE_OF_NOTHING_MAX
    return int(not (honest and all(each.held for each in edges) and all(each.held for each in leaks)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
