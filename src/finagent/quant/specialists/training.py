"""Trains a specialist epoch by epoch, so that whoever runs it can stop it anywhere and go on bit-equal.

Needs torch, as networks.py does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets, fit_conformal
from finagent.quant.evaluation.calibration import fit_temperature, softmax
from finagent.quant.specialists.networks import QUANTILES, Specialist, specialist

Single = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]
DEVIATIONS_MAX = 5.0  # a standardised value beyond says no more than that
DEVIATION_MIN = 1e-12  # of a feature that does not move, and so says nothing
FIT_FRACTION, STOP_FRACTION = 0.70, 0.15  # of the days; the rest calibrates
_EPOCH_SEED = 1_000_003


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
class TrainingRows:
    """`values` [rows, steps, features], NaN where unknown; `outcome` [rows] as Outcome, none UNKNOWN; `target_atr` [rows] the net
    return over the ATR, NaN where there is none; `days` [rows] ascending; `weight` [rows] above zero."""

    values: Single
    outcome: NDArray[np.int64]
    target_atr: Floats
    days: NDArray[np.int64]
    weight: Floats

    def __post_init__(self) -> None:
        rows = self.values.shape[:1]
        for name in ("outcome", "target_atr", "days", "weight"):
            if getattr(self, name).shape != rows:
                raise BadInput(f"training rows: {name} has shape {getattr(self, name).shape}, not {rows}")
        if self.values.ndim != 3 or (np.diff(self.days) < 0).any():
            raise BadInput(f"training rows: values {self.values.shape} must be [rows, steps, features], and days ascending")
        if not (np.isfinite(self.weight) & (self.weight > 0.0)).all() or np.isinf(self.values).any():
            raise BadInput("training rows: a weight is not above zero, or a value is infinite")


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and deviation of each feature [features], of the days that were learned from alone."""

    mean: Single
    deviation: Single

    def applied(self, values: Single) -> Single:
        """Standardised, within DEVIATIONS_MAX, unknown values at the mean."""
        scaled = np.clip((values - self.mean) / self.deviation, -DEVIATIONS_MAX, DEVIATIONS_MAX)
        return np.where(np.isnan(scaled), np.float32(0.0), scaled).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TrainedSpecialist:
    """`networks` in evaluation mode, one a seed; `temperature` divides their mean logits."""

    networks: tuple[Specialist, ...]
    scaling: Scaling
    temperature: float
    conformal: ConformalSets

    def logits(self, values: Single) -> Floats:
        """Mean logits [rows, classes] of values [rows, steps, features]."""
        with torch.inference_mode():
            rows = torch.from_numpy(self.scaling.applied(values))
            mean: Floats = torch.stack([network(rows)[0] for network in self.networks]).mean(0).numpy().astype(np.float64)
        return mean

    def probabilities(self, values: Single) -> Floats:
        """Calibrated probabilities [rows, classes]."""
        return softmax(self.logits(values), self.temperature)


class _Member:
    """One seed: its network, its optimiser, and the best weights so far."""

    def __init__(self, recipe: Recipe, seed: int, steps: int, features: int) -> None:
        self.seed = seed
        self.network = specialist(recipe.network, features, steps, recipe.width, recipe.dropout, seed)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=False
        )
        self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.best_loss, self.waited = math.inf, 0


class SpecialistTraining:
    """An experiment over rows: `run_epoch` 0, 1, ... until `finished`, then `trained`. Deterministic in rows and recipe on one
    thread. BadInput for rows of too few days."""

    def __init__(self, rows: TrainingRows, recipe: Recipe) -> None:
        self.recipe = recipe
        self._fit, self._stop, self._calibrate = _parts(rows.days, recipe.embargo_days)
        self._rows = rows
        self.scaling = scaling_of(rows.values[self._fit])
        self._inputs = torch.from_numpy(self.scaling.applied(rows.values))
        self._outcome = torch.from_numpy(rows.outcome)
        self._target = torch.from_numpy(rows.target_atr.astype(np.float32))
        self._weight = torch.from_numpy((rows.weight / rows.weight[self._fit].mean()).astype(np.float32))
        _, steps, features = rows.values.shape
        self._members = [_Member(recipe, seed, steps, features) for seed in recipe.seeds]
        self._epochs_run = 0

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

    def trained(self) -> TrainedSpecialist:
        """The best weights of each member, calibrated on days that no member has seen."""
        for member in self._members:
            member.network.load_state_dict(member.best)
            member.network.eval()
        networks = tuple(member.network for member in self._members)
        raw = TrainedSpecialist(networks, self.scaling, 1.0, ConformalSets(0.0, self.recipe.miss_fraction))
        logits, outcome = raw.logits(self._rows.values[self._calibrate]), self._rows.outcome[self._calibrate]
        temperature = fit_temperature(logits, outcome)
        conformal = fit_conformal(softmax(logits, temperature), outcome, self.recipe.miss_fraction)
        return TrainedSpecialist(networks, self.scaling, temperature, conformal)

    def _pass(self, member: _Member) -> float:
        member.network.train()
        order = torch.from_numpy(self._fit)[torch.randperm(len(self._fit))]
        total = 0.0
        for batch in torch.split(order, self.recipe.batch_rows):
            member.optimiser.zero_grad(set_to_none=True)
            loss = self._loss(member.network, batch, self.recipe.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not say
            member.optimiser.step()
            total += float(loss.detach()) * len(batch)
        return total / len(order)

    def _held_out(self, member: _Member) -> float:
        """Notes the best weights so far."""
        member.network.eval()
        with torch.inference_mode():
            loss = float(self._loss(member.network, torch.from_numpy(self._stop), 0.0))
        member.waited += 1
        if loss < member.best_loss:
            member.best_loss, member.waited = loss, 0
            member.best = {name: value.clone() for name, value in member.network.state_dict().items()}
        return loss

    def _loss(self, network: Specialist, batch: Tensor, smoothing: float) -> Tensor:
        logits, quantiles = network(self._inputs[batch])
        weight, target = self._weight[batch], self._target[batch]
        entropy = nn.functional.cross_entropy(logits, self._outcome[batch], reduction="none", label_smoothing=smoothing)
        known = torch.isfinite(target)
        error = torch.where(known, target, 0.0)[:, None] - quantiles
        level = torch.tensor(QUANTILES)
        pinball = torch.maximum(level * error, (level - 1.0) * error).mean(dim=1) * known
        return ((entropy + self.recipe.pinball_weight * pinball) * weight).sum() / weight.sum()

    # -- to stop and to go on ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that is needed to go on, bit-equal."""
        found: dict[str, NDArray[np.generic]] = {"epochs_run": np.asarray(self._epochs_run)}
        for number, member in enumerate(self._members):
            found[f"{number}/best_loss"], found[f"{number}/waited"] = np.asarray(member.best_loss), np.asarray(member.waited)
            moments = member.optimiser.state_dict()["state"]
            for name, value in member.network.state_dict().items():
                found[f"{number}/weights/{name}"] = value.numpy().copy()
                found[f"{number}/best/{name}"] = member.best[name].numpy().copy()
            for place, kept in moments.items():
                for name, value in kept.items():
                    found[f"{number}/moments/{place}/{name}"] = value.numpy().copy()
        return found

    def restore(self, state: Arrays) -> None:
        """Go on where `state` was taken. BadInput for that of another recipe or other rows."""
        try:
            for number, member in enumerate(self._members):
                self._restore_member(member, number, state)
            self._epochs_run = int(state["epochs_run"])
        except (KeyError, RuntimeError) as error:
            raise BadInput(f"training: this state is not one of {self.recipe.network} over these rows: {error}") from error

    def _restore_member(self, member: _Member, number: int, state: Arrays) -> None:
        names = list(member.network.state_dict())
        member.network.load_state_dict({name: torch.from_numpy(state[f"{number}/weights/{name}"].copy()) for name in names})
        member.best = {name: torch.from_numpy(state[f"{number}/best/{name}"].copy()) for name in names}
        member.best_loss, member.waited = float(state[f"{number}/best_loss"]), int(state[f"{number}/waited"])
        told = member.optimiser.state_dict()
        prefix = f"{number}/moments/"
        moments: dict[int, dict[str, Tensor]] = {}
        for key in (key for key in state if key.startswith(prefix)):
            place, name = key.removeprefix(prefix).split("/")
            moments.setdefault(int(place), {})[name] = torch.from_numpy(state[key].copy())
        member.optimiser.load_state_dict({**told, "state": moments})


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


def scaling_of(values: Single) -> Scaling:
    """Of values [rows, steps, features]; a feature that is never known, or does not move, is left as it is."""
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    known = np.isfinite(flat).any(axis=0)
    mean, deviation = np.zeros(flat.shape[1]), np.ones(flat.shape[1])
    mean[known], spread = np.nanmean(flat[:, known], axis=0), np.nanstd(flat[:, known], axis=0)
    deviation[known] = np.where(spread > DEVIATION_MIN, spread, 1.0)
    return Scaling(mean.astype(np.float32), deviation.astype(np.float32))
