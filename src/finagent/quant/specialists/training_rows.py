"""What a training learns from, and how it is brought to one scale. Nothing here needs torch: rows are shared by all processes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput

Single = NDArray[np.float32]
GAP = "gap"  # the feature whose sign says which way a gap goes
DEVIATIONS_MAX = 5.0  # a standardised value beyond says no more than that
DEVIATION_MIN = 1e-12  # of a feature that does not move, and so says nothing


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

    def take(self, rows: NDArray[np.intp]) -> "TrainingRows":
        """Those rows, ascending. Without a gap between them they are a view: what is mapped from a file stays the one copy."""
        whole = len(rows) > 0 and len(rows) == rows[-1] - rows[0] + 1
        chosen = slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows
        return TrainingRows(*(getattr(self, name)[chosen] for name in ("values", "outcome", "target_atr", "days", "weight")))


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and deviation of each feature [features], of the days that were learned from alone."""

    mean: Single
    deviation: Single

    def applied(self, values: Single) -> Single:
        """Standardised, within DEVIATIONS_MAX, unknown values at the mean."""
        scaled = np.clip((values - self.mean) / self.deviation, -DEVIATIONS_MAX, DEVIATIONS_MAX)
        return np.where(np.isnan(scaled), np.float32(0.0), scaled).astype(np.float32)


def scaling_of(values: Single) -> Scaling:
    """Of values [rows, steps, features]; a feature that is never known, or does not move, is left as it is."""
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    known = np.isfinite(flat).any(axis=0)
    mean, deviation = np.zeros(flat.shape[1]), np.ones(flat.shape[1])
    mean[known], spread = np.nanmean(flat[:, known], axis=0), np.nanstd(flat[:, known], axis=0)
    deviation[known] = np.where(spread > DEVIATION_MIN, spread, 1.0)
    return Scaling(mean.astype(np.float32), deviation.astype(np.float32))
