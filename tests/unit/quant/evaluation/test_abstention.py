"""Sets hold what happens as often as they say, and who cannot rule out the other side does not trade."""

import numpy as np
import pytest

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.abstention import abstains, fit_conformal, sides
from finagent.quant.evaluation.calibration import softmax


def test_the_threshold_by_hand() -> None:
    """Nine rows and one in ten may be missed: (9 + 1) / 10 = one row, so the least probability of a truth is the limit."""
    truth = np.asarray([0.9, 0.3, 0.5, 0.6, 0.7, 0.8, 0.4, 0.95, 0.55])
    forecasts = np.stack([truth, 1.0 - truth], axis=1)
    outcomes = np.zeros(9, dtype=np.int64)
    assert fit_conformal(forecasts, outcomes, 0.1).probability_min == 0.3
    assert fit_conformal(forecasts, outcomes, 0.25).probability_min == 0.4
    assert fit_conformal(forecasts, outcomes, 0.09).probability_min == 0.0, "too few rows to rule out anything"


def test_sides_and_abstention() -> None:
    sets = np.asarray(
        [
            [False, False, True],
            [False, True, True],
            [True, True, False],
            [True, False, True],
            [True, True, True],
            [False, True, False],
            [False, False, False],
        ]
    )
    assert sides(sets).tolist() == [1, 1, -1, 0, 0, 0, 0]
    assert abstains(sets).tolist() == [False, False, False, True, True, True, True]


def test_a_forecast_that_is_not_finite_rules_out_nothing() -> None:
    fitted = fit_conformal(np.full((99, 3), 1 / 3), np.zeros(99, dtype=np.int64), 0.1)
    sets = fitted.sets(np.full((1, 3), np.nan))
    assert sets.all()
    assert abstains(sets).tolist() == [True]


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="miss_fraction is 1"):
        fit_conformal(np.full((9, 3), 1 / 3), np.zeros(9, dtype=np.int64), 1.0)
    with pytest.raises(BadInput, match="not rows of 3 classes"):
        sides(np.ones((4, 2), dtype=bool))


@pytest.mark.statistics
@pytest.mark.parametrize("miss_fraction", [0.1, 0.3])
def test_coverage_of_a_model_that_is_wrong_by_much(miss_fraction: float) -> None:
    """The promise needs no good model: 400 times 60 rows to fit and 60 to test, of forecasts that are thrice too sure."""
    chance = np.random.default_rng(6)
    covered = []
    for _ in range(400):
        logits = chance.normal(size=(120, 3))
        outcomes = (chance.random((120, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1)
        forecasts = softmax(3.0 * logits)
        fitted = fit_conformal(forecasts[:60], outcomes[:60], miss_fraction)
        covered.append(fitted.sets(forecasts[60:])[np.arange(60), outcomes[60:]].mean())
    error = np.std(covered) / np.sqrt(len(covered))
    assert 1.0 - miss_fraction - 3.0 * error < np.mean(covered) < 1.0 - miss_fraction + 1.0 / 61.0 + 3.0 * error
