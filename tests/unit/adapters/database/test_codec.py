"""Values as JSON text: the canonical form, and the quick one of payloads."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.adapters.database.codec import canonical_json, payload_json
from finagent.domain.errors import BadInput

leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(values)
def test_a_payload_says_what_its_canonical_text_says(value: Any) -> None:
    text = payload_json(value)

    assert orjson.loads(text) == orjson.loads(canonical_json(value)) == value
    assert text.isascii()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**64, {1: 2}, {"of": object()}])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="cannot be written as JSON"):
        payload_json({"value": value})


def test_scalars_of_the_domain_are_written_as_everywhere() -> None:
    value = {"at": datetime(2008, 10, 6, 13, 30, tzinfo=UTC), "price": Decimal("1E+2")}

    assert payload_json(value) == canonical_json(value) == '{"at":"2008-10-06T13:30:00.000000Z","price":"100"}'
