"""What a model learns from: features as they were known, what came of it, and when that was open."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import CLASSES
from finagent.quant.evaluation.walk_forward import Ints, Rows

Singles = NDArray[np.float32]
REGIMES = 3
SUM_ERROR_MAX = 1e-6
EMBARGO_SESSIONS = 5  # a trading week between what is learned from and what is judged


@dataclass(frozen=True, slots=True)
class LearningRows:
    """Rows in the order of their sessions.

    `inputs` [rows, steps, features], float32, NaN where unknown, the last step being that of the decision; `outcomes` [rows] see
    Outcome, none UNKNOWN; `targets_atr` [rows] the return over the ATR; `starts` and `ends` [rows] the sessions in which the
    label opens and is decided; `regimes` [rows, 3] the probability of each Regime as known at the decision.
    """

    inputs: Singles
    outcomes: NDArray[np.int8]
    targets_atr: Floats
    starts: Ints
    ends: Ints
    regimes: Floats

    def __post_init__(self) -> None:
        """BadInput, naming the array, for shapes that do not fit together and values that cannot be learned from."""
        rows = len(self.outcomes)
        if self.inputs.ndim != 3 or self.inputs.shape[0] != rows or not self.inputs.size or self.inputs.dtype != np.float32:
            raise BadInput(f"learning rows: inputs are {self.inputs.dtype}{list(self.inputs.shape)}, not float32 of {rows} rows")
        for name, shape in (("targets_atr", (rows,)), ("starts", (rows,)), ("ends", (rows,)), ("regimes", (rows, REGIMES))):
            if getattr(self, name).shape != shape:
                raise BadInput(f"learning rows: {name} has shape {getattr(self, name).shape}, not {shape}")
        if np.isinf(self.inputs).any() or not np.isfinite(self.targets_atr).all():
            raise BadInput("learning rows: an input is infinite or a target is not finite; leave such rows out")
        if self.outcomes.min() < 0 or self.outcomes.max() >= CLASSES:
            raise BadInput("learning rows: an outcome is not DOWN, FLAT or UP; leave rows without a label out")
        if (np.diff(self.starts) < 0).any():
            raise BadInput("learning rows: they are not in the order of their sessions")
        if (self.regimes < 0.0).any() or not (np.abs(self.regimes.sum(axis=1) - 1.0) <= SUM_ERROR_MAX).all():
            raise BadInput("learning rows: the regimes of a row are no distribution")

    def __len__(self) -> int:
        return len(self.outcomes)

    def take(self, rows: Rows) -> "LearningRows":
        """Those rows, ascending."""
        return LearningRows(
            self.inputs[rows],
            self.outcomes[rows],
            self.targets_atr[rows],
            self.starts[rows],
            self.ends[rows],
            self.regimes[rows],
        )


@dataclass(frozen=True, slots=True)
class TrainingParts:
    """Consecutive parts of one fold: weights are fitted on the first, training is stopped by the second, and the third, which
    neither saw, tells how sure the model may be."""

    fit: LearningRows
    validation: LearningRows
    calibration: LearningRows


def training_parts(
    rows: LearningRows, validation_fraction: float = 0.15, calibration_fraction: float = 0.15, embargo: int = EMBARGO_SESSIONS
) -> TrainingParts:
    """Cut between sessions; rows whose label is open within `embargo` sessions of the next part are purged. BadInput where a part
    would be empty."""
    sessions = np.unique(rows.starts)
    if not 0.0 < validation_fraction < 1.0 or not 0.0 < calibration_fraction < 1.0 - validation_fraction or embargo < 0:
        raise BadInput(
            f"training parts: fractions {validation_fraction} and {calibration_fraction} must be above 0 and leave something, "
            f"embargo {embargo} must be at least 0"
        )
    count = len(sessions)
    first_calibration = sessions[min(int(count * (1.0 - calibration_fraction)), count - 1)]
    first_validation = sessions[min(int(count * (1.0 - calibration_fraction - validation_fraction)), count - 1)]
    parts = (
        np.flatnonzero(rows.ends < first_validation - embargo),
        np.flatnonzero((rows.starts >= first_validation) & (rows.ends < first_calibration - embargo)),
        np.flatnonzero(rows.starts >= first_calibration),
    )
    for name, part in zip(("fit", "validation", "calibration"), parts, strict=True):
        if not len(part):
            raise BadInput(f"training parts: {len(rows)} rows of {count} sessions leave nothing for {name}; more are needed")
    fit, validation, calibration = (rows.take(part) for part in parts)
    return TrainingParts(fit, validation, calibration)
