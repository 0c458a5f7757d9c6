"""What a training has found out, gathered from its checkpoints and rows for the package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finagent.adapters.models.checkpoint_files import CHECKPOINT, Checkpoint, open_checkpoint
from finagent.adapters.models.row_files import RowFile
from finagent.domain.bars import Floats
from finagent.domain.model_evidence import FeatureImportance, ForwardBlock, HeldOut, LearningStep, ModelEvidence, ReliabilityBin
from finagent.quant.evaluation.calibration import reliability
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.walk_forward import Split
from finagent.quant.specialists.importance import SHUFFLES, Importance
from finagent.quant.specialists.training_rows import GAP
from finagent.quant.specialists.trials import TOLD
from finagent.services.models.training import Training

if TYPE_CHECKING:
    from finagent.bootstrap.training import TrainingPlan


def last_checkpoint(training: Training) -> Checkpoint:
    """Of a training that has ended."""
    return open_checkpoint(Path(training.folder) / CHECKPOINT)


def training_evidence(plan: "TrainingPlan", skill: float, importance: Importance) -> ModelEvidence:
    """Of trainings that have all ended; computed from nothing but what they left."""
    file, own = plan.file, plan.trials[plan.kind]
    tested = np.concatenate([split.test for split in plan.splits])
    told = np.concatenate([last_checkpoint(each).state[TOLD] for each in own])
    return ModelEvidence(
        model=plan.kind,
        skill=skill,
        learning=tuple(
            LearningStep(each["train_loss"], each["validation_loss"], int(each["members"]))
            for each in last_checkpoint(plan.final).figures
        ),
        reliability=_reliability(file, tested, told),
        blocks=_blocks(file, plan.splits, plan.trials),
        importance=tuple(
            FeatureImportance(name, float(increase), float(error))
            for name, increase, error in zip(file.features, importance.increase, importance.standard_error, strict=False)
        ),
        held_out=_held_out(file, importance),
    )


def _reliability(file: RowFile, tested: NDArray[np.intp], told: Floats) -> tuple[ReliabilityBin, ...]:
    """Of the score as it is served: the probability that the price goes the way of the gap."""
    with_gap = np.where(file.rows.values[tested, -1, file.features.index(GAP)] > 0.0, Outcome.UP, Outcome.DOWN)
    found = reliability(told[np.arange(len(told)), with_gap], file.rows.outcome[tested] == with_gap)
    return tuple(
        ReliabilityBin(float(forecast), float(happened), int(rows))
        for forecast, happened, rows in zip(found.forecast, found.happened, found.rows, strict=True)
    )


def _blocks(file: RowFile, splits: Sequence[Split], trials: Mapping[str, Sequence[Training]]) -> tuple[ForwardBlock, ...]:
    found = []
    for number, split in enumerate(splits):
        last = {kind: last_checkpoint(blocks[number]).figures[-1] for kind, blocks in trials.items()}
        days = file.rows.days[split.test]
        found.append(
            ForwardBlock(
                file.dates[int(days[0])],
                file.dates[int(days[-1])],
                len(split.test),
                {kind: figures["test_log_loss"] for kind, figures in last.items()},
                {kind: figures["test_brier"] for kind, figures in last.items()},
            )
        )
    return tuple(found)


def _held_out(file: RowFile, importance: Importance) -> HeldOut:
    days = importance.rows.days
    return HeldOut(file.dates[int(days[0])], file.dates[int(days[-1])], len(days), len(np.unique(days)), SHUFFLES)
