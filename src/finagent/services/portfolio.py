"""The one reading of the account: positions, cash and equity, from fills."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from finagent.domain.errors import InvariantViolated
from finagent.domain.money import ZERO
from finagent.domain.portfolio import Position
from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import LedgerIdentity


def ledger(reads: Reads) -> LedgerIdentity:
    """The identity of this database; raises InvariantViolated when it has none."""
    identity = reads.get(LedgerIdentity, 1)
    if identity is None:
        raise InvariantViolated("the database holds no ledger identity")
    return identity


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Positions with their start cash; USD."""

    start_cash: Decimal
    positions: tuple[Position, ...]

    @property
    def cash(self) -> Decimal:
        return self.start_cash + sum((p.cash_flow - p.fees for p in self.positions), ZERO)

    @property
    def open(self) -> tuple[Position, ...]:
        return tuple(position for position in self.positions if position.quantity)

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Cash plus open quantities at their marks; raises KeyError for an open symbol without one."""
        return self.cash + sum((p.quantity * marks[p.symbol] for p in self.open), ZERO)


def portfolio(reads: Reads) -> Portfolio:
    """The portfolio as committed."""
    return Portfolio(Decimal(ledger(reads).start_cash), tuple(reads.find(Position)))
