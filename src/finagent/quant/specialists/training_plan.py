"""How a specialist is trained, as one frozen value."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from finagent.domain.errors import BadInput
from finagent.quant.learning.learning_rows import EMBARGO_SESSIONS


class Architecture(Enum):
    """The key: what stands between the inputs and the heads."""

    CONVOLUTION = "convolution"
    GRU = "gru"
    MLP = "mlp"


class Role(Enum):
    """Which market it is for; the generalist, which learns from all alike, is the control."""

    BULL = "bull"
    BEAR = "bear"
    SIDEWAYS = "sideways"
    GENERALIST = "generalist"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How a specialist is trained. Loss: cross-entropy with `label_smoothing` plus `quantile_weight` times the pinball loss. A
    member stops after `patience` epochs without a better log-loss on the validation part. A row weighs `regime_floor` plus the
    probability of the specialist's regime, over the rows of its day. `miss_fraction` see ConformalSets; with a p-value above
    `skill_p_max` against the base rates a specialist has no skill."""

    architecture: Architecture = Architecture.MLP
    role: Role = Role.GENERALIST
    seed: int = 0
    members: int = 5
    hidden: int = 64
    dropout: float = 0.3
    epochs: int = 40
    patience: int = 5
    batch_rows: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    quantile_weight: float = 0.3
    regime_floor: float = 0.1
    miss_fraction: float = 0.1
    skill_p_max: float = 0.05
    validation_fraction: float = 0.15
    calibration_fraction: float = 0.15
    embargo_sessions: int = EMBARGO_SESSIONS

    def __post_init__(self) -> None:
        for name in ("members", "hidden", "epochs", "patience", "batch_rows"):
            if getattr(self, name) < 1:
                raise BadInput(f"training plan: {name} is {getattr(self, name)}, must be at least 1")
        if not self.miss_fraction:
            raise BadInput("training plan: miss_fraction is 0, nothing could ever be ruled out: it must be above")
        if not 0 <= self.seed < 2**63 or not 0.0 < self.learning_rate < np.inf:
            raise BadInput(f"training plan: seed {self.seed} from 0 and learning_rate {self.learning_rate} above 0 are needed")
        for name in ("weight_decay", "quantile_weight", "regime_floor"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise BadInput(f"training plan: {name} is {getattr(self, name)}, must be 0 or more")
        for name in ("dropout", "label_smoothing", "miss_fraction", "skill_p_max"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise BadInput(f"training plan: {name} is {getattr(self, name)}, must be from 0 to below 1")
