"""Positions and cash, changed by fills alone and exact to the last decimal."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from finagent.domain.money import ZERO
from finagent.domain.orders import Fill


@dataclass(frozen=True, slots=True)
class Position:
    """Everything we ever traded in a symbol: `cash_flow` = sales - purchases, `fees` paid, both USD and exact.

    Cash = start cash + sum(cash_flow - fees); the realised result of a flat symbol is its cash_flow - fees.
    """

    symbol: str
    quantity: int
    cash_flow: Decimal
    fees: Decimal
    updated_at: datetime

    def apply(self, fill: Fill) -> "Position":
        """The position after one more fill of its symbol."""
        signed = fill.side.sign * fill.quantity
        return replace(
            self,
            quantity=self.quantity + signed,
            cash_flow=self.cash_flow - signed * fill.price,
            fees=self.fees + fill.fee,
            updated_at=max(self.updated_at, fill.filled_at),
        )

    def value(self, price: Decimal) -> Decimal:
        """Cash flow, fees and open quantity at `price`: the symbol's contribution to equity."""
        return self.cash_flow - self.fees + self.quantity * price


def flat(symbol: str, at: datetime) -> Position:
    """A symbol never traded."""
    return Position(symbol, 0, ZERO, ZERO, at)


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """The account at an instant; `kind` OPEN (start of the session) or CLOSE (its end). USD."""

    session_date: date
    kind: str
    at: datetime
    cash: Decimal
    equity: Decimal
    orders: int
    fills: int
