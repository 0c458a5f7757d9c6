"""Whatever a batch holds, each row gets the score that it gets alone, or none."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.adapters.models import packages

from finagent.adapters.models.onnx_predictor import TOLERANCE, OnnxPredictor
from finagent.quant.features.catalogue import CANDIDATE

IMPUTED = packages.SPEC.names[0]
PREDICTORS = [
    OnnxPredictor(packages.logistic_package(dtype=dtype, imputation={IMPUTED: 0.04}), CANDIDATE)
    for dtype in (np.float32, np.float64)
]
VALUES = st.one_of(
    st.floats(-5.0, 5.0),
    st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 0.0, -0.0]),
    st.floats(),
)
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=70)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from(PREDICTORS))
def test_a_batch_is_its_rows(rows: list[tuple[float, float, float]], predictor: OnnxPredictor) -> None:
    matrix = np.asarray(rows)
    together = predictor.predict(matrix).scores
    alone = np.concatenate([predictor.predict(matrix[place : place + 1]).scores for place in range(len(rows))])

    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE, equal_nan=True)
    scored = ~np.isnan(together)
    assert ((together[scored] >= 0.0) & (together[scored] <= 1.0)).all()


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from(PREDICTORS))
def test_who_has_a_score_is_known_beforehand(rows: list[tuple[float, float, float]], predictor: OnnxPredictor) -> None:
    """A row is scored when no value is infinite, what is unknown can be imputed, and something is known."""
    matrix = np.asarray(rows)
    with np.errstate(over="ignore"):
        narrow = matrix if predictor is PREDICTORS[1] else matrix.astype(np.float32).astype(np.float64)
    filled = narrow.copy()
    filled[np.isnan(narrow[:, 0]), 0] = 0.04
    expected = np.isfinite(filled).all(axis=1) & ~np.isnan(narrow).all(axis=1)
    overflows = np.abs(filled).max(axis=1, where=np.isfinite(filled), initial=0.0) > 1e30  # sums may be infinite: any answer

    found = ~np.isnan(predictor.predict(matrix).scores)
    np.testing.assert_array_equal(found[~overflows], expected[~overflows])


def test_the_bits_do_not_depend_on_who_waits_together() -> None:
    """Single precision on the CPU: a replay that was killed batches otherwise and must end the same."""
    rows = np.random.default_rng(11).normal(size=(64, 3))
    alone = np.concatenate([PREDICTORS[0].predict(rows[place : place + 1]).scores for place in range(64)])
    for size in range(1, 65):
        np.testing.assert_array_equal(PREDICTORS[0].predict(rows[:size]).scores, alone[:size])
