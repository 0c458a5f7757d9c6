"""What has one text, and what is no amount."""

from decimal import Decimal
from math import inf, nan

import pytest

from finagent.domain.errors import BadInput
from finagent.domain.money import exact, plain, to_tick


def test_zero_has_one_text() -> None:
    assert {plain(Decimal(text)) for text in ("0", "-0", "0.00", "-0.000", "0E+5")} == {"0"}


@pytest.mark.parametrize("number", [nan, inf, -inf, Decimal("nan"), Decimal("snan"), Decimal("inf")])
def test_what_is_not_a_number_is_no_amount_and_no_price(number: float | Decimal) -> None:
    with pytest.raises(BadInput, match="not a finite amount"):
        exact(number)
    with pytest.raises(BadInput, match="not a finite amount"):
        to_tick(number)
