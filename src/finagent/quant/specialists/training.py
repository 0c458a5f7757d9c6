"""Training of one specialist: an ensemble, epoch by epoch, that goes on bit for bit where it was stopped.

Imports torch, which the agent does not.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.regime import Regime
from finagent.quant.evaluation.abstention import fit_conformal
from finagent.quant.evaluation.calibration import fit_temperature, softmax
from finagent.quant.evaluation.comparison import compare_losses, day_differences
from finagent.quant.evaluation.labels import CLASSES, Outcome, day_weights
from finagent.quant.evaluation.scores import climatology
from finagent.quant.learning.experiment import State
from finagent.quant.learning.learning_rows import LearningRows, TrainingParts, training_parts
from finagent.quant.specialists.networks import Network, NetworkShape, build_network, pinball
from finagent.quant.specialists.specialist import Specialist, StandardInputs, decided, ensemble_logits, fit_standard_inputs
from finagent.quant.specialists.training_plan import Role, TrainingPlan

_FIRST_WEIGHTS = 2**32 - 1  # the place of an epoch that never comes, for the chance of the first weights
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class _Member:
    """One network on its way, and the best that it has been."""

    network: Network
    optimiser: torch.optim.AdamW
    best: dict[str, Tensor]
    best_loss: float = np.inf
    stale: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """All of it that changes, by name."""
        told = {f"weights.{name}": tensor for name, tensor in self.network.state_dict().items()}
        told |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.network.named_parameters():
            for moment in (*_MOMENTS, "step"):
                told[f"{moment}.{name}"] = self.optimiser.state[parameter][moment]
        return told


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows as the network takes them; `weights` have the mean 1."""

    inputs: Tensor
    there: Tensor
    outcomes: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(slots=True)
class SpecialistTraining:
    """Experiment over rows of one training fold, on the device that torch knows by that name. On the CPU the same plan, rows and
    build of torch give the same bits."""

    plan: TrainingPlan
    rows: LearningRows
    device: str = "cpu"
    _parts: TrainingParts = field(init=False)
    _shape: NetworkShape = field(init=False)
    _standard: StandardInputs = field(init=False)
    _fit: _Part = field(init=False)
    _validation: _Part = field(init=False)
    _members: list[_Member] = field(init=False)
    _epoch: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """BadInput for too few rows, see training_parts."""
        plan = self.plan
        self._parts = training_parts(self.rows, plan.validation_fraction, plan.calibration_fraction, plan.embargo_sessions)
        steps, features = self.rows.inputs.shape[1:]
        self._shape = NetworkShape(plan.architecture, steps, features, plan.hidden, plan.dropout)
        self._standard = fit_standard_inputs(self._parts.fit.inputs)
        self._fit, self._validation = self._part(self._parts.fit), self._part(self._parts.validation)
        self._members = [self._made(member) for member in range(plan.members)]

    @property
    def epochs(self) -> int:
        return self.plan.epochs

    @property
    def finished(self) -> bool:
        return self._epoch >= self.plan.epochs or all(member.stale >= self.plan.patience for member in self._members)

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        """Figures: mean losses of the members that still learn, the best validation loss of each so far, and how many learn."""
        if epoch != self._epoch or self.finished:
            raise BadInput(f"epoch {epoch}: " + ("training is finished" if self.finished else f"the next one is {self._epoch}"))
        learned, checked = [], []
        with _reproducible():
            for place, member in enumerate(self._members):
                if member.stale < self.plan.patience:
                    learned.append(self._learn(member, place))
                    checked.append(self._check(member))
        self._epoch += 1
        return {
            "train_loss": float(np.mean(learned)),
            "validation_loss": float(np.mean(checked)),
            "validation_loss_best": float(np.mean([member.best_loss for member in self._members])),
            "members_learning": float(sum(member.stale < self.plan.patience for member in self._members)),
        }

    def state(self) -> State:
        told: dict[str, NDArray[Any]] = {
            "experiment": self._identity(),
            "epoch": np.asarray(self._epoch, dtype=np.int64),
            "best_loss": np.asarray([member.best_loss for member in self._members], dtype=np.float64),
            "stale": np.asarray([member.stale for member in self._members], dtype=np.int64),
        }
        for place, member in enumerate(self._members):
            told |= {f"member_{place}.{name}": tensor.cpu().numpy().copy() for name, tensor in member.tensors().items()}
        return told

    def restore(self, state: State) -> None:
        mine = self.state()
        other = [name for name in mine if name not in state or state[name].shape != mine[name].shape]
        if other or not np.array_equal(state["experiment"], mine["experiment"]):
            raise BadInput(
                "this is the state of another experiment"
                + (f": {other[0]} is not what it is here" if other else ": rows or plan differ")
            )
        self._epoch = int(state["epoch"])
        for place, member in enumerate(self._members):
            member.best_loss, member.stale = float(state["best_loss"][place]), int(state["stale"][place])
            for name, tensor in member.tensors().items():
                tensor.copy_(torch.from_numpy(state[f"member_{place}.{name}"]))

    def specialist(self) -> Specialist:
        """What has been learned: the best of each member, with what the calibration part says of them. The temperature and the
        sets share that part: one number fitted on it leaves the sets honest for all but very few rows."""
        calibration = self._parts.calibration
        members = tuple({name: tensor.cpu().numpy().copy() for name, tensor in member.best.items()} for member in self._members)
        with _reproducible():
            logits = ensemble_logits(self._shape, self._standard, members, calibration.inputs)
        temperature = fit_temperature(logits, calibration.outcomes)
        probabilities = softmax(logits, temperature)
        learned = self._parts.fit
        base = climatology(learned.outcomes, CLASSES, day_weights(learned.starts))
        moved = calibration.outcomes != Outcome.FLAT
        if not moved.any():
            raise BadInput(f"calibration: none of {len(calibration)} rows met a barrier; more rows or nearer barriers are needed")
        conformal = fit_conformal(decided(probabilities)[moved], calibration.outcomes[moved], self.plan.miss_fraction)
        has_skill = _skill_p_value(probabilities, base, calibration) <= self.plan.skill_p_max
        return Specialist(self._shape, self._standard, members, temperature, base, has_skill, conformal)

    def _chance(self, member: int, epoch: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.plan.seed, (member << 32) + epoch]))

    def _made(self, place: int) -> _Member:
        network = build_network(self._shape, int(self._chance(place, _FIRST_WEIGHTS).integers(2**63))).to(self.device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.plan.learning_rate, weight_decay=self.plan.weight_decay)
        for parameter in network.parameters():  # what AdamW makes at its first step, so that the state has one form
            zeros = {moment: torch.zeros_like(parameter, requires_grad=False) for moment in _MOMENTS}
            optimiser.state[parameter] = {"step": torch.tensor(0.0), **zeros}
        return _Member(network, optimiser, {name: tensor.clone() for name, tensor in network.state_dict().items()})

    def _part(self, rows: LearningRows) -> _Part:
        weights = day_weights(rows.starts)
        if self.plan.role is not Role.GENERALIST:
            weights = weights * (rows.regimes[:, Regime[self.plan.role.name]] + self.plan.regime_floor)
        if not weights.sum() > 0.0:
            raise BadInput(
                f"training: no row weighs anything for the {self.plan.role.value} specialist; a floor above 0 is needed"
            )
        weights = weights / weights.mean()
        arrays = (*self._standard(rows.inputs), rows.outcomes.astype(np.int64), rows.targets_atr.astype(np.float32))
        inputs, there, outcomes, targets = (torch.from_numpy(each).to(self.device) for each in arrays)
        return _Part(inputs, there, outcomes, targets, torch.from_numpy(weights.astype(np.float32)).to(self.device))

    def _learn(self, member: _Member, place: int) -> float:
        chance, part, plan = self._chance(place, self._epoch), self._fit, self.plan
        network = member.network.train()
        network.drop.chance = torch.Generator(self.device).manual_seed(int(chance.integers(2**63)))
        order = torch.from_numpy(chance.permutation(len(part.outcomes))).to(self.device)
        total = 0.0
        for batch in torch.split(order, plan.batch_rows):
            member.optimiser.zero_grad(set_to_none=True)
            logits, quantiles = network(part.inputs[batch], part.there[batch])
            losses = functional.cross_entropy(
                logits, part.outcomes[batch], reduction="none", label_smoothing=plan.label_smoothing
            ) + plan.quantile_weight * pinball(quantiles, part.targets[batch])
            loss = (losses * part.weights[batch]).mean()
            loss.backward()  # type: ignore[no-untyped-call] # of torch
            member.optimiser.step()
            total += float(loss.detach()) * len(batch)
        return total / len(order)

    def _check(self, member: _Member) -> float:
        """The log-loss on the validation part; the weights are kept where none was better."""
        part, network = self._validation, member.network.eval()
        with torch.no_grad():
            logits, _ = network(part.inputs, part.there)
            losses = functional.cross_entropy(logits, part.outcomes, reduction="none")
            loss = float((losses * part.weights).mean())
        if loss < member.best_loss:  # not when it is NaN
            member.best_loss, member.stale = loss, 0
            member.best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        else:
            member.stale += 1
        return loss

    def _identity(self) -> NDArray[np.uint8]:
        """The SHA-256 of the plan and the rows."""
        told = hashlib.sha256(repr(self.plan).encode())
        for each in fields(self.rows):
            told.update(np.ascontiguousarray(getattr(self.rows, each.name)).tobytes())
        return np.frombuffer(told.digest(), dtype=np.uint8)


def specialist_learner(plan: TrainingPlan) -> Callable[[LearningRows], Specialist]:
    """Who trains such a specialist to its end on the rows it is given."""

    def learn(rows: LearningRows) -> Specialist:
        training = SpecialistTraining(plan, rows)
        for epoch in range(plan.epochs):
            if not training.finished:
                training.run_epoch(epoch)
        return training.specialist()

    return learn


def _skill_p_value(probabilities: Floats, base: Floats, rows: LearningRows) -> float:
    """Of forecasts that are no better than the base rates, by their log-losses a day, one-sided."""
    differences = day_differences(np.tile(base, (len(rows), 1)), probabilities, rows.outcomes, rows.starts)
    return compare_losses(differences.mean).p_value


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread and only algorithms that always give the same bits; afterwards torch is as it was."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
