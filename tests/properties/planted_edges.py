"""Planted edges at length: every network beside the oracle, boosting and knowing nothing.

`python -m tests.properties.planted_edges DAYS` prints the figures as JSON; it ends with 1 where a promise is not kept.
"""

import json
import sys
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from finagent.quant.evaluation.abstention import abstains
from finagent.quant.specialists.networks import NETWORKS
from finagent.quant.specialists.planted_edges import Edge, PlantedRows, plant
from finagent.quant.specialists.training import Recipe, SpecialistTraining, TrainedSpecialist
from finagent.quant.specialists.training_rows import TrainingRows

A_DAY = 20
PLANTED = ((Edge.LINEAR, 0.3), (Edge.INTERACTION, 0.6), (Edge.NONE, 0.0))
EXCESS_KEPT_MIN, COVERAGE_MIN, COVERAGE_OF_NOTHING_MAX = 0.9, 0.2, 0.05


@dataclass(frozen=True)
class Figures:
    """Of one network on one edge; `kept` of the oracle's gain over the base rate."""

    edge: str
    strength: float
    network: str
    accuracy: float
    oracle: float
    base_rate: float
    boosting: float
    kept: float
    coverage: float
    held: bool


def learn(planted: PlantedRows, network: str) -> TrainedSpecialist:
    values = planted.features.astype(np.float32)[:, np.newaxis, :]
    rows = TrainingRows(
        values, planted.outcome, np.asarray(planted.outcome, dtype=np.float64) - 1.0, planted.days, np.ones(len(values))
    )
    training, epoch = SpecialistTraining(rows, Recipe(network, seeds=(1, 2, 3))), 0
    while not training.finished:
        training.run_epoch(epoch)
        epoch += 1
    return training.trained()


def figures(edge: Edge, strength: float, network: str, days: int) -> Figures:
    known, unseen = (plant(edge, strength, seed, days=days, rows_a_day=A_DAY) for seed in (1, 2))
    model = learn(known, network)
    told = model.probabilities(unseen.features.astype(np.float32)[:, np.newaxis, :])
    accuracy = float((told.argmax(axis=1) == unseen.outcome).mean())
    boosting = HistGradientBoostingClassifier(random_state=0).fit(known.features, known.outcome)
    peer = float(boosting.score(unseen.features, unseen.outcome))
    coverage = float((~abstains(model.conformal.sets(told))).mean())
    gain = unseen.oracle_accuracy - unseen.base_rate
    kept = (accuracy - unseen.base_rate) / gain if edge is not Edge.NONE else 0.0
    error = np.sqrt(unseen.base_rate * (1.0 - unseen.base_rate) / len(told))
    held = {
        Edge.LINEAR: kept >= EXCESS_KEPT_MIN,
        Edge.INTERACTION: accuracy >= peer and coverage >= COVERAGE_MIN,
        Edge.NONE: coverage <= COVERAGE_OF_NOTHING_MAX and abs(accuracy - unseen.base_rate) <= 2.0 * error,
    }[edge]
    return Figures(
        edge.value, strength, network, accuracy, unseen.oracle_accuracy, unseen.base_rate, peer, kept, coverage, bool(held)
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = [figures(edge, strength, network, int(sys.argv[1])) for edge, strength in PLANTED for network in NETWORKS]
    print(json.dumps([asdict(each) for each in found], indent=2))
    sys.exit(int(not all(each.held for each in found)))
