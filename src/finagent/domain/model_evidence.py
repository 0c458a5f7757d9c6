"""What a training has found out about its model, sealed into the package with it: nobody computes it again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from finagent.domain.errors import BadInput

FIGURE_MAX = 1e9  # of a loss: nobody can draw what is beyond, and nothing that was measured is


@dataclass(frozen=True, slots=True)
class LearningStep:
    """Mean losses of one epoch over the `members` (seeds) that still got better."""

    train_loss: float
    validation_loss: float
    members: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Of `rows` tested rows with about the same score: its mean, and the fraction in which what it forecasts happened."""

    forecast: float
    happened: float
    rows: int


@dataclass(frozen=True, slots=True)
class ForwardBlock:
    """A block of sessions that no model had seen: log-loss in nats and Brier score of each model by its name, days counting
    alike."""

    first: date
    last: date
    rows: int
    log_loss: Mapping[str, float]
    brier: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """By how many nats the log-loss of the networks grows when the feature is shuffled among the held-out rows, days counting
    alike, and the standard error of that over days."""

    feature: str
    log_loss_increase: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows that features were shuffled among, `shuffles` times each: no weights were learned from them."""

    first: date
    last: date
    rows: int
    sessions: int
    shuffles: int


@dataclass(frozen=True, slots=True)
class ModelEvidence:
    """`model` is the name that the model has among those of the walk-forward; `skill` the share of its networks in what it tells,
    the rest are base rates. `importance` is empty where there were too few held-out sessions for an error."""

    model: str
    skill: float
    learning: tuple[LearningStep, ...]
    reliability: tuple[ReliabilityBin, ...]
    blocks: tuple[ForwardBlock, ...]
    importance: tuple[FeatureImportance, ...]
    held_out: HeldOut

    def __post_init__(self) -> None:
        losses = [loss for step in self.learning for loss in (step.train_loss, step.validation_loss)]
        scores = [score for block in self.blocks for told in (block.log_loss, block.brier) for score in told.values()]
        increases = [number for each in self.importance for number in (each.log_loss_increase, each.standard_error)]
        if not all(math.fabs(figure) < FIGURE_MAX for figure in (*losses, *scores, *increases)):
            raise BadInput(f"evidence: a figure is not below {FIGURE_MAX:g}, or not finite")
        fractions = [self.skill, *(part for each in self.reliability for part in (each.forecast, each.happened))]
        if not all(0.0 <= part <= 1.0 for part in fractions):
            raise BadInput("evidence: a fraction is not from 0 to 1")
        counts = [each.rows for each in self.reliability] + [each.rows for each in self.blocks] + [self.held_out.rows]
        if min(counts) < 1 or not (self.learning and self.reliability and self.blocks):
            raise BadInput("evidence: a part of it has no rows")
        models = self.blocks[0].log_loss.keys()
        if self.model not in models or any(not models == each.log_loss.keys() == each.brier.keys() for each in self.blocks):
            raise BadInput(f"evidence: blocks tell of different models, or not of {self.model}")
