"""Scores by hand."""

import math

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.scores import accuracy, auc, brier_scores, climatology, log_losses

FORECASTS = np.asarray([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
OUTCOMES = np.asarray([2, 0, 0])


def test_log_loss_and_brier_score() -> None:
    assert log_losses(FORECASTS, OUTCOMES).tolist() == pytest.approx([math.log(2), math.log(10), 0.0])
    assert brier_scores(FORECASTS, OUTCOMES).tolist() == pytest.approx([0.04 + 0.09 + 0.25, 0.81 + 0.01 + 0.64, 0.0])
    assert log_losses(FORECASTS, np.asarray([2, 0, 1]))[2] == pytest.approx(-math.log(1e-12)), "finite when zero happens"


def test_the_worst_brier_score_is_two_and_the_input_is_left_alone() -> None:
    worst = FORECASTS[2:]
    assert brier_scores(worst, np.asarray([1])).tolist() == [2.0]
    assert worst.tolist() == [[1.0, 0.0, 0.0]]


def test_accuracy_with_its_standard_error() -> None:
    found = accuracy(np.tile(FORECASTS, (4, 1)), np.tile(OUTCOMES, 4))
    assert found.fraction == pytest.approx(2 / 3)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 9 / 12))


def test_rows_of_one_day_that_stand_or_fall_together_count_once() -> None:
    """Four copies of each row: the error is that of the rows without copies."""
    one = accuracy(FORECASTS, OUTCOMES)
    copied = accuracy(np.repeat(FORECASTS, 4, axis=0), np.repeat(OUTCOMES, 4), np.repeat(np.arange(3), 4))
    assert copied.standard_error == pytest.approx(one.standard_error)


def test_auc() -> None:
    happened = np.asarray([False, False, True, True])
    assert auc(np.asarray([0.1, 0.4, 0.35, 0.8]), happened) == 0.75
    assert auc(np.asarray([1.0, 2.0, 3.0, 4.0]), happened) == 1.0
    assert auc(np.full(4, 0.5), happened) == 0.5


def test_climatology_is_the_base_rate_of_what_was_learned_from() -> None:
    assert climatology(np.asarray([0, 2, 2, 2]), 3).tolist() == [0.25, 0.0, 0.75]
    assert climatology(np.asarray([0, 2, 2, 2]), 3, np.asarray([3.0, 1.0, 1.0, 1.0])).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("row", [[0.5, 0.6, -0.1], [0.5, 0.5, 0.5], [math.nan, 0.5, 0.5], [math.inf, 0.0, 0.0]])
def test_a_forecast_that_is_no_distribution_is_refused_by_its_row(row: list[float]) -> None:
    forecasts = FORECASTS.copy()
    forecasts[1] = row
    with pytest.raises(BadInput, match="the forecast of row 1 is no distribution"):
        log_losses(forecasts, OUTCOMES)


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="outcomes are from -1 to 2"):
        brier_scores(FORECASTS, np.asarray([-1, 0, 2]))
    with pytest.raises(BadInput, match="one row for each is needed"):
        accuracy(FORECASTS, OUTCOMES[:2])
    with pytest.raises(BadInput, match="0 rows of 3 happened"):
        auc(np.ones(3), np.zeros(3, dtype=bool))
    with pytest.raises(BadInput, match="must be finite"):
        auc(np.asarray([1.0, math.nan]), np.asarray([True, False]))
    with pytest.raises(BadInput, match="at least one is needed"):
        climatology(np.asarray([], dtype=np.int64), 3)
