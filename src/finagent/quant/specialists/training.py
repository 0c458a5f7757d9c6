"""Trains a specialist epoch by epoch, so that whoever runs it can stop it anywhere and go on bit-equal.

Needs torch, as networks.py does.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets, fit_conformal
from finagent.quant.evaluation.calibration import fit_skill, fit_temperature, pooled, softmax
from finagent.quant.evaluation.labels import CLASSES
from finagent.quant.specialists.experiment import State
from finagent.quant.specialists.networks import QUANTILES, Specialist, specialist
from finagent.quant.specialists.training_rows import Scaling, Single, TrainingRows, scaling_of

FIT_FRACTION, STOP_FRACTION = 0.70, 0.15  # of the days; the rest calibrates
_EPOCH_SEED = 1_000_003
HELD_OUT_ROWS = 4096  # at a time; a whole hold-out need not fit the device


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a specialist is trained: one network, several seeds whose logits are averaged. `batch_rows` a step; at most `epochs`,
    ended when the loss on held-out days has not fallen for `patience` of them; `embargo_days` between the parts; sets of classes
    miss what happens at most `miss_fraction` of the time. Loss: cross-entropy with smoothed labels and `pinball_weight` times
    the pinball loss of the quantiles (Koenker & Bassett, Econometrica 46, 1978); AdamW (Loshchilov & Hutter, ICLR 2019)."""

    network: str
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    width: int = 64
    dropout: float = 0.3
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    pinball_weight: float = 0.3
    batch_rows: int = 512
    epochs: int = 60
    patience: int = 6
    embargo_days: int = 5
    miss_fraction: float = 0.2

    def __post_init__(self) -> None:
        counts = (self.width, self.batch_rows, self.epochs, self.patience, len(self.seeds))
        fractions = (self.dropout, self.label_smoothing, self.miss_fraction)
        if min(counts) < 1 or self.embargo_days < 0 or not all(0.0 <= each < 1.0 for each in fractions):
            raise BadInput(f"recipe: a count below 1 or a fraction outside [0, 1): {self}")


@dataclass(frozen=True, slots=True)
class TrainedSpecialist:
    """`networks` in evaluation mode, one a seed; `temperature` divides their mean logits. `skill` is their share in what is told,
    the rest are `base_rates` [classes]: who has learned nothing says how often each class happens. Without `conformal` sets it
    never abstains."""

    networks: tuple[Specialist, ...]
    scaling: Scaling
    temperature: float
    conformal: ConformalSets | None
    skill: float = 1.0
    base_rates: Floats = field(default_factory=lambda: np.full(CLASSES, 1.0 / CLASSES))

    def logits(self, values: Single) -> Floats:
        """Mean logits [rows, classes] of values [rows, steps, features]."""
        with torch.inference_mode():
            rows = torch.from_numpy(self.scaling.applied(values))
            mean: Floats = torch.stack([network(rows)[0] for network in self.networks]).mean(0).numpy().astype(np.float64)
        return mean

    def probabilities(self, values: Single) -> Floats:
        """Calibrated probabilities [rows, classes]."""
        return pooled(softmax(self.logits(values), self.temperature), self.skill, self.base_rates)


class _Member:
    """One seed: its network, its optimiser, and the best weights so far."""

    def __init__(self, recipe: Recipe, seed: int, steps: int, features: int, device: str) -> None:
        self.seed = seed
        self.network = specialist(recipe.network, features, steps, recipe.width, recipe.dropout, seed).to(device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=False
        )
        self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.best_loss, self.waited = math.inf, 0


class SpecialistTraining:
    """An experiment over rows: `run_epoch` 0, 1, ... until `finished`, then `trained`. Deterministic in rows and recipe on one
    thread of the CPU. `batch_divisor` computes a batch in so many parts, which takes less memory and changes nothing but the
    order in which sums are made. BadInput for rows of too few days."""

    def __init__(self, rows: TrainingRows, recipe: Recipe, device: str = "cpu", batch_divisor: int = 1) -> None:
        self.recipe = recipe
        self._fit, self._stop, self._calibrate = _parts(rows.days, recipe.embargo_days)
        self._rows, self._device = rows, torch.device(device)
        self._part_rows = -(-recipe.batch_rows // batch_divisor)
        self.scaling = scaling_of(rows.values[self._fit])
        self._outcome = torch.tensor(rows.outcome)
        self._target = torch.tensor(rows.target_atr, dtype=torch.float32)
        self._weight = torch.from_numpy((rows.weight / rows.weight[self._fit].mean()).astype(np.float32))
        _, steps, features = rows.values.shape
        self._members = [_Member(recipe, seed, steps, features, device) for seed in recipe.seeds]
        self._epochs_run = 0

    @property
    def epochs(self) -> int:
        """At most."""
        return self.recipe.epochs

    @property
    def epochs_run(self) -> int:
        """The next epoch."""
        return self._epochs_run

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to learn."""
        patient = any(member.waited < self.recipe.patience for member in self._members)
        return self._epochs_run >= self.recipe.epochs or not patient

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """One pass of every member that still gets better; mean losses. BadInput for any epoch but the next."""
        if epoch != self._epochs_run or self.finished:
            raise BadInput(f"training: epoch {epoch} is not the next one ({self._epochs_run}, finished: {self.finished})")
        losses = []
        for member in self._members:
            if member.waited >= self.recipe.patience:
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(member.seed * _EPOCH_SEED + epoch)
                losses.append((self._pass(member), self._held_out(member)))
        self._epochs_run += 1
        train, held_out = np.asarray(losses).mean(axis=0)
        return {"train_loss": float(train), "validation_loss": float(held_out), "members": float(len(losses))}

    @property
    def held_out(self) -> TrainingRows:
        """The last days, from which no weights were learned and which stopped nothing; they calibrate."""
        return self._rows.take(self._calibrate)

    def trained(self) -> TrainedSpecialist:
        """The best weights of each member, calibrated on days that no member has seen."""
        for member in self._members:
            member.network.load_state_dict(member.best)
            member.network.to("cpu").eval()
        networks = tuple(member.network for member in self._members)
        rows, outcome = self._rows, self._rows.outcome[self._calibrate]
        base_rates = np.bincount(rows.outcome, weights=rows.weight, minlength=CLASSES) / rows.weight.sum()
        raw = TrainedSpecialist(networks, self.scaling, 1.0, None, 1.0, base_rates)
        logits = raw.logits(rows.values[self._calibrate])
        temperature = fit_temperature(logits, outcome)
        told = softmax(logits, temperature)
        skill = fit_skill(told, base_rates, outcome, rows.weight[self._calibrate], rows.days[self._calibrate])
        conformal = fit_conformal(pooled(told, skill, base_rates), outcome, self.recipe.miss_fraction)
        return replace(raw, temperature=temperature, skill=skill, conformal=conformal)

    def probabilities(self, values: Single) -> Floats:
        """Of what was trained, once that is finished."""
        return self.trained().probabilities(values)

    def _pass(self, member: _Member) -> float:
        member.network.train()
        order = torch.from_numpy(self._fit)[torch.randperm(len(self._fit))]
        total = 0.0
        for batch in torch.split(order, self.recipe.batch_rows):
            member.optimiser.zero_grad(set_to_none=True)
            told = self._weight[batch].sum()
            loss = 0.0
            for part in torch.split(batch, self._part_rows):
                share = self._loss(member.network, part, self.recipe.label_smoothing) / told
                share.backward()  # type: ignore[no-untyped-call]  # torch does not say
                loss += float(share.detach())
            member.optimiser.step()
            total += loss * len(batch)
        return total / len(order)

    def _held_out(self, member: _Member) -> float:
        """Notes the best weights so far."""
        member.network.eval()
        with torch.inference_mode():
            rows = torch.from_numpy(self._stop)
            parts = [self._loss(member.network, part, 0.0).cpu() for part in torch.split(rows, HELD_OUT_ROWS)]
            loss = float(torch.stack(parts).sum() / self._weight[rows].sum())
        member.waited += 1
        if loss < member.best_loss:
            member.best_loss, member.waited = loss, 0
            member.best = {name: value.clone() for name, value in member.network.state_dict().items()}
        return loss

    def _loss(self, network: Specialist, part: Tensor, smoothing: float) -> Tensor:
        """The weighted sum over those rows."""
        inputs = torch.from_numpy(self.scaling.applied(self._rows.values[part.numpy()]))
        logits, quantiles = network(inputs.to(self._device))
        weight, target, outcome = (each[part].to(self._device) for each in (self._weight, self._target, self._outcome))
        entropy = nn.functional.cross_entropy(logits, outcome, reduction="none", label_smoothing=smoothing)
        known = torch.isfinite(target)
        error = torch.where(known, target, 0.0)[:, None] - quantiles
        level = torch.tensor(QUANTILES, device=self._device)
        pinball = torch.maximum(level * error, (level - 1.0) * error).mean(dim=1) * known
        return ((entropy + self.recipe.pinball_weight * pinball) * weight).sum()

    # -- to stop and to go on ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that is needed to go on, bit-equal; of what is finished the best weights alone."""
        found: dict[str, NDArray[np.generic]] = {"epochs_run": np.asarray(self._epochs_run)}
        for number, member in enumerate(self._members):
            found[f"{number}/best_loss"], found[f"{number}/waited"] = np.asarray(member.best_loss), np.asarray(member.waited)
            found |= {f"{number}/best/{name}": _array(value) for name, value in member.best.items()}
            if self.finished:
                continue
            found |= {f"{number}/weights/{name}": _array(value) for name, value in member.network.state_dict().items()}
            for place, kept in member.optimiser.state_dict()["state"].items():
                found |= {f"{number}/moments/{place}/{name}": _array(value) for name, value in kept.items()}
        return found

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. BadInput for that of another recipe or other rows."""
        try:
            for number, member in enumerate(self._members):
                self._restore_member(member, number, state)
            self._epochs_run = int(state["epochs_run"])
        except (KeyError, RuntimeError) as error:
            raise BadInput(f"training: this state is not one of {self.recipe.network} over these rows: {error}") from error

    def _restore_member(self, member: _Member, number: int, state: State) -> None:
        best = {name: state[f"{number}/best/{name}"] for name in member.network.state_dict()}
        now = {name: state.get(f"{number}/weights/{name}", value) for name, value in best.items()}
        member.network.load_state_dict({name: torch.tensor(value) for name, value in now.items()})
        member.best = {name: torch.tensor(value, device=self._device) for name, value in best.items()}
        member.best_loss, member.waited = float(state[f"{number}/best_loss"]), int(state[f"{number}/waited"])
        told = member.optimiser.state_dict()
        prefix = f"{number}/moments/"
        moments: dict[int, dict[str, Tensor]] = {}
        for key in (key for key in state if key.startswith(prefix)):
            place, name = key.removeprefix(prefix).split("/")
            moments.setdefault(int(place), {})[name] = torch.tensor(state[key])
        member.optimiser.load_state_dict({**told, "state": moments})


def _array(value: Tensor) -> NDArray[np.generic]:
    return np.asarray(value.detach().cpu().numpy()).copy()


def _parts(days: NDArray[np.int64], embargo_days: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit, to stop by and to calibrate with, in order of time, `embargo_days` apart."""
    told = np.unique(days)
    stop, calibrate = int(len(told) * FIT_FRACTION), int(len(told) * (FIT_FRACTION + STOP_FRACTION))
    place = np.searchsorted(told, days)
    fit = np.flatnonzero(place < stop - embargo_days)
    held_out = np.flatnonzero((place >= stop) & (place < calibrate - embargo_days))
    last = np.flatnonzero(place >= calibrate)
    if not (len(fit) and len(held_out) and len(last)):
        raise BadInput(f"training: {len(told)} days are too few to fit, stop and calibrate with {embargo_days} days between")
    return fit, held_out, last
