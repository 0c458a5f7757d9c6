"""Specialists learn what is planted, abstain from what is not there, and go on bit for bit where they were stopped."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from finagent.domain.errors import BadInput
from finagent.domain.ports.regime import Regime
from finagent.quant.evaluation.planted_edges import Edge, PlantedEdge, plant
from finagent.quant.evaluation.scores import accuracy, auc, log_losses
from finagent.quant.learning.experiment import Experiment
from finagent.quant.learning.learning_rows import LearningRows
from finagent.quant.specialists.networks import QUANTILES, NetworkShape, build_network, pinball
from finagent.quant.specialists.specialist import Specialist, fit_standard_inputs
from finagent.quant.specialists.training import SpecialistTraining
from finagent.quant.specialists.training_plan import Architecture, Role, TrainingPlan

SMALL = TrainingPlan(members=2, hidden=16, dropout=0.1, epochs=12, patience=3, batch_rows=128, learning_rate=4e-3, seed=1)
ARCHITECTURES = pytest.mark.parametrize("architecture", list(Architecture))


def rows_of(**planted: Any) -> LearningRows:
    return plant(PlantedEdge(**({"sessions": 60, "symbols": 5, "features": 5} | planted)), seed=2).learning_rows()


def trained(training: SpecialistTraining, first: int = 0) -> Specialist:
    epoch = first
    while not training.finished:
        training.run_epoch(epoch)
        epoch += 1
    return training.specialist()


def require_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize(
    ("architecture", "stopped_after"),
    [(Architecture.CONVOLUTION, 4), (Architecture.GRU, 4), (Architecture.MLP, 0), (Architecture.MLP, 2), (Architecture.MLP, 5)],
)
def test_a_training_that_was_stopped_ends_as_one_that_was_not(architecture: Architecture, stopped_after: int) -> None:
    plan = replace(SMALL, architecture=architecture, epochs=6, patience=6, learning_rate=0.03)
    rows = rows_of(steps=3, strength=0.0)  # what was best is soon behind it
    undisturbed = SpecialistTraining(plan, rows)
    told = [undisturbed.run_epoch(epoch) for epoch in range(6)]

    stopped: Experiment = SpecialistTraining(plan, rows)
    for epoch in range(stopped_after):
        stopped.run_epoch(epoch)
    file = safetensors.numpy.save(dict(stopped.state()))
    assert stopped_after < 4 or stopped.state()["stale"].any()
    stopped.run_epoch(stopped_after)  # what is lost when the process is killed
    torch.rand(3)  # chance that others draw is none of its own
    resumed = SpecialistTraining(plan, rows)
    resumed.restore(safetensors.numpy.load(file))
    again = [resumed.run_epoch(epoch) for epoch in range(stopped_after, 6)]

    assert again == told[stopped_after:]
    require_equal(undisturbed.state(), resumed.state())
    inputs = rows.inputs[:7]
    assert np.array_equal(undisturbed.specialist().logits(inputs), resumed.specialist().logits(inputs))


def test_a_state_is_of_the_moment_and_of_one_experiment() -> None:
    training = SpecialistTraining(SMALL, rows_of())
    before = training.state()
    copied = {name: array.copy() for name, array in before.items()}
    training.run_epoch(0)
    require_equal(before, copied)
    for other in (
        SpecialistTraining(replace(SMALL, seed=2), rows_of()),
        SpecialistTraining(SMALL, rows_of(strength=0.1)),
        SpecialistTraining(replace(SMALL, hidden=8), rows_of()),
    ):
        with pytest.raises(BadInput, match="another experiment"):
            other.restore(before)
    with pytest.raises(BadInput, match="the next one is 1"):
        training.run_epoch(0)


def test_the_process_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    SpecialistTraining(SMALL, rows_of()).run_epoch(0)
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_no_member_learns_after_it_stopped_getting_better() -> None:
    training = SpecialistTraining(replace(SMALL, epochs=200, patience=2), rows_of(strength=0.0))
    epoch, best = 0, []
    while not training.finished:
        best.append(training.run_epoch(epoch)["validation_loss_best"])
        epoch += 1
    assert epoch < 200
    assert best == sorted(best, reverse=True)
    with pytest.raises(BadInput, match="training is finished"):
        training.run_epoch(epoch)


@ARCHITECTURES
def test_a_linear_edge_is_recovered(architecture: Architecture) -> None:
    world = plant(PlantedEdge(Edge.LINEAR, 0.8, features=5, sessions=360, symbols=5), seed=5)
    rows = world.learning_rows()
    test = np.arange(1000, len(rows))
    specialist = trained(SpecialistTraining(replace(SMALL, architecture=architecture), rows.take(np.arange(1000))))
    told, oracle, outcomes = specialist.probabilities(rows.inputs[test]), world.probabilities[test], rows.outcomes[test]

    base = (outcomes == np.bincount(outcomes).argmax()).mean()
    assert specialist.has_skill
    assert accuracy(told, outcomes).fraction - base >= 0.8 * (accuracy(oracle, outcomes).fraction - base)
    sides = specialist.sides(rows.inputs[test])
    right = (np.sign(rows.targets_atr[test]) == sides)[sides != 0].mean()
    assert (sides != 0).mean() >= 0.2
    assert right > 0.75


def test_where_nothing_is_to_know_it_tells_the_base_rates_and_takes_no_side() -> None:
    rows = rows_of(strength=0.0, sessions=240)
    specialist = trained(SpecialistTraining(SMALL, rows.take(np.arange(600))))
    test = rows.take(np.arange(600, 1200))

    assert not specialist.has_skill
    assert not specialist.sides(test.inputs).any()
    assert np.ptp(specialist.probabilities(test.inputs), axis=0).max() == 0.0
    logits = specialist.logits(test.inputs)
    assert 0.44 < auc(logits[:, 2] - logits[:, 0], test.outcomes == 2) < 0.56, "what it learned says nothing either"


def test_a_specialist_learns_from_its_own_regime() -> None:
    """In the market of bears the edge is the other way round."""
    rows = rows_of(strength=0.8, sessions=240)
    bear = rows.starts % 2 == 0
    regimes = np.zeros((len(rows), 3))
    regimes[bear, Regime.BEAR] = 1.0
    regimes[~bear, Regime.BULL] = 1.0
    inputs = rows.inputs.copy()
    inputs[bear] *= -1.0
    mixed = replace(rows, inputs=inputs, regimes=regimes)
    losses = {}
    for role in (Role.BULL, Role.BEAR, Role.GENERALIST):
        training = SpecialistTraining(replace(SMALL, role=role, members=1), mixed)
        epoch = 0
        while not training.finished:
            training.run_epoch(epoch)
            epoch += 1
        logits = training.specialist().logits(inputs)
        told = np.exp(logits)
        losses[role] = [log_losses(told[part], mixed.outcomes[part]).mean() for part in (~bear, bear)]
    assert losses[Role.BULL][0] < losses[Role.GENERALIST][0] < losses[Role.BEAR][0]
    assert losses[Role.BEAR][1] < losses[Role.GENERALIST][1] < losses[Role.BULL][1]


def test_no_step_of_the_convolutions_sees_a_later_one() -> None:
    network = build_network(NetworkShape(Architecture.CONVOLUTION, 9, 4, hidden=8), 3).eval()
    chance = torch.Generator().manual_seed(1)
    steps, there = torch.randn(2, 9, 8, generator=chance), torch.ones(2, 9, 1)
    other = steps.clone()
    other[:, 6:] = torch.randn(2, 3, 8, generator=chance)
    with torch.no_grad():
        told, again = network.convolved(steps, there), network.convolved(other, there)
    assert torch.equal(told[:, :, :6], again[:, :, :6])
    assert not torch.equal(told[:, :, 6], again[:, :, 6])


@ARCHITECTURES
def test_a_step_of_which_nothing_is_known_adds_nothing(architecture: Architecture) -> None:
    network = build_network(NetworkShape(architecture, 3, 4, hidden=8), 3).eval()
    inputs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    there = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    other = inputs.clone()
    other[:, 0] += 1.0
    with torch.no_grad():
        (told, _), (again, _) = network(inputs, there), network(other, there)
    assert torch.equal(told[0], again[0])
    assert not torch.equal(told[1], again[1])


def test_quantiles_never_cross_and_the_pinball_loss_finds_them() -> None:
    network = build_network(NetworkShape(Architecture.MLP, 1, 4, hidden=8), 3)
    _, quantiles = network(torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(1)) * 10, torch.ones(50, 1))
    assert bool((quantiles.diff(dim=1) >= 0).all())
    sample = torch.linspace(0.0, 1.0, 1001)
    best = torch.tensor(QUANTILES)
    loss = pinball(best.expand(1001, 3), sample).mean()
    for moved in (best + 0.02, best - 0.02):
        assert pinball(moved.expand(1001, 3), sample).mean() > loss


def test_the_transform_is_of_what_was_learned_from_and_unknown_is_the_mean() -> None:
    inputs = np.asarray([[[1.0, 5.0, np.nan]], [[3.0, 5.0, np.nan]], [[np.nan, 5.0, np.nan]]], dtype=np.float32)
    standard = fit_standard_inputs(inputs)
    values, there = standard(np.asarray([[[4.0, 6.0, 1.0]], [[np.nan, np.nan, np.nan]], [[1e9, 5.0, 0.0]]], dtype=np.float32))
    assert values[0, 0].tolist() == [2.0, 1.0, 1.0]
    assert values[1, 0].tolist() == [0.0, 0.0, 0.0]
    assert values[2, 0, 0] == 5.0
    assert there[:, 0].tolist() == [1.0, 0.0, 1.0]

    rows = rows_of(strength=0.5)
    shifted = replace(rows, inputs=np.concatenate([rows.inputs[:-10], rows.inputs[-10:] + 100.0]))
    one, other = (SpecialistTraining(SMALL, each) for each in (rows, shifted))
    trained(one), trained(other)
    assert np.array_equal(one.specialist().inputs.mean, other.specialist().inputs.mean), "the last rows are not learned from"
    require_equal(one.specialist().members[0], other.specialist().members[0])


def test_inputs_of_another_shape_and_plans_that_cannot_be_are_refused() -> None:
    specialist = trained(SpecialistTraining(replace(SMALL, epochs=1), rows_of()))
    with pytest.raises(BadInput, match=r"inputs \(300, 1, 4\)"):
        specialist.logits(rows_of().inputs[:, :, :4])
    for wrong in ({"members": 0}, {"learning_rate": 0.0}, {"seed": -1}, {"dropout": 1.0}, {"regime_floor": float("nan")}):
        with pytest.raises(BadInput):
            SpecialistTraining(replace(SMALL, **wrong), rows_of())
