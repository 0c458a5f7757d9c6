"""Weights that were saved elsewhere, as a package: with what a person says of them, and nothing made up.

Needs `pip install "finagent[models]"`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import (
    MANIFEST_BYTES_MAX,
    ModelFacts,
    ModelPackage,
    first_fault,
    regular_file,
    sealed,
    write_package,
)
from finagent.adapters.models.roles import known_form
from finagent.adapters.models.specialist_export import exported
from finagent.adapters.models.state_dicts import open_state_dict
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import ConformalSets
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.training import TrainedSpecialist
from finagent.quant.specialists.training_rows import Scaling

FILES_MAX = 20
Mean = Annotated[float, Field(ge=-1e30, le=1e30)]  # what networks compute with has single precision
Above = Annotated[float, Field(ge=1e-30, le=1e30)]


class WeightsFacts(BaseModel):
    """What weights do not say: `features` are the columns that they were trained on, in their order, brought to one scale by
    `mean` and `deviation` (in the units that the features have here); `temperature` divides their logits, and 1 leaves them as
    they are. A class at least as probable as `probability_min` cannot be ruled out: where that is so of the way that the price
    should not go, the model abstains; without it never."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Annotated[str, Field(min_length=1, max_length=1000)]
    trained_until: date
    features: Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]
    mean: tuple[Mean, ...]
    deviation: tuple[Above, ...]
    temperature: Above = 1.0
    probability_min: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) != len(self.features):
                raise ValueError(f"{name} has {len(getattr(self, name))} values, and there are {len(self.features)} features")
        return self


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """State dicts in `files`, one a seed, become `name`@`version`; `about` is the file of their WeightsFacts."""

    name: str
    version: str
    files: Sequence[Path]
    about: Path
    by: str
    folder: Path


def import_weights(order: ImportOrder) -> ModelPackage:
    """The package, written once it has proven itself as a registry asks it to. It has no figures: nobody here has tested it.
    BadInput, naming the file, for whatever is not that."""
    version = known_form(f"{order.name}@{order.version}")
    if not 1 <= len(order.files) <= FILES_MAX:
        raise BadInput(f"{len(order.files)} state dicts: there must be 1 to {FILES_MAX}, one a seed")
    about = _about(order.about)
    spec = CANDIDATE.select(version, about.features)
    saved = [open_state_dict(file, len(about.features)) for file in order.files]
    scaling = Scaling(np.asarray(about.mean, np.float32), np.asarray(about.deviation, np.float32))
    sets = None if about.probability_min is None else ConformalSets(about.probability_min)
    trained = TrainedSpecialist(tuple(each.network for each in saved), scaling, about.temperature, sets)
    graph, canary, imputation = exported(trained, about.features)
    told = ", ".join(f"{each.kind} {each.digest[:16]}" for each in saved)
    facts = ModelFacts(
        name=order.name,
        version=order.version,
        description=f"{about.description} (imported from state dicts: {told})",
        data_spec_hash=spec.hash,
        features=about.features,
        imputation=imputation,
        trained_until=about.trained_until,
        metrics={},
        created_by=order.by,
        canary=canary,
    )
    package = sealed(facts, graph)
    OnnxPredictor(package, CANDIDATE)
    write_package(order.folder, package)
    return package


def _about(file: Path) -> WeightsFacts:
    if not file.exists():
        raise BadInput(f"{file}: there is no such file")
    try:
        return WeightsFacts.model_validate_json(regular_file(file, MANIFEST_BYTES_MAX))
    except ValidationError as error:
        raise BadInput(f"{file}: {first_fault(error)}") from error
