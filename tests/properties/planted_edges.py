"""What specialists recover of planted edges, beside the oracle and gradient boosting: `python -m tests.properties.planted_edges`.

Prints every figure and which promises held; exit 3 when one did not.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta

import numpy as np

from finagent.domain.bars import Floats
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.planted_edges import Edge, PlantedEdge, PlantedWorld, plant
from finagent.quant.evaluation.scores import accuracy, auc, log_losses
from finagent.quant.features.backtest_alarms import Backtest, figures
from finagent.quant.features.cross_section import ranks
from finagent.quant.features.lookahead import decision_rows, find_leaks
from finagent.quant.learning.learning_rows import LearningRows
from finagent.quant.specialists.baselines import learn_boosting
from finagent.quant.specialists.training import specialist_learner
from finagent.quant.specialists.training_plan import Architecture, TrainingPlan

SHARE_MIN, COVERAGE_MIN, COVERAGE_OF_NOTHING_MAX, ERRORS_MAX = 0.9, 0.2, 0.05, 2.0
AUC_SHUFFLED = (0.47, 0.53)
RUNGS = ((Edge.LINEAR, 0.3), (Edge.INTERACTION, 0.6), (Edge.LINEAR, 0.0))


@dataclass(frozen=True)
class Scale:
    """How much is learned from and tested on: sessions of each, for each seed; `others` are the seeds of the other networks."""

    learned: int
    tested: int
    seeds: Sequence[int]
    others: Sequence[int]
    plan: TrainingPlan


LARGE = Scale(800, 1500, (1, 2, 3), (1,), TrainingPlan(members=3))


@dataclass(frozen=True)
class Rung:
    """`share` of the oracle's expected excess accuracy over the base rate, NaN where there is none; `networks_accuracy` is that
    of the ensemble as it is, whether or not it has skill."""

    architecture: str
    edge: str
    strength: float
    seed: int
    has_skill: bool
    share: float
    boosting_share: float
    log_loss: float
    boosting_log_loss: float
    oracle_log_loss: float
    accuracy: float
    networks_accuracy: float
    accuracy_error: float
    oracle_accuracy: float
    base_rate: float
    coverage: float
    accuracy_covered: float


def world_of(edge: Edge, strength: float, scale: Scale, seed: int, *, leak: bool = False) -> tuple[PlantedWorld, int]:
    """And how many of its rows are learned from."""
    planted = PlantedEdge(edge, strength, sessions=scale.learned + scale.tested, leak=leak)
    return plant(planted, seed), scale.learned * planted.symbols


def climb(edge: Edge, strength: float, scale: Scale, seed: int, architecture: Architecture) -> Rung:
    world, first = world_of(edge, strength, scale, seed)
    rows, oracle = world.learning_rows(), world.probabilities[first:]
    train, test = rows.take(np.arange(first)), rows.take(np.arange(first, len(rows)))
    specialist = specialist_learner(replace(scale.plan, architecture=architecture, seed=seed))(train)
    boosting = learn_boosting(train).probabilities(test.inputs)
    told, sides = specialist.probabilities(test.inputs), specialist.sides(test.inputs)
    base = float(oracle.mean(axis=0).max())

    def expected(probabilities: Floats) -> float:
        return float(oracle[np.arange(len(oracle)), probabilities.argmax(axis=1)].mean())

    def share(probabilities: Floats) -> float:
        return (expected(probabilities) - base) / (expected(oracle) - base) if strength else float("nan")

    right = accuracy(told, test.outcomes)
    return Rung(
        architecture=architecture.value,
        edge=edge.value,
        strength=strength,
        seed=seed,
        has_skill=specialist.has_skill,
        share=share(told),
        boosting_share=share(boosting),
        log_loss=float(log_losses(told, test.outcomes).mean()),
        boosting_log_loss=float(log_losses(boosting, test.outcomes).mean()),
        oracle_log_loss=float(log_losses(oracle, test.outcomes).mean()),
        accuracy=right.fraction,
        networks_accuracy=accuracy(np.exp(specialist.logits(test.inputs)), test.outcomes).fraction,
        accuracy_error=right.standard_error,
        oracle_accuracy=accuracy(oracle, test.outcomes).fraction,
        base_rate=base,
        coverage=float((sides != 0).mean()),
        accuracy_covered=float((np.sign(test.targets_atr) == sides)[sides != 0].mean()) if sides.any() else float("nan"),
    )


def shuffled(rows: LearningRows, seed: int) -> LearningRows:
    """With the labels of other rows."""
    mixed = np.random.Generator(np.random.Philox(key=seed)).permutation(len(rows))
    return replace(rows, outcomes=rows.outcomes[mixed], targets_atr=rows.targets_atr[mixed])


def shuffled_auc(scale: Scale, seed: int) -> float:
    """Of UP against DOWN, by networks that learned from a world with a linear edge of 0.3 whose labels are in any order, before
    and after the split: a true edge would favour or punish whatever direction they learned by chance."""
    world, first = world_of(Edge.LINEAR, 0.3, scale, seed)
    rows = shuffled(world.learning_rows(), seed)
    train, test = rows.take(np.arange(first)), rows.take(np.arange(first, len(rows)))
    logits = specialist_learner(replace(scale.plan, seed=seed))(train).logits(test.inputs)
    moved = test.outcomes != Outcome.FLAT
    return auc((logits[:, Outcome.UP] - logits[:, Outcome.DOWN])[moved], test.outcomes[moved] == Outcome.UP)


@dataclass(frozen=True)
class LeakFound:
    """By the detector, in the features; and by the alarms, in what a specialist that learned from them would have earned."""

    leak: bool
    detector: tuple[str, ...]
    alarms: tuple[str, ...]


def look_for_leak(scale: Scale, seed: int, *, leak: bool) -> LeakFound:
    """In a world without an edge. The alarms judge the side of the likelier barrier, whether or not the specialist abstains."""
    world, first = world_of(Edge.LINEAR, 0.0, scale, seed, leak=leak)
    rows = decision_rows(world.columns, first=10, count=8)
    leaks = find_leaks(world.features, world.columns, world.feature_names, rows, world.known)
    learning = world.learning_rows()
    specialist = specialist_learner(replace(scale.plan, seed=seed))(learning.take(np.arange(first)))
    test = learning.inputs[first:]
    logits = specialist.logits(test)
    edge = logits[:, Outcome.UP] - logits[:, Outcome.DOWN]
    returns = world.returns_atr[scale.learned :]
    of_noise = specialist_learner(replace(scale.plan, seed=seed))(shuffled(learning.take(np.arange(first)), seed)).logits(test)
    skill = np.corrcoef(ranks(of_noise[:, Outcome.UP] - of_noise[:, Outcome.DOWN]), ranks(returns.reshape(-1)))[0, 1]
    days = tuple(date(2015, 1, 1) + timedelta(days=place) for place in range(scale.tested))
    backtest = Backtest(days, np.sign(edge).reshape(returns.shape), returns, float(skill))
    return LeakFound(leak, tuple(map(str, leaks)), figures(backtest).alarms())


def promises(rungs: Sequence[Rung], aucs: Sequence[float], leaks: Sequence[LeakFound]) -> dict[str, bool]:
    """Which of them held, by name."""
    linear, interaction = ([rung for rung in rungs if (rung.edge, rung.strength) == (e.value, s)] for e, s in RUNGS[:2])
    nothing = [rung for rung in rungs if rung.strength == 0.0]
    error = float(np.sqrt(np.mean(np.square([rung.accuracy_error for rung in nothing])) / len(nothing)))

    def near(found: list[float]) -> bool:
        return abs(float(np.mean(found)) - nothing[0].base_rate) <= ERRORS_MAX * error

    return {
        "linear 0.3: 90 % of the oracle's excess accuracy": all(rung.share >= SHARE_MIN for rung in linear),
        "interaction 0.6: accuracy as that of boosting": all(rung.share >= rung.boosting_share for rung in interaction),
        "interaction 0.6: log-loss as that of boosting": all(rung.log_loss <= rung.boosting_log_loss for rung in interaction),
        "both: coverage of 20 %": all(rung.coverage >= COVERAGE_MIN for rung in (*linear, *interaction)),
        "nothing: coverage of 5 % at most": float(np.mean([rung.coverage for rung in nothing])) <= COVERAGE_OF_NOTHING_MAX,
        "nothing: accuracy is the base rate": near([rung.accuracy for rung in nothing]),
        "nothing: accuracy of the networks is the base rate": near([rung.networks_accuracy for rung in nothing]),
        "shuffled labels: AUC within 0.47 and 0.53": all(AUC_SHUFFLED[0] <= each <= AUC_SHUFFLED[1] for each in aucs),
        "a leak: the detector fires": all(bool(found.detector) is found.leak for found in leaks),
        "a leak: the alarms fire": all(bool(found.alarms) is found.leak for found in leaks),
    }


def run(scale: Scale) -> tuple[dict[str, bool], dict[str, object]]:
    """The promises and the figures."""
    tried = [(Architecture.MLP, seed) for seed in scale.seeds]
    tried += [(each, seed) for each in Architecture if each is not Architecture.MLP for seed in scale.others]
    rungs = [climb(*rung, scale, seed, architecture) for rung in RUNGS for architecture, seed in tried]
    aucs = [shuffled_auc(scale, seed) for seed in scale.seeds]
    leaks = [look_for_leak(scale, scale.seeds[0], leak=leak) for leak in (True, False)]
    plain = [{name: None if value != value else value for name, value in asdict(rung).items()} for rung in rungs]  # no NaN
    told: dict[str, object] = {"rungs": plain, "shuffled_auc": aucs, "leaks": [asdict(each) for each in leaks]}
    return promises(rungs, aucs, leaks), told


def main() -> int:
    held, told = run(LARGE)
    print(json.dumps({"promises": held} | told, indent=1))
    return 0 if all(held.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
