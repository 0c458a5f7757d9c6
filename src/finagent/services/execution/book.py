"""What a decision holds and has at the broker, read as one value."""

from dataclasses import dataclass

from finagent.domain.errors import Permanent
from finagent.domain.orders import BrokerOrder, Leg
from finagent.domain.ports.store import Reads
from finagent.domain.trade_plan import TradePlan


@dataclass(frozen=True, slots=True)
class DecisionBook:
    """All orders of one decision."""

    plan: TradePlan
    orders: tuple[BrokerOrder, ...]

    @property
    def entry(self) -> BrokerOrder | None:
        return next((order for order in self.orders if order.leg is Leg.ENTRY), None)

    @property
    def entered(self) -> int:
        """Shares that the entry filled."""
        return sum(order.filled_quantity for order in self.orders if order.leg is Leg.ENTRY)

    @property
    def held(self) -> int:
        """Shares entered and not yet exited."""
        return self.entered - sum(order.filled_quantity for order in self.orders if order.leg is not Leg.ENTRY)

    @property
    def live(self) -> tuple[BrokerOrder, ...]:
        return tuple(order for order in self.orders if order.state.live)

    def generation(self, leg: Leg) -> int:
        """The number of the next order of the leg."""
        return sum(1 for order in self.orders if order.leg is leg)


def decision_book(reads: Reads, decision_id: str) -> DecisionBook:
    """Raises Permanent when the decision has no plan."""
    plan = reads.get(TradePlan, decision_id)
    if plan is None:
        raise Permanent(f"{decision_id}: no plan is stored")
    return DecisionBook(plan, tuple(reads.find(BrokerOrder, decision_id=decision_id)))
