"""A trained specialist as a graph that serves without torch.

Needs torch and onnx (`pip install "finagent[models]"`).
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finagent.adapters.models.learners import specialist_training
from finagent.adapters.models.onnx_predictor import ABSTAINS
from finagent.adapters.models.package import Canary
from finagent.adapters.models.row_files import open_rows
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.specialists.experiment import State
from finagent.quant.specialists.importance import Importance, permutation_importance
from finagent.quant.specialists.training import TrainedSpecialist
from finagent.quant.specialists.training_rows import DEVIATIONS_MAX, GAP

Exported = tuple[bytes, Canary, dict[str, float]]

OPSET = 17
CANARY_ROWS = 16


class _Score(nn.Module):
    """A score a row, the probability that the price goes the way of the gap; and whether the conformal set of the row cannot rule
    out the other way, or rules out everything."""

    mean: Tensor
    deviation: Tensor
    base_rates: Tensor

    def __init__(self, trained: TrainedSpecialist, gap_column: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(trained.networks)
        self.register_buffer("mean", torch.from_numpy(trained.scaling.mean))
        self.register_buffer("deviation", torch.from_numpy(trained.scaling.deviation))
        self.register_buffer("base_rates", torch.from_numpy(trained.base_rates.astype(np.float32)))
        self.temperature, self.skill, self.gap_column = trained.temperature, trained.skill, gap_column
        self.conformal = trained.conformal

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, 1] twice, of rows [batch, features]."""
        scaled = torch.clip((rows - self.mean) / self.deviation, -DEVIATIONS_MAX, DEVIATIONS_MAX)[:, None, :]
        logits = torch.stack([network(scaled)[0] for network in self.networks]).mean(0)
        told = self.skill * torch.softmax(logits / self.temperature, dim=1) + (1.0 - self.skill) * self.base_rates
        up, down = told[:, Outcome.UP : Outcome.UP + 1], told[:, Outcome.DOWN : Outcome.DOWN + 1]
        upward = rows[:, self.gap_column : self.gap_column + 1] > 0.0
        own, other = torch.where(upward, up, down), torch.where(upward, down, up)
        if self.conformal is None:
            return own, torch.zeros_like(own, dtype=torch.bool)
        return own, (own < self.conformal.probability_min) | (other >= self.conformal.probability_min)


@dataclass(frozen=True, slots=True)
class SpecialistExport:
    """Of a training that has ended: the graph, what it says to some rows, what unknown features take, the share of the networks
    in what it tells, and what they rely on, whatever that share is."""

    graph: bytes
    canary: Canary
    imputation: dict[str, float]
    skill: float
    importance: Importance


def export_specialist(recipe: Mapping[str, Any], data: Path, state: State) -> SpecialistExport:
    """On one thread, whose sums any machine makes in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        file = open_rows(data, verify=False)
        training = specialist_training(recipe, file.rows)
        training.restore(state)
        trained = training.trained()
        importance = permutation_importance(replace(trained, skill=1.0).probabilities, training.held_out)
        return SpecialistExport(*exported(trained, file.features), trained.skill, importance)
    finally:
        torch.set_num_threads(threads)


def exported(trained: TrainedSpecialist, features: tuple[str, ...]) -> Exported:
    """Unknown features take their mean in training. BadInput for features without the gap, or of another count."""
    if GAP not in features or len(features) != len(trained.scaling.mean):
        raise BadInput(f"export: {len(features)} features, and there must be {GAP} and what the model was trained on")
    module = _Score(trained, features.index(GAP)).eval()
    generator = np.random.Generator(np.random.Philox(key=0))
    noise = generator.normal(size=(CANARY_ROWS, len(features))).astype(np.float32)
    rows = trained.scaling.mean + noise * trained.scaling.deviation
    with torch.inference_mode():
        scores = module(torch.from_numpy(rows))[0].numpy()[:, 0]
    if not np.isfinite(scores).all():
        raise BadInput("export: its scores are not finite")
    canary = Canary(
        inputs=tuple(tuple(float(value) for value in row) for row in rows), outputs=tuple(float(score) for score in scores)
    )
    return _graph(module, len(features)), canary, dict(zip(features, map(float, trained.scaling.mean), strict=True))


def _graph(module: nn.Module, features: int) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that this exporter is the old one: the new one needs another package and is no better here
        torch.onnx.export(
            module,
            (torch.zeros(2, features),),
            buffer,  # type: ignore[arg-type]  # it takes files, too, and says paths only
            dynamo=False,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["score", ABSTAINS],
            dynamic_axes={"x": {0: "rows"}, "score": {0: "rows"}, ABSTAINS: {0: "rows"}},
        )
    return buffer.getvalue()
