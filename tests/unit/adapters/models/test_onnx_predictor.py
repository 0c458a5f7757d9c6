"""A model that has proven itself scores; one that has not is refused by name."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.unit.adapters.models import packages

from finagent.adapters.models.onnx_predictor import OnnxPredictor, Unending
from finagent.adapters.models.package import Canary, ModelPackage, sealed
from finagent.domain.errors import BadInput
from finagent.quant.features.catalogue import CANDIDATE

ROWS = np.asarray([[0.05, 0.7, 0.9], [0.11, 1.2, 0.1], [0.02, 0.0, 0.5]])


def package_of(model: bytes, **other: Any) -> ModelPackage:
    """A package whose canary is that of the logistic model."""
    return sealed(packages.facts_of(packages.SPEC, packages.logistic_package().manifest.canary, **other), model)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_the_formula(dtype: type) -> None:
    predictor = OnnxPredictor(packages.logistic_package(dtype=dtype), CANDIDATE)
    np.testing.assert_allclose(predictor.predict(ROWS).scores, packages.logistic_score(ROWS, packages.WEIGHTS), atol=1e-6)
    assert predictor.model_version == "gap-logistic@1"
    assert predictor.spec == packages.SPEC.select("gap-logistic@1", packages.SPEC.names)


def test_it_is_made_for_any_part_of_the_catalogue() -> None:
    spec = CANDIDATE.select("whole", CANDIDATE.names)
    weights = np.linspace(-0.2, 0.2, len(spec.features)).tolist()
    rows = np.random.default_rng(3).normal(size=(7, len(weights)))
    predictor = OnnxPredictor(packages.logistic_package(spec, weights), CANDIDATE)
    np.testing.assert_allclose(predictor.predict(rows).scores, packages.logistic_score(rows, weights), atol=1e-6)


def test_nothing_to_score_is_no_score() -> None:
    assert OnnxPredictor(packages.logistic_package(), CANDIDATE).predict(np.empty((0, 3))).scores.shape == (0,)


def test_unknown_values_take_what_the_manifest_says() -> None:
    predictor = OnnxPredictor(packages.logistic_package(imputation={"gap_magnitude": 0.05}), CANDIDATE)
    nan = np.nan
    scores = predictor.predict(np.asarray([[nan, 0.7, 0.9], [0.05, nan, 0.9], [nan, nan, nan], [0.05, 0.7, 0.9]])).scores
    assert scores[0] == scores[3]
    np.testing.assert_array_equal(np.isnan(scores), [False, True, True, False])


def test_a_row_of_which_nothing_is_known_has_no_score_even_where_all_is_imputed() -> None:
    imputation = dict.fromkeys(packages.SPEC.names, 0.1)
    predictor = OnnxPredictor(packages.logistic_package(imputation=imputation), CANDIDATE)
    scores = predictor.predict(np.asarray([[np.nan] * 3, [0.1, np.nan, np.nan]])).scores
    np.testing.assert_array_equal(np.isnan(scores), [True, False])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e300, np.nan])
def test_a_bad_row_has_no_score_and_harms_nobody(bad: float) -> None:
    predictor = OnnxPredictor(packages.logistic_package(), CANDIDATE)
    rows = ROWS.copy()
    rows[1, 2] = bad
    scores = predictor.predict(rows).scores
    np.testing.assert_array_equal(np.isnan(scores), [False, True, False])
    np.testing.assert_array_equal(scores[[0, 2]], predictor.predict(ROWS).scores[[0, 2]])


def test_a_score_outside_its_range_is_none() -> None:
    """The canary lies where the model keeps to [0, 1]; other rows do not."""
    model = packages.logistic_model((1.0, 0.0, 0.0), 0.5, last="Identity")
    canary = Canary(inputs=((0.1, 0.0, 0.0), (0.2, 0.0, 0.0)), outputs=(0.6, 0.7))
    predictor = OnnxPredictor(sealed(packages.facts_of(packages.SPEC, canary), model), CANDIDATE)
    scores = predictor.predict(np.asarray([[0.3, 0.0, 0.0], [0.6, 0.0, 0.0], [-0.6, 0.0, 0.0]])).scores
    np.testing.assert_allclose(scores, [0.8, np.nan, np.nan], atol=1e-6)


def test_output_that_is_not_finite_is_no_score() -> None:
    """ln of nothing is infinite, of less not a number."""
    model = packages.logistic_model((1.0, 0.0, 0.0), 0.0, last="Log")
    canary = Canary(inputs=((1.5, 0.0, 0.0), (2.0, 0.0, 0.0)), outputs=(float(np.log(1.5)), float(np.log(2.0))))
    predictor = OnnxPredictor(sealed(packages.facts_of(packages.SPEC, canary), model), CANDIDATE)
    scores = predictor.predict(np.asarray([[1.5, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])).scores
    np.testing.assert_array_equal(np.isnan(scores), [False, True, True])


def test_a_batch_that_fails_is_asked_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = OnnxPredictor(packages.logistic_package(), CANDIDATE)
    whole, call = predictor.predict(ROWS).scores, OnnxPredictor._call

    def failing(self: OnnxPredictor, rows: Any) -> Any:
        if any(row[0] > 0.1 for row in rows):
            raise BadInput("a row that the model cannot take")
        return call(self, rows)

    monkeypatch.setattr(OnnxPredictor, "_call", failing)
    np.testing.assert_array_equal(predictor.predict(ROWS).scores, [whole[0], np.nan, whole[2]])


WORDS = {
    "another data spec": (lambda: packages.logistic_package(data_spec_hash="0" * 16), "made for data spec 0000000000000000"),
    "an order of its own": (
        lambda: packages.logistic_package(features=tuple(reversed(packages.SPEC.names))),
        "their order, a formula or a unit has changed",
    ),
    "a feature that is not there": (
        lambda: packages.logistic_package(features=("gap_magnitude", "moon_phase", "position_in_range")),
        "has no feature moon_phase",
    ),
    "canary not reproduced": (
        lambda: package_of(packages.logistic_model((6.0, 0.5, 2.001))),
        "row 1 of its canary gives",
    ),
    "not finite": (lambda: package_of(packages.logistic_model(packages.WEIGHTS, -9.0, last="Log")), "output is not finite"),
    "out of range": (lambda: package_of(packages.logistic_model(packages.WEIGHTS, last="Exp")), r"not within \[0, 1\]"),
    "another width": (lambda: package_of(packages.logistic_model((1.0, 2.0))), "it must be rows x 3 features"),
    "two outputs": (
        lambda: package_of(packages.with_two_outputs(packages.logistic_package().model)),
        "1 inputs and 2 outputs",
    ),
    "an answer in words": (
        lambda: package_of(packages.abstaining_in_words(packages.logistic_package().model)),
        "its output 2 is no number, but object",
    ),
    "not a model to ONNX Runtime": (lambda: package_of(b"\x08\x08\x3a\x00"), "ONNX Runtime does not load it"),
    "an operator that nobody has": (
        lambda: package_of(packages.logistic_model(packages.WEIGHTS, last="Sigmund")),
        "ONNX Runtime does not load it",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_has_not_proven_itself_is_refused_by_name(name: str) -> None:
    make: Callable[[], ModelPackage] = WORDS[name][0]
    with pytest.raises(BadInput, match="model gap-logistic@1 is refused: ") as refused:
        OnnxPredictor(make(), CANDIDATE)
    refused.match(WORDS[name][1])


def test_rows_that_depend_on_each_other_are_refused() -> None:
    rows = packages.canary_rows(3)
    scores = 1.0 / (1.0 + np.exp(-(rows - rows.mean(axis=0)).sum(axis=1)))
    canary = Canary(inputs=tuple(map(tuple, rows.tolist())), outputs=tuple(scores.tolist()))
    package = sealed(packages.facts_of(packages.SPEC, canary), packages.of_whole_batches())
    with pytest.raises(BadInput, match="another score alone than among others"):
        OnnxPredictor(package, CANDIDATE)


def test_a_canary_reproduces_to_the_promised_precision() -> None:
    """1e-5 off is another model, a tenth of that is rounding."""
    true = packages.logistic_package().manifest.canary
    for off, accepted in ((0.9e-5, True), (1.2e-5, False)):
        shifted = Canary(inputs=true.inputs, outputs=tuple(value + off for value in true.outputs if value is not None))
        package = sealed(packages.facts_of(packages.SPEC, shifted), packages.logistic_package().model)
        if accepted:
            OnnxPredictor(package, CANDIDATE)
        else:
            with pytest.raises(BadInput, match="of its canary gives"):
                OnnxPredictor(package, CANDIDATE)


SECONDS = 0.05


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "model-calls"]


def test_a_call_that_would_never_end_is_ended_and_the_model_is_not_asked_again() -> None:
    predictor = OnnxPredictor(packages.endless_package(100.0), CANDIDATE, call_seconds_max=SECONDS)
    np.testing.assert_allclose(predictor.predict(ROWS).scores, packages.logistic_score(ROWS, packages.WEIGHTS), atol=1e-5)
    with pytest.raises(Unending, match=r"its call of 4 rows had not ended after 0.05 s"):
        predictor.predict(np.concatenate((ROWS, [[200.0, 0.0, 0.0]])))
    with pytest.raises(Unending, match="it is not asked again"):
        predictor.predict(ROWS[:1])


def test_a_canary_that_never_ends_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"model gap-logistic@1 is refused: its call of 4 rows had not ended after 0.05 s"):
        OnnxPredictor(packages.endless_package(-100.0), CANDIDATE, call_seconds_max=SECONDS)


def test_one_thread_watches_all_calls_and_goes_when_there_are_none() -> None:
    before = set(watchers())
    predictor = OnnxPredictor(packages.logistic_package(), CANDIDATE, call_seconds_max=1.0)
    seen: set[threading.Thread] = set()
    for _ in range(500):
        predictor.predict(ROWS)
        now = set(watchers()) - before
        assert len(now) <= 1
        seen |= now
    assert seen
    for thread in seen:
        thread.join(60.0)
        assert not thread.is_alive()


def test_a_row_that_takes_more_memory_than_there_may_be_has_no_score_and_harms_nobody() -> None:
    predictor = OnnxPredictor(packages.greedy_package(1e6), CANDIDATE)
    rows = np.concatenate((ROWS, [[2000.0, 0.0, 0.0]]))  # 8 GB
    expected = packages.logistic_score(ROWS, packages.WEIGHTS)
    np.testing.assert_allclose(predictor.predict(rows).scores, [*expected, np.nan], atol=1e-5)


def test_a_canary_that_takes_more_memory_than_there_may_be_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"model gap-logistic@1 is refused: its canary cannot be computed: .* memory"):
        OnnxPredictor(packages.greedy_package(1e10), CANDIDATE)
