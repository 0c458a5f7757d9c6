"""What was planted is found, what was not is not, and a training that is stopped goes on as if nothing had been."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.properties.planted_edges import (
    A_DAY,
    PLANTED,
    SHUFFLED_AUC_MAX,
    SHUFFLED_AUC_MIN,
    figures,
    leak_figures,
    learned,
    rows_of,
    shuffled,
    shuffled_auc,
    values_of,
)

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.scores import auc
from finagent.quant.evaluation.walk_forward import Blocks, Split, walk_forward
from finagent.quant.specialists.networks import NETWORKS, CausalBlock, specialist
from finagent.quant.specialists.plain import PLAIN, PlainTraining
from finagent.quant.specialists.planted_edges import Edge, plant
from finagent.quant.specialists.training import Recipe, SpecialistTraining
from finagent.quant.specialists.training_rows import DEVIATIONS_MAX, TrainingRows
from finagent.quant.specialists.trials import BOOSTING, CLIMATOLOGY, LOGISTIC, Learner, Trial, trial_report

RECIPE = Recipe("flat", seeds=(1, 2), learning_rate=3e-3)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TRIED = [("flat", *each) for each in PLANTED] + [("recurrent", Edge.NONE, 0.0), ("convolutional", Edge.INTERACTION, 0.6)]


@pytest.mark.parametrize(("network", "edge", "strength"), TRIED)
def test_what_was_planted_is_found_and_what_was_not_is_not(network: str, edge: Edge, strength: float) -> None:
    """Nine tenths of what an oracle gains from a line, as much of an interaction as boosting finds, and nothing in nothing. All
    networks on all edges: `make proof ONLY=planted-edges`."""
    found = figures(edge, strength, replace(RECIPE, network=network), days=300)
    assert found.held, found


def test_shuffled_labels_teach_nothing() -> None:
    assert SHUFFLED_AUC_MIN <= shuffled_auc(days=400, seed=1) <= SHUFFLED_AUC_MAX


@pytest.mark.parametrize("leak", [True, False])
def test_walking_forward_over_shuffled_labels_finds_them_only_where_tested_rows_are_learned_from(leak: bool) -> None:
    """Of boosting, which remembers what it has seen."""
    rows = rows_of(shuffled(plant(Edge.LINEAR, 0.6, 1, days=200, rows_a_day=A_DAY), 1))
    told, tested = [], []
    for split in walk_forward(rows.days, rows.days, Blocks(100, 50, 2)):
        known = Split(np.concatenate((split.train, split.test)), split.test) if leak else split
        trial = Trial(rows, known, lambda some: PlainTraining(some, BOOSTING))
        told.append(walked(trial))
        tested.append(split.test)
    scores = np.concatenate(told)
    found = auc(scores[:, Outcome.UP] - scores[:, Outcome.DOWN], rows.outcome[np.concatenate(tested)] == Outcome.UP)
    assert (SHUFFLED_AUC_MIN <= found <= SHUFFLED_AUC_MAX) is not leak


@pytest.mark.parametrize("leak", [True, False])
def test_a_planted_leak_is_named_and_rings_and_nothing_else_does(leak: bool) -> None:
    found = leak_figures(days=200, leak=leak)
    assert found.held, found


def test_who_knows_nothing_says_how_often_each_class_happens() -> None:
    planted = plant(Edge.NONE, 0.0, 1, days=300, rows_a_day=A_DAY)
    model = learned(rows_of(planted), RECIPE)
    often = np.bincount(planted.outcome) / len(planted.outcome)

    assert model.skill < 0.2
    assert model.base_rates == pytest.approx(often)
    assert np.abs(model.probabilities(values_of(planted)) - often).max() < 0.02


def test_a_training_that_is_stopped_anywhere_goes_on_to_the_same_bits() -> None:
    rows = rows_of(plant(Edge.LINEAR, 0.6, 1, days=120, rows_a_day=10))
    recipe = replace(RECIPE, network="recurrent", seeds=(1, 2), width=16, epochs=6)
    whole = learned(rows, recipe)
    first, epoch = SpecialistTraining(rows, recipe), 0
    while not first.finished:
        first.run_epoch(epoch)
        after = SpecialistTraining(rows, recipe)
        after.restore({name: value.copy() for name, value in first.state().items()})
        assert after.epochs_run == epoch + 1
        first, epoch = after, epoch + 1
    again = first.trained()

    assert again.temperature == whole.temperature
    assert np.array_equal(again.logits(rows.values), whole.logits(rows.values))


def test_the_state_of_something_else_is_refused() -> None:
    rows = rows_of(plant(Edge.LINEAR, 0.6, 1, days=120, rows_a_day=10))
    other = SpecialistTraining(rows, replace(RECIPE, network="recurrent"))
    with pytest.raises(BadInput, match="is not one of flat"):
        SpecialistTraining(rows, RECIPE).restore(other.state())
    with pytest.raises(BadInput, match="epoch 1 is not the next one"):
        other.run_epoch(1)


def test_only_days_that_were_learned_from_scale_and_unknown_values_are_their_mean() -> None:
    planted = plant(Edge.NONE, 0.0, 1, days=100, rows_a_day=4)
    values = planted.features.astype(np.float32)[:, np.newaxis, :].copy()
    values[:, 0, 1] = np.nan
    values[-40:, 0, 0] = 1e6  # of days that calibrate
    rows = replace(rows_of(planted), values=values)
    scaling = SpecialistTraining(rows, RECIPE).scaling
    scaled = scaling.applied(values)

    assert abs(float(scaling.mean[0])) < 1.0
    assert (scaled[-40:, 0, 0] == DEVIATIONS_MAX).all()
    assert not scaled[:, 0, 1].any()


def test_a_convolution_reads_no_later_step() -> None:
    block = CausalBlock(4, 2, 0.0).eval()
    series = torch.randn(2, 4, 8)
    changed = series.clone()
    changed[:, :, 5:] = 9.0

    assert torch.equal(block(series)[:, :, :5], block(changed)[:, :, :5])
    assert not torch.equal(block(series)[:, :, 5:], block(changed)[:, :, 5:])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_says_classes_and_quantiles_of_any_number_of_steps(network: str) -> None:
    for steps in (1, 8):
        classes, quantiles = specialist(network, 3, steps, 16, 0.0, 1).eval()(torch.randn(2, steps, 3))
        assert (classes.shape, quantiles.shape) == ((2, 3), (2, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outcome": np.zeros(3, np.int64)}, "outcome has shape"),
        ({"weight": np.zeros(1200)}, "weight is not above zero"),
        ({"values": np.full((1200, 1, 20), np.inf, np.float32)}, "a value is infinite"),
        ({"days": np.arange(1200)[::-1].copy()}, "days ascending"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(change: dict[str, Any], words: str) -> None:
    rows = rows_of(plant(Edge.NONE, 0.0, 1, days=120, rows_a_day=10))
    with pytest.raises(BadInput, match=words):
        replace(rows, **change)


def test_too_few_days_and_unknown_networks_are_refused() -> None:
    rows = rows_of(plant(Edge.NONE, 0.0, 1, days=12, rows_a_day=10))
    with pytest.raises(BadInput, match="12 days are too few"):
        SpecialistTraining(rows, RECIPE)
    with pytest.raises(BadInput, match="must be one of flat, recurrent, convolutional"):
        specialist("deep", 3, 1, 8, 0.0, 1)
    with pytest.raises(BadInput, match="recipe"):
        replace(RECIPE, dropout=1.0)
    with pytest.raises(BadInput, match="planted edge"):
        plant(Edge.NONE, -1.0, 1, days=2, rows_a_day=1)


def test_trials_stand_beside_plain_models_on_rows_that_nobody_has_seen() -> None:
    planted = plant(Edge.LINEAR, 1.0, 1, days=200, rows_a_day=8, features=6)
    rows = rows_of(planted)
    long_return = np.select([planted.outcome == Outcome.UP, planted.outcome == Outcome.DOWN], [0.01, -0.01], 0.0)
    recipe = Recipe("flat", seeds=(1,), width=16, epochs=30, learning_rate=1e-2, embargo_days=2)
    splits = walk_forward(rows.days, rows.days, Blocks(100, 50, 2))

    def learner(name: str, known: TrainingRows) -> Learner:
        return PlainTraining(known, name) if name in PLAIN else SpecialistTraining(known, replace(recipe, network=name))

    told = {}
    for name in (*PLAIN, *NETWORKS):
        trials = [Trial(rows, split, partial(learner, name)) for split in splits]
        told[name] = np.concatenate([walked(trial) for trial in trials])
    tested = np.concatenate([split.test for split in splits])
    report = trial_report(rows, tested, told, long_return, recipe.miss_fraction)

    assert {each.name for each in report.results} == {CLIMATOLOGY, LOGISTIC, BOOSTING, *NETWORKS}
    assert (report.rows, report.sessions) == (800, 100)
    for name in (LOGISTIC, "flat"):
        assert report.result(name).log_loss < report.result(CLIMATOLOGY).log_loss
        assert report.result(name).sharpe > 3.0
    assert report.result(CLIMATOLOGY).coverage == 0.0
    assert {alarm.partition(":")[0] for alarm in report.alarms} == {each.name for each in report.results if each.sharpe > 3.0}
    assert 0.0 <= report.overfitting_probability <= 1.0


def test_a_strategy_is_judged_on_the_sessions_that_it_could_trade() -> None:
    """The earlier half fits the sets; rows of which FLAT alone is left take no side."""
    days, outcome = np.arange(80), np.tile([0, 2], 40)
    rows = TrainingRows(np.zeros((80, 1, 1), dtype=np.float32), outcome, np.zeros(80), days, np.ones(80))
    own, flat = np.tile([[0.8, 0.15, 0.05], [0.05, 0.15, 0.8]], (40, 1)), np.asarray([0.05, 0.9, 0.05])
    own[60:] = flat
    other = own[::-1].copy()
    moves = np.random.default_rng(4).normal(0.0, 0.02, 80)
    report = trial_report(rows, np.arange(80), {"own": own, "other": other}, moves, 0.2)

    found = report.result("own")
    gained = np.concatenate((moves[40:60] * np.tile([-1.0, 1.0], 10), np.zeros(20)))
    assert found.returns == pytest.approx(gained)
    assert found.sharpe == pytest.approx(gained.mean() / gained.std(ddof=1) * math.sqrt(252))
    assert found.coverage == 0.5


def walked(trial: Trial) -> Any:
    """What it says of its block; of its figures the last ones name that."""
    epoch, figures = 0, dict[str, float]()
    while not trial.finished:
        figures = dict(trial.run_epoch(epoch))
        epoch += 1
    assert figures["test_log_loss"] > 0.0
    return trial.state()["told"]


def test_what_has_ended_keeps_what_it_said_alone_and_nobody_takes_up_anothers() -> None:
    planted = plant(Edge.LINEAR, 1.0, 1, days=60, rows_a_day=4, features=4)
    rows = rows_of(planted)
    first, second = walk_forward(rows.days, rows.days, Blocks(40, 15, 2))
    trial = Trial(rows, first, lambda known: PlainTraining(known, LOGISTIC))
    assert (trial.state(), trial.epochs) == ({}, 1)
    trial.restore({})
    told = walked(trial)
    again = Trial(rows, first, lambda known: PlainTraining(known, LOGISTIC))
    again.restore(trial.state())
    assert again.finished
    assert np.array_equal(again.state()["told"], told)
    with pytest.raises(BadInput, match="tested rows"):
        Trial(rows, second, lambda known: PlainTraining(known, LOGISTIC)).restore(trial.state())
    with pytest.raises(BadInput, match="another model's"):
        PlainTraining(rows, LOGISTIC).restore({"weights": told})
    with pytest.raises(BadInput, match="not fitted"):
        PlainTraining(rows, LOGISTIC).probabilities(rows.values)
    with pytest.raises(BadInput, match="not the next one"):
        PlainTraining(rows, LOGISTIC).run_epoch(1)
    with pytest.raises(BadInput, match="must be one of"):
        PlainTraining(rows, "nobody")


def test_parts_of_a_batch_add_up_to_it() -> None:
    rows = rows_of(plant(Edge.LINEAR, 1.0, 1, days=60, rows_a_day=10))
    recipe = Recipe("flat", seeds=(1,), width=8, dropout=0.0, epochs=3, embargo_days=1, batch_rows=64)
    whole, parts = SpecialistTraining(rows, recipe), SpecialistTraining(rows, recipe, batch_divisor=4)
    for epoch in range(3):
        figures = whole.run_epoch(epoch)
        assert parts.run_epoch(epoch) == pytest.approx(figures, rel=1e-4)
    assert np.allclose(parts.probabilities(rows.values), whole.probabilities(rows.values), atol=1e-3)


def test_rows_without_a_hole_between_them_are_not_copied() -> None:
    rows = rows_of(plant(Edge.NONE, 0.0, 1, days=10, rows_a_day=4))
    stretch = rows.take(np.arange(8, 20))
    assert np.shares_memory(stretch.values, rows.values)
    assert np.array_equal(stretch.values, rows.values[8:20])
    chosen = rows.take(np.asarray([1, 3, 4]))
    assert np.array_equal(chosen.values, rows.values[[1, 3, 4]])
    assert np.array_equal(chosen.days, rows.days[[1, 3, 4]])
