"""Everything committed about a candidate, gathered by decision: the one shape that reports and explanations start from."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from finagent.domain.decision import DecisionExit, DecisionOutcome
from finagent.domain.gap import GapCandidate
from finagent.domain.money import ZERO
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent, Side
from finagent.domain.ports.store import Reads
from finagent.domain.prediction import Prediction
from finagent.domain.risk import RiskDecision
from finagent.domain.trade_plan import TradePlan

R = TypeVar("R")
_LEGS = tuple(Leg)


@dataclass(frozen=True, slots=True)
class Story:
    """One decision from scan to exit. `intents` in order of leg and generation, `fills` in order of time."""

    candidate: GapCandidate
    prediction: Prediction | None
    plan: TradePlan | None
    verdict: RiskDecision | None
    intents: tuple[OrderIntent, ...]
    orders: dict[str, BrokerOrder]
    fills: tuple[Fill, ...]
    outcome: DecisionOutcome | None
    exit: DecisionExit | None

    @property
    def decision_id(self) -> str:
        return self.candidate.decision_id

    @property
    def open_quantity(self) -> int:
        """Shares still held through this decision; zero once it is flat."""
        return sum(fill.side.sign * fill.quantity for fill in self.fills)

    @property
    def cash_flow(self) -> Decimal:
        """Sales minus purchases minus fees, in USD: the result of a flat decision."""
        return sum((-fill.side.sign * fill.quantity * fill.price - fill.fee for fill in self.fills), ZERO)

    def average_price(self, side: Side) -> Decimal | None:
        """Mean price of the fills of one side, weighted by quantity; None where there are none."""
        fills = [fill for fill in self.fills if fill.side is side]
        quantity = sum(fill.quantity for fill in fills)
        return sum((fill.price * fill.quantity for fill in fills), ZERO) / quantity if quantity else None


def collect(reads: Reads, **where: Any) -> list[Story]:
    """The stories of the candidates that match `where` (none: of all), in order of scan time, then symbol."""
    candidates = sorted(reads.find(GapCandidate, **where), key=lambda one: (one.as_of, one.symbol))
    only = {"decision_id": [one.decision_id for one in candidates]} if where else {}
    if where and not candidates:
        return []
    predictions = _one_each(reads.find(Prediction, **only))
    plans = _one_each(reads.find(TradePlan, **only))
    verdicts = _one_each(reads.find(RiskDecision, **only))
    outcomes = _one_each(reads.find(DecisionOutcome, **only))
    exits = _one_each(reads.find(DecisionExit, **only))
    intents = _grouped(reads.find(OrderIntent, **only))
    orders = _grouped(reads.find(BrokerOrder, **only))
    fills = _grouped(reads.find(Fill, **only))
    return [
        Story(
            candidate=one,
            prediction=predictions.get(one.decision_id),
            plan=plans.get(one.decision_id),
            verdict=verdicts.get(one.decision_id),
            intents=tuple(sorted(intents[one.decision_id], key=lambda intent: (_LEGS.index(intent.leg), intent.generation))),
            orders={order.client_order_id: order for order in orders[one.decision_id]},
            fills=tuple(
                sorted(
                    fills[one.decision_id], key=lambda fill: (fill.filled_at, fill.client_order_id, fill.price, fill.execution_id)
                )
            ),
            outcome=outcomes.get(one.decision_id),
            exit=exits.get(one.decision_id),
        )
        for one in candidates
    ]


def _one_each(records: Iterable[R]) -> dict[str, R]:
    return {record.decision_id: record for record in records}  # type: ignore[attr-defined]  # every caller's record has one


def _grouped(records: Iterable[R]) -> defaultdict[str, list[R]]:
    groups: defaultdict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[record.decision_id].append(record)  # type: ignore[attr-defined]  # every caller's record has one
    return groups
