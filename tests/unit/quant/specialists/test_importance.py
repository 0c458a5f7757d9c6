"""A feature is worth what a model loses without it; what it does not read is worth nothing."""

import numpy as np
import pytest

from finagent.domain.bars import Floats
from finagent.quant.evaluation.calibration import softmax
from finagent.quant.evaluation.labels import CLASSES, Outcome
from finagent.quant.specialists.importance import ROWS_MAX, permutation_importance
from finagent.quant.specialists.planted_edges import FLAT_LOGIT, LOGITS_A_UNIT, Edge, plant
from finagent.quant.specialists.training_rows import Single, TrainingRows

STRENGTH = 0.6


def rows_of(days: int, rows_a_day: int, edge: Edge = Edge.LINEAR) -> TrainingRows:
    planted = plant(edge, STRENGTH, 3, days=days, rows_a_day=rows_a_day, features=6)
    values = planted.features.astype(np.float32)[:, np.newaxis, :]
    count = len(planted.outcome)
    return TrainingRows(values, planted.outcome, np.zeros(count), planted.days, np.ones(count))


def oracle(values: Single) -> Floats:
    """What `plant` drew a linear edge with: it reads the first two features."""
    logits = np.zeros((len(values), CLASSES))
    logits[:, Outcome.FLAT] = FLAT_LOGIT
    logits[:, Outcome.UP] = LOGITS_A_UNIT * STRENGTH * (values[:, -1, 0] + values[:, -1, 1]) / np.sqrt(2.0) / 2.0
    logits[:, Outcome.DOWN] = -logits[:, Outcome.UP]
    return softmax(logits)


def test_what_a_model_reads_is_worth_something_and_what_it_does_not_read_is_worth_nothing() -> None:
    found = permutation_importance(oracle, rows_of(100, 8))

    assert (found.increase[:2] > 4.0 * found.standard_error[:2]).all()
    assert (found.standard_error[:2] > 0.0).all()
    assert found.increase[2:].tolist() == found.standard_error[2:].tolist() == [0.0] * 4


def test_a_model_that_reads_noise_gains_nothing_beyond_chance() -> None:
    rows = rows_of(100, 8)
    found = permutation_importance(lambda values: oracle(values[:, :, 2:]), rows)

    assert found.increase[:2].tolist() == [0.0, 0.0]
    assert (found.increase[2:4] < 3.0 * found.standard_error[2:4]).all()


def test_the_same_rows_give_the_same_figures() -> None:
    rows = rows_of(40, 5)
    first, again = permutation_importance(oracle, rows), permutation_importance(oracle, rows)

    assert first.increase.tolist() == again.increase.tolist()
    assert first.standard_error.tolist() == again.standard_error.tolist()


@pytest.mark.parametrize("days", [1, 2])
def test_an_error_needs_two_days(days: int) -> None:
    found = permutation_importance(oracle, rows_of(days, 30))

    assert len(found.increase) == len(found.standard_error) == (6 if days == 2 else 0)
    assert len(found.rows.days) == 30 * days


def test_of_many_rows_whole_days_are_left_out() -> None:
    rows = rows_of(500, 5)
    found = permutation_importance(oracle, rows)
    kept, counts = np.unique(found.rows.days, return_counts=True)

    assert len(found.rows.days) <= ROWS_MAX
    assert set(counts) == {5}
    assert (np.diff(kept) == 3).all()
    assert (found.increase[:2] > 3.0 * found.standard_error[:2]).all()


def test_days_count_alike_however_many_rows_they_have() -> None:
    """A day of a thousand rows that know nothing does not drown the others."""
    few, many = rows_of(30, 2), rows_of(1, 200, Edge.NONE)
    columns = {name: np.concatenate((getattr(few, name), getattr(many, name))) for name in ("values", "outcome", "target_atr")}
    days = np.concatenate((few.days, many.days + 30))
    found = permutation_importance(oracle, TrainingRows(**columns, days=days, weight=np.ones(len(days))))
    alone = permutation_importance(oracle, few)

    assert found.increase[0] == pytest.approx(alone.increase[0] * 30 / 31, rel=0.4)
