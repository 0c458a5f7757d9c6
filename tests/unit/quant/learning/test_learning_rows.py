"""Rows to learn from are whole, and no part of a fold sees into the next."""

from dataclasses import replace

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.planted_edges import PlantedEdge, plant
from finagent.quant.learning.learning_rows import LearningRows, training_parts

ROWS = plant(PlantedEdge(strength=0.3, sessions=100, symbols=4), seed=1).learning_rows()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"inputs": ROWS.inputs.astype(np.float64)}, "inputs are float64"),
        ({"inputs": ROWS.inputs[:, 0]}, "inputs are"),
        ({"inputs": np.where(ROWS.inputs > 3.0, np.float32("inf"), ROWS.inputs)}, "input is infinite"),
        ({"targets_atr": np.full(400, np.nan)}, "target is not finite"),
        ({"outcomes": np.full(400, -1, dtype=np.int8)}, "outcome is not"),
        ({"starts": ROWS.starts[::-1].copy()}, "not in the order"),
        ({"ends": ROWS.ends[1:]}, "ends has shape"),
        ({"regimes": np.full((400, 3), 0.5)}, "no distribution"),
        ({"regimes": np.full((400, 3), np.nan)}, "no distribution"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_name(changed: dict[str, np.ndarray], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        replace(ROWS, **changed)


def test_parts_follow_each_other_with_a_gap_that_no_label_reaches_over() -> None:
    long = replace(ROWS, ends=ROWS.ends + 2)
    parts = training_parts(long, embargo=3)

    for before, after in ((parts.fit, parts.validation), (parts.validation, parts.calibration)):
        assert before.ends.max() + 3 < after.starts.min()
    assert parts.calibration.starts.max() == ROWS.starts.max()
    assert len(np.unique(parts.calibration.starts)) == 15
    assert not set(parts.validation.starts.tolist()) & set(parts.calibration.starts.tolist())


def test_too_few_rows_for_a_part_are_refused_by_its_name() -> None:
    few: LearningRows = ROWS.take(np.arange(12))
    with pytest.raises(BadInput, match="leave nothing for fit"):
        training_parts(few, embargo=5)
    with pytest.raises(BadInput, match="fractions"):
        training_parts(ROWS, validation_fraction=0.6, calibration_fraction=0.5)
