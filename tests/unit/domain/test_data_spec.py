"""A data spec is its features: whatever changes what a row means changes its hash, and who expects another is refused by name."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finagent.domain.bars import no_history
from finagent.domain.data_spec import AvailableAt, DataSpec, FeatureSpec, Group, difference
from finagent.domain.errors import BadInput


def feature(name: str) -> FeatureSpec:
    return FeatureSpec(name, Group.RETURNS, "fraction", 2, 2, ("close",), AvailableAt.PREVIOUS_CLOSE, "close / close before - 1")


def altered(key: str, value: Any) -> DataSpec:
    """SPEC with another second feature."""
    return DataSpec("prices", (SPEC.features[0], replace(SPEC.features[1], **{key: value}), SPEC.features[2]))


SPEC = DataSpec("prices", tuple(feature(name) for name in ("one", "two", "three")))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (DataSpec("prices", (replace(SPEC.features[0], name="uno"), *SPEC.features[1:])), "feature 1 is uno, expected one"),
        (DataSpec("prices", (SPEC.features[1], SPEC.features[0], SPEC.features[2])), "feature 1 is two, expected one"),
        (DataSpec("prices", SPEC.features[:2]), "three missing"),
        (DataSpec("prices", (*SPEC.features, feature("four"))), "four not expected"),
        *(
            (altered(key, value), f"{key} of two")
            for key, value in (
                ("dtype", "float32"),
                ("unit", "percent"),
                ("window", 3),
                ("warmup", 3),
                ("inputs", ("open",)),
                ("available_at", AvailableAt.OPEN),
                ("neutral", 0.0),
                ("fitted", True),
                ("version", 2),
                ("group", Group.VOLUME),
            )
        ),
    ],
)
def test_a_changed_feature_is_another_spec(changed: DataSpec, told: str) -> None:
    assert changed.hash != SPEC.hash
    with pytest.raises(BadInput, match=f"model m-1 is made for data spec {SPEC.hash}.*{told}"):
        changed.require(SPEC, "model m-1")


def test_where_a_formula_stands_is_no_part_of_it() -> None:
    said = DataSpec("other name", tuple(replace(each, source="elsewhere") for each in SPEC.features))
    assert said.hash == SPEC.hash
    said.require(SPEC, "model m-1")
    assert difference(SPEC, said) == ""


def test_features_are_found_by_name() -> None:
    chosen = SPEC.select("some", ("three", "one"))
    assert chosen.names == ("three", "one")
    assert SPEC.shape(7) == (7, 3)
    assert SPEC.columns["three"] == 2
    with pytest.raises(BadInput, match="no feature four"):
        SPEC.select("some", ("four",))


def test_a_spec_has_each_feature_once() -> None:
    with pytest.raises(BadInput, match="one declared twice"):
        DataSpec("prices", (feature("one"), feature("one")))
    with pytest.raises(BadInput, match="no feature"):
        DataSpec("prices", ())


def test_daily_bars_have_one_shape() -> None:
    history = no_history(("AAPL", "IBM"))
    with pytest.raises(BadInput, match=r"daily bars: volume has shape \(1, 2\), not \(0, 2\)"):
        replace(history, volume=np.zeros((1, 2)))
