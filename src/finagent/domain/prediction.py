"""What the models say of a candidate."""

from dataclasses import dataclass
from datetime import datetime

from finagent.domain.finite import require_finite


@dataclass(frozen=True, slots=True)
class Prediction:
    """A committed score in [0, 1], rounded to `model.score_decimals`; names the model version and DataSpec hash."""

    decision_id: str
    model_version: str
    data_spec_hash: str
    score: float
    created_at: datetime

    def __post_init__(self) -> None:
        require_finite(self)
