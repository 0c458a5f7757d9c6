"""The networks behind one key: a causal dilated convolution net, a GRU and a flat MLP, with the same two heads.

Imports torch, which the agent does not: what serves is exported from these weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES
from finagent.quant.specialists.training_plan import Architecture

QUANTILES = (0.05, 0.5, 0.95)
TAPS = 3
DILATIONS = (1, 2, 4, 8)  # with three taps the last step sees 31 steps back
STANDARD_MAX = 5.0  # deviations from the mean beyond which an input says no more


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """`steps` x `features` in, `hidden` units inside; `dropout` of them are left out in training."""

    architecture: Architecture
    steps: int
    features: int
    hidden: int = 64
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if min(self.steps, self.features, self.hidden) < 1 or not 0.0 <= self.dropout < 1.0:
            raise BadInput(f"network: {self}: sizes from 1 and a dropout from 0 to below 1 are needed")


class Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 15, 2014) whose chance is handed in: the state of the process decides nothing."""

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction
        self.chance: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.fraction:
            return values
        drawn = torch.rand(values.shape, generator=self.chance, device=values.device)
        return values * (drawn >= self.fraction) / (1.0 - self.fraction)


class Network(nn.Module):
    """Standard inputs [rows, steps, features] and which steps are there [rows, steps] to logits [rows, 3] of Outcome and to
    QUANTILES [rows, 3] of the return over the ATR, which never cross."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        hidden, flat = shape.hidden, shape.steps * shape.features
        if shape.architecture is Architecture.MLP:
            self.first, self.second = nn.Linear(flat, hidden), nn.Linear(hidden, hidden)
        else:
            self.embed = nn.Linear(shape.features, hidden)
        if shape.architecture is Architecture.GRU:
            self.gru = nn.GRU(hidden, hidden, batch_first=True)
        if shape.architecture is Architecture.CONVOLUTION:
            self.convolutions = nn.ModuleList(nn.Conv1d(hidden, hidden, TAPS, dilation=each) for each in DILATIONS)
        self.drop = Dropout(shape.dropout)
        self.classes, self.quantiles = nn.Linear(hidden, CLASSES), nn.Linear(hidden, len(QUANTILES))

    def forward(self, inputs: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.drop(self._hidden(inputs, there.unsqueeze(-1)))
        middle_and_widths = self.quantiles(hidden)
        middle, widths = middle_and_widths[:, 1:2], functional.softplus(middle_and_widths[:, ::2])
        return self.classes(hidden), torch.cat([middle - widths[:, :1], middle, middle + widths[:, 1:]], dim=1)

    def _hidden(self, inputs: Tensor, there: Tensor) -> Tensor:
        """[rows, hidden]; a step that is not there adds nothing."""
        if self.shape.architecture is Architecture.MLP:
            once = functional.relu(self.first((inputs * there).flatten(1)))
            return functional.relu(self.second(self.drop(once)))
        embedded = self.embed(inputs) * there
        if self.shape.architecture is Architecture.GRU:
            last: Tensor = self.gru(embedded)[0][:, -1]
            return last
        newest: Tensor = self.convolved(embedded, there)[:, :, -1]
        return newest

    def convolved(self, embedded: Tensor, there: Tensor) -> Tensor:
        """[rows, hidden, steps] of embedded steps [rows, steps, hidden]: each sees itself and those before it."""
        steps, mask = embedded.transpose(1, 2), there.transpose(1, 2)
        for convolution, dilation in zip(self.convolutions, DILATIONS, strict=True):
            padded = functional.pad(steps, ((TAPS - 1) * dilation, 0))  # on the left only: no step sees a later one
            steps = steps + self.drop(functional.relu(convolution(padded))) * mask
        return steps


def build_network(shape: NetworkShape, seed: int) -> Network:
    """With weights that depend on the seed alone; the generator of the process is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(shape)


def load_network(shape: NetworkShape, weights: Mapping[str, Tensor]) -> Network:
    """With those weights, for forecasts."""
    network = build_network(shape, 0)
    network.load_state_dict(dict(weights))
    return network.eval()


def pinball(quantiles: Tensor, targets: Tensor) -> Tensor:
    """The loss whose least mean is at QUANTILES [rows] (Koenker & Bassett, Econometrica 46, 1978)."""
    levels = torch.tensor(QUANTILES, dtype=quantiles.dtype, device=quantiles.device)
    over = targets.unsqueeze(1) - quantiles
    return torch.maximum(levels * over, (levels - 1.0) * over).mean(dim=1)
