"""The networks of a specialist, small enough for one core: sequences of feature rows in, logits of classes and quantiles out.

Needs torch (`pip install "finagent[models]"`); nothing on the trading path imports this.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES

QUANTILES = (0.05, 0.5, 0.95)
DILATIONS = (1, 2, 4, 8)
KERNEL = 3


class FlatNetwork(nn.Module):
    """All steps as one row through two layers: the plain one that the others have to beat."""

    def __init__(self, features: int, steps: int, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(steps * features, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, width] of [batch, steps, features]."""
        out: Tensor = self.body(rows)
        return out


class RecurrentNetwork(nn.Module):
    """A gated recurrent unit; its last state (Cho et al., EMNLP 2014)."""

    def __init__(self, features: int, steps: int, width: int, dropout: float) -> None:
        super().__init__()
        del steps  # any number of them
        self.unit = nn.GRU(features, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, width] of [batch, steps, features]."""
        states, _ = self.unit(rows)
        out: Tensor = self.dropout(states[:, -1])
        return out


class CausalBlock(nn.Module):
    """A dilated convolution that reads no later step, added to what went in."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = (KERNEL - 1) * dilation
        self.convolution = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.after = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def forward(self, series: Tensor) -> Tensor:
        """[batch, width, steps], as it came."""
        out: Tensor = series + self.after(self.convolution(nn.functional.pad(series, (self.reach, 0))))
        return out


class ConvolutionalNetwork(nn.Module):
    """Four causal blocks that see 31 steps back; the last step (Bai, Kolter & Koltun, arXiv 1803.01271)."""

    def __init__(self, features: int, steps: int, width: int, dropout: float) -> None:
        super().__init__()
        del steps  # any number of them
        self.entry = nn.Linear(features, width)
        self.blocks = nn.Sequential(*(CausalBlock(width, dilation, dropout) for dilation in DILATIONS))

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, width] of [batch, steps, features]."""
        series = self.entry(rows).transpose(1, 2)
        out: Tensor = self.blocks(series)[:, :, -1]
        return out


class Specialist(nn.Module):
    """A network with its two heads."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.classes = nn.Linear(width, CLASSES)
        self.quantiles = nn.Linear(width, len(QUANTILES))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes] and quantiles [batch, 3] of the net return over the ATR."""
        state = self.body(rows)
        return self.classes(state), self.quantiles(state)


NETWORKS: dict[str, Callable[[int, int, int, float], nn.Module]] = {
    "flat": FlatNetwork,
    "recurrent": RecurrentNetwork,
    "convolutional": ConvolutionalNetwork,
}


def specialist(network: str, features: int, steps: int, width: int, dropout: float, seed: int) -> Specialist:
    """A network that has learned nothing yet, always the same for a seed. BadInput for a name that is none of NETWORKS."""
    if network not in NETWORKS:
        raise BadInput(f"network {network!r}: it must be one of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Specialist(NETWORKS[network](features, steps, width, dropout), width)
