"""Which classes a forecast cannot rule out, by split conformal prediction; who cannot rule out the other side does not trade."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES, Outcome
from finagent.quant.evaluation.scores import Classes, require_forecasts

Sets = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """A class is in the set when its probability is at least `probability_min`; 0 where too few rows were at hand to rule out
    anything."""

    probability_min: float

    def sets(self, probabilities: Floats) -> Sets:
        """[rows, classes]; a forecast that is not finite rules out nothing."""
        told: Sets = ~(probabilities < self.probability_min)
        return told


def fit_conformal(probabilities: Floats, outcomes: Classes, miss_fraction: float) -> ConformalSets:
    """From rows that the model did not learn from; exchangeable rows then miss at most `miss_fraction` of the time. (Vovk et al.,
    Algorithmic Learning in a Random World, 2005; the score is 1 - p of Sadinle et al., JASA 114, 2019.)

    `probabilities` [rows, classes], `outcomes` [rows]; errors as of log_losses, BadInput for a fraction that is not in (0, 1).
    """
    require_forecasts(probabilities, outcomes)
    if not 0.0 < miss_fraction < 1.0:
        raise BadInput(f"conformal sets: miss_fraction is {miss_fraction}, must be between 0 and 1")
    of_truth = np.sort(probabilities[np.arange(len(outcomes)), outcomes])
    allowed = math.floor(miss_fraction * (len(of_truth) + 1) * (1.0 + 1e-12))  # so that 0.1 of 10 rows is one row
    return ConformalSets(float(of_truth[allowed - 1]) if allowed else 0.0)


def sides(sets: Sets) -> NDArray[np.int8]:
    """[rows]: 1 where UP and not DOWN is in the set, -1 the other way round, 0 for both signs (abstain) or neither. BadInput for
    sets of other classes."""
    if sets.ndim != 2 or sets.shape[1] != CLASSES:
        raise BadInput(f"conformal sets: shape {sets.shape}, not rows of {CLASSES} classes")
    return sets[:, Outcome.UP].astype(np.int8) - sets[:, Outcome.DOWN].astype(np.int8)


def abstains(sets: Sets) -> NDArray[np.bool_]:
    """[rows]: the set holds both signs, or neither; errors as of sides."""
    abstaining: NDArray[np.bool_] = sides(sets) == 0
    return abstaining
