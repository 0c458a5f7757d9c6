"""The transparent baseline: a documented formula on point-in-time facts, no fitted parameter.

    z = 6 * min(|gap|, 0.20) + 0.5 * ln(relative_volume) + 2 * (position_in_range - 0.5)
    score = 1 / (1 + exp(-z))

A large gap, unusual volume for the minute, and a price that holds the end of its range in the direction of the gap are
what the gap-and-go rule of the trade looks for (docs/strategy.md). The weights are chosen, not fitted: they put the three
terms on a like scale (a 10 % gap, 3.3x volume, the top tenth of the range add 0.6, 0.6 and 0.8).
"""

from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.ports.predictor import Forecasts
from finagent.quant.features.catalogue import CANDIDATE

SPEC = CANDIDATE.select("gap and go", ("gap_magnitude", "log_relative_volume", "position_in_range"))
GAP_CAP = 0.20
WEIGHTS = (6.0, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class GapAndGoFormula:
    """Predictor over SPEC."""

    model_version: str = "gap-and-go-formula-1"
    digest: str = ""

    @property
    def spec(self) -> DataSpec:
        return SPEC

    def predict(self, rows: Floats) -> Forecasts:
        """Of rows [n, 3]; NaN where a feature is not finite."""
        terms = np.stack([np.minimum(rows[:, 0], GAP_CAP), rows[:, 1], rows[:, 2] - 0.5], axis=1)
        score: Floats = 1.0 / (1.0 + np.exp(-(terms @ np.asarray(WEIGHTS))))
        return Forecasts.sure(np.where(np.isfinite(rows).all(axis=1), score, np.nan))
