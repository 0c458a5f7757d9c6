"""A trained specialist as a package that serves without torch.

Needs torch and onnx (`pip install "finagent[models]"`).
"""

import io
import warnings
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch
from torch import Tensor, nn

from finagent.adapters.models.package import Canary, ModelFacts, ModelPackage, sealed
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.specialists.training import DEVIATIONS_MAX, TrainedSpecialist

OPSET = 17
CANARY_ROWS = 16
GAP = "gap"


@dataclass(frozen=True, slots=True)
class SpecialistFacts:
    """What its maker says of it."""

    name: str
    version: str
    description: str
    trained_until: date
    metrics: dict[str, float]
    created_by: str


class _Score(nn.Module):
    """One score a row: the probability that the price goes the way of the gap."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, trained: TrainedSpecialist, gap_column: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(trained.networks)
        self.register_buffer("mean", torch.from_numpy(trained.scaling.mean))
        self.register_buffer("deviation", torch.from_numpy(trained.scaling.deviation))
        self.temperature, self.gap_column = trained.temperature, gap_column

    def forward(self, rows: Tensor) -> Tensor:
        """[batch, 1] of rows [batch, features]."""
        scaled = torch.clip((rows - self.mean) / self.deviation, -DEVIATIONS_MAX, DEVIATIONS_MAX)[:, None, :]
        logits = torch.stack([network(scaled)[0] for network in self.networks]).mean(0)
        told = torch.softmax(logits / self.temperature, dim=1)
        up, down = told[:, Outcome.UP : Outcome.UP + 1], told[:, Outcome.DOWN : Outcome.DOWN + 1]
        return torch.where(rows[:, self.gap_column : self.gap_column + 1] > 0.0, up, down)


def export_specialist(trained: TrainedSpecialist, spec: DataSpec, facts: SpecialistFacts) -> ModelPackage:
    """The package; unknown features take their mean in training. BadInput for a spec without the gap, or of another length."""
    if GAP not in spec.names or len(spec.names) != len(trained.scaling.mean):
        raise BadInput(
            f"export: {spec.name} has {len(spec.names)} features, and must have {GAP} and what the model was trained on"
        )
    module = _Score(trained, spec.columns[GAP]).eval()
    generator = np.random.Generator(np.random.Philox(key=0))
    noise = generator.normal(size=(CANARY_ROWS, len(spec.names))).astype(np.float32)
    rows = trained.scaling.mean + noise * trained.scaling.deviation
    with torch.inference_mode():
        scores = module(torch.from_numpy(rows)).numpy()[:, 0]
    canary = Canary(
        inputs=tuple(tuple(float(value) for value in row) for row in rows), outputs=tuple(float(score) for score in scores)
    )
    imputation = dict(zip(spec.names, (float(value) for value in trained.scaling.mean), strict=True))
    return sealed(
        ModelFacts(
            name=facts.name,
            version=facts.version,
            description=facts.description,
            data_spec_hash=spec.hash,
            features=spec.names,
            imputation=imputation,
            trained_until=facts.trained_until,
            metrics=facts.metrics,
            created_by=facts.created_by,
            canary=canary,
        ),
        _graph(module, len(spec.names)),
    )


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
            output_names=["score"],
            dynamic_axes={"x": {0: "rows"}, "score": {0: "rows"}},
        )
    return buffer.getvalue()
