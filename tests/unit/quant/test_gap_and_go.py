"""The formula: bounded, monotone in what the rule looks for, blind to what is not a number."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.gap_and_go import GapAndGoFormula

FORMULA = GapAndGoFormula()


def score(*row: float) -> float:
    return float(FORMULA.predict(np.array([row])).scores[0])


def test_an_average_symbol_scores_a_half() -> None:
    assert score(0.0, 0.0, 0.5) == 0.5


rows = st.tuples(st.floats(0, 1), st.floats(-3, 5), st.floats(0, 1))


@given(rows)
def test_scores_lie_between_zero_and_one(row: tuple[float, float, float]) -> None:
    assert 0 < score(*row) < 1


@given(rows, st.sampled_from([0, 1, 2]), st.floats(0.001, 0.5))
def test_more_of_anything_never_scores_less(row: tuple[float, float, float], which: int, more: float) -> None:
    better = [value + (more if place == which else 0) for place, value in enumerate(row)]

    assert score(*better) >= score(*row)


def test_beyond_its_cap_a_gap_counts_no_further() -> None:
    assert score(0.20, 0.0, 0.5) == score(0.90, 0.0, 0.5)


@given(st.lists(rows, min_size=1, max_size=8), st.sampled_from([np.nan, np.inf, -np.inf]), st.sampled_from([0, 1, 2]))
def test_a_row_that_is_not_finite_has_no_score_and_touches_no_other(
    good: list[tuple[float, float, float]], poison: float, column: int
) -> None:
    batch = np.array([*good, (0.04, 0.7, 0.5)])
    clean = FORMULA.predict(batch).scores
    batch[-1, column] = poison
    scores = FORMULA.predict(batch).scores

    assert np.isnan(scores[-1])
    assert_array_equal(scores[:-1], clean[:-1])


def test_it_is_made_for_features_of_the_catalogue() -> None:
    assert FORMULA.spec.names == ("gap_magnitude", "log_relative_volume", "position_in_range")
    CANDIDATE.select("the same", FORMULA.spec.names).require(FORMULA.spec, FORMULA.model_version)
