"""At what price an order trades in a bar: pure, the same for both sides by reflection at zero."""

from dataclasses import dataclass
from decimal import Decimal

from finagent.domain.money import Rounding, to_tick
from finagent.domain.orders import Side


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar in which something traded; USD and shares."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


@dataclass(frozen=True, slots=True)
class Costs:
    """Fractions of the price: half the spread, paid by every quote, and the slippage of an order that takes."""

    half_spread: Decimal
    slippage: Decimal


@dataclass(frozen=True, slots=True)
class Cross:
    """What a bar does to an order: its stop was elected, and the price at which it can trade (None: it cannot)."""

    elected: bool
    price: Decimal | None


def cross(side: Side, limit: Decimal | None, stop: Decimal | None, elected: bool, bar: Bar, costs: Costs) -> Cross:
    """Meet an order with a bar.

    The quote is half a spread beyond the bar's prices. A stop is elected when the bar reaches it and trades at the worse of
    stop and open, so a gap through it costs what it costs. A limit is never violated: touched at the open it takes the quote,
    reached later it gets its limit. After an election inside the bar the path is unknown: only the election price counts.
    """
    sign = side.sign
    opening, highest, lowest = bar.open * sign, bar.high * sign, bar.low * sign
    if sign < 0:
        highest, lowest = lowest, highest
    reference, from_open = opening, True
    if stop is not None and not elected:
        trigger = stop * sign
        if highest < trigger:
            return Cross(False, None)
        reference, from_open = max(opening, trigger), opening >= trigger
    quote = _quote(reference, costs.half_spread)
    taken = sign * to_tick(_quote(quote, costs.slippage), Rounding.UP)
    if limit is None:
        return Cross(True, taken)
    bound = limit * sign
    if quote <= bound:
        return Cross(True, sign * min(bound, taken * sign))
    if from_open and _quote(lowest, costs.half_spread) <= bound:
        return Cross(True, limit)
    return Cross(True, None)


def on_tick(price: Decimal) -> bool:
    """Whether the price meets the minimum increment."""
    return to_tick(price) == price


def _quote(price: Decimal, fraction: Decimal) -> Decimal:
    """The price moved against the taker; a reflected price is negative."""
    return price + abs(price) * fraction
