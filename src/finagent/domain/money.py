"""Money is decimal: exact sums, prices on the tick."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import Enum
from math import isfinite

from finagent.domain.errors import BadInput

ZERO = Decimal(0)
LARGEST = Decimal(10) ** 18  # USD; below it a decimal of 28 digits has room for its fractions
CENT = Decimal("0.01")
SUB_DOLLAR_TICK = Decimal("0.0001")


class Rounding(Enum):
    """Which way a price goes to its tick."""

    DOWN = ROUND_FLOOR
    UP = ROUND_CEILING
    NEAREST = ROUND_HALF_EVEN


def to_tick(price: float | Decimal, rounding: Rounding = Rounding.NEAREST) -> Decimal:
    """The price on its tick: one cent from 1 USD up, 0.0001 USD below (SEC Rule 612).

    A float is read through its shortest text, so 0.1 is a tenth. Raises BadInput for NaN or infinity.
    """
    value = exact(price)
    tick = CENT if abs(value) >= 1 else SUB_DOLLAR_TICK
    return (value / tick).to_integral_value(rounding.value) * tick


def exact(number: float | Decimal) -> Decimal:
    """The decimal that the shortest text of the number names; refuses NaN and infinity by name."""
    if isinstance(number, Decimal):
        if not number.is_finite():
            raise BadInput(f"{number} is not a finite amount")
        return number
    if not isfinite(number):
        raise BadInput(f"{number} is not a finite amount")
    return Decimal(repr(float(number)))


def rounded(amount: Decimal, digits: int) -> Decimal:
    """To so many digits after the point; as it stands where it has none, being no number or larger than money is."""
    return round(amount, digits) if amount.is_finite() and abs(amount) < LARGEST else amount


def plain(amount: Decimal) -> str:
    """Decimal as text without exponent and without trailing zeros: one text an amount."""
    text = format(amount.normalize(), "f")
    return "0" if text in ("-0", "0") else text
