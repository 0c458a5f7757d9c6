"""Orders: the intent we committed, what we know of its life at the broker, and the one table of its states."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum

from finagent.domain.errors import BadInput
from finagent.domain.finite import require_finite


class Side(Enum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1


class OrderType(Enum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"


class TimeInForce(Enum):
    DAY = "DAY"
    GTC = "GTC"


class OrderClass(Enum):
    """How many orders one request carries: one; an entry with target and stop; a target with a stop."""

    SIMPLE = "SIMPLE"
    BRACKET = "BRACKET"
    OCO = "OCO"


class Leg(Enum):
    """The part an order plays in its decision."""

    ENTRY = "ENTRY"
    STOP = "STOP"
    TARGET = "TARGET"
    EXIT = "EXIT"


class SendOutcome(Enum):
    """What we know of a send; UNRESOLVED means look it up, never "it failed"."""

    CONFIRMED = "CONFIRMED"
    REFUSED = "REFUSED"
    DENIED = "DENIED"
    UNRESOLVED = "UNRESOLVED"


class OrderState(Enum):
    """The life of an order as we know it. PARKED is not terminal: a person or a later answer resolves it."""

    PENDING = "PENDING"  # intent committed; nothing known of the broker's side
    HELD = "HELD"  # a leg that waits for its parent's fill
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    DENIED = "DENIED"
    PARKED = "PARKED"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL

    @property
    def live(self) -> bool:
        """It may still trade at the broker, as far as we know."""
        return self not in TERMINAL


TERMINAL = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED, OrderState.DENIED})

# What a broker may report, weaker statements first: whatever ended an order outweighs what it did before, a fill outweighs all.
REPORTED = (
    OrderState.HELD,
    OrderState.ACCEPTED,
    OrderState.PARTIALLY_FILLED,
    OrderState.REJECTED,
    OrderState.EXPIRED,
    OrderState.CANCELLED,
    OrderState.FILLED,
)

# state -> states that a report may move it to: the stronger ones. A report that is not listed is old news and changes nothing,
# so any order of the same reports ends in the same state.
TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    OrderState.PENDING: frozenset(REPORTED) | {OrderState.DENIED, OrderState.PARKED},
    OrderState.PARKED: frozenset(REPORTED),
    **{state: frozenset(REPORTED[place + 1 :]) for place, state in enumerate(REPORTED)},
    OrderState.DENIED: frozenset(),
}


def advance(state: OrderState, reported: OrderState) -> OrderState:
    """The state after a report; old news leaves it as it is."""
    return reported if reported in TRANSITIONS[state] else state


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """The order as committed before it is sent. Prices in USD; `valid_until` bounds an entry (None: an exit).

    A bracket or OCO leg has the intent whose request carries it as parent. `reason` of an EXIT is STOP, TIME or MANUAL.
    """

    client_order_id: str
    decision_id: str
    parent_client_order_id: str | None
    leg: Leg
    generation: int
    symbol: str
    side: Side
    quantity: int
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    order_class: OrderClass
    time_in_force: TimeInForce
    rank: int
    reason: str
    valid_until: datetime | None
    committed_at: datetime

    def __post_init__(self) -> None:
        require_finite(self)
        if self.quantity <= 0:
            raise BadInput(f"intent {self.client_order_id}: quantity {self.quantity} is not positive")
        if (self.limit_price is None) == (self.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)):
            raise BadInput(f"intent {self.client_order_id}: {self.type.value} with limit price {self.limit_price}")
        if (self.stop_price is None) == (self.type in (OrderType.STOP, OrderType.STOP_LIMIT)):
            raise BadInput(f"intent {self.client_order_id}: {self.type.value} with stop price {self.stop_price}")


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """What we know of an intent at the broker. `filled_quantity` is cumulative; `outcome` None until the send ended."""

    client_order_id: str
    decision_id: str
    symbol: str
    parent_client_order_id: str | None
    leg: Leg
    replaces: str | None
    broker_order_id: str | None
    state: OrderState
    filled_quantity: int
    average_price: Decimal | None
    outcome: SendOutcome | None
    reason: str
    sends: int
    sent_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of ours, unique by the broker's execution id; price and fee in USD."""

    execution_id: str
    client_order_id: str
    decision_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    fee: Decimal
    filled_at: datetime

    def __post_init__(self) -> None:
        require_finite(self)
        if self.quantity <= 0 or self.price <= 0:
            raise BadInput(f"execution {self.execution_id}: quantity {self.quantity}, price {self.price}")
