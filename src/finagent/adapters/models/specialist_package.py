"""A trained specialist as the package that serves: the graph, what is said of it, and rows that prove it at each load.

Imports onnx and torch, which the agent does not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from finagent.adapters.models.onnx_predictor import TOLERANCE, OnnxPredictor
from finagent.adapters.models.package import Canary, ModelFacts, ModelPackage, sealed
from finagent.adapters.models.specialist_graph import specialist_graph
from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.learning.learning_rows import Singles
from finagent.quant.specialists.specialist import Specialist, decided

GAP = "gap"
CANARY_ROWS = 16


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a package says beside what can be seen from it. `subject` says in words what the specialist is."""

    name: str
    version: str
    subject: str
    trained_until: date
    created_by: str
    metrics: Mapping[str, float]


def specialist_package(specialist: Specialist, spec: DataSpec, canary: Singles, provenance: Provenance) -> ModelPackage:
    """The package of a specialist of one step over the features of `spec`, some of which are its canary rows [rows, 1, features].

    The score is the probability that the price meets the barrier in the direction of the gap first, given that it meets one;
    without the feature GAP that direction is up. Unknown features count as the mean of what was learned from, except for GAP:
    such a row has no score. BadInput for a specialist of more steps or other features, for fewer than two canary rows that have
    one, and where ONNX Runtime does not say what torch says to 1e-5.
    """
    shape = specialist.shape
    if shape.steps != 1 or shape.features != len(spec.features):
        told = f"the specialist takes {shape.steps} steps of {shape.features}"
        raise BadInput(f"a package scores one row of {len(spec.features)} features; {told}")
    direction = spec.columns.get(GAP)
    finite = np.isfinite(canary[:, 0])
    known = canary[finite.any(axis=1) if direction is None else finite[:, direction]]
    if len(known) < 2:
        raise BadInput(f"{len(known)} canary rows of {len(canary)} can be scored: two are needed")
    chosen = known[np.unique(np.linspace(0, len(known) - 1, CANARY_ROWS).astype(np.intp))]
    means = zip(spec.names, specialist.inputs.mean.tolist(), strict=True)
    scores = specialist_scores(specialist, chosen, direction)
    facts = ModelFacts(
        name=provenance.name,
        version=provenance.version,
        description=_description(specialist, provenance.subject, directed=direction is not None),
        data_spec_hash=spec.hash,
        features=spec.names,
        imputation={name: mean for name, mean in means if name != GAP},
        trained_until=provenance.trained_until,
        metrics={**provenance.metrics, "temperature": specialist.temperature},
        created_by=provenance.created_by,
        canary=Canary(
            inputs=tuple(tuple(None if math.isnan(value) else value for value in row) for row in chosen[:, 0].tolist()),
            outputs=tuple(scores.tolist()),
        ),
    )
    package = sealed(facts, specialist_graph(specialist, direction))
    served = OnnxPredictor(package, spec).predict(known[:, 0].astype(np.float64))
    away = float(np.abs(served - specialist_scores(specialist, known, direction)).max())
    if not away <= TOLERANCE:  # NaN, too
        raise BadInput(f"the exported graph is {away:.3g} away from what was trained: more than {TOLERANCE:g}")
    return package


def specialist_scores(specialist: Specialist, inputs: Singles, direction: int | None = None) -> Floats:
    """What specialist_graph computes, by torch [rows]."""
    of_sides = decided(specialist.probabilities(inputs))
    up = of_sides[:, Outcome.UP]
    if direction is None:
        return up
    return np.where(inputs[:, -1, direction] < 0.0, of_sides[:, Outcome.DOWN], up)


def _description(specialist: Specialist, subject: str, *, directed: bool) -> str:
    wanted = "the barrier in the direction of the gap" if directed else "the upper barrier"
    skill = (
        "" if specialist.has_skill else " It did not beat the base rates on rows that it had not seen, so it tells them always."
    )
    made_of = f"{len(specialist.members)} networks ({specialist.shape.architecture.value})"
    return f"{subject}: {made_of}. Score: probability that the price meets {wanted} first, given that it meets one.{skill}"
