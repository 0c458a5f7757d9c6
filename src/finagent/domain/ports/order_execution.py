"""The broker, as far as an order is concerned."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Protocol

from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, SendOutcome, Side, TimeInForce


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One request: a single order, a bracket (entry with target and stop) or an OCO (target with stop). USD."""

    client_order_id: str
    symbol: str
    side: Side
    quantity: int
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    order_class: OrderClass
    time_in_force: TimeInForce
    take_profit_price: Decimal | None = None
    stop_loss_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the broker says of one order. `filled_quantity` is cumulative. `client_order_id` is the broker's own for legs:
    match a leg by (parent, leg), never by id."""

    broker_order_id: str
    client_order_id: str
    parent_broker_order_id: str | None
    leg: Leg | None
    symbol: str
    side: Side
    quantity: int
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    state: OrderState
    filled_quantity: int
    average_price: Decimal | None
    updated_at: datetime
    legs: tuple["OrderReport", ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """One execution; `execution_id` is unique for ever. Reports may come twice and out of order."""

    execution_id: str
    broker_order_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    fee: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class SendResult:
    """CONFIRMED carries the report; REFUSED the broker's code and message; UNRESOLVED what was seen; DENIED why the request never
    left."""

    outcome: SendOutcome
    report: OrderReport | None = None
    code: str = ""
    message: str = ""


class Found(Enum):
    """YES carries the report; NO is the broker's explicit "unknown id"; UNKNOWN: no usable answer."""

    YES = "YES"
    NO = "NO"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class LookUp:
    found: Found
    report: OrderReport | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """Executions, and the present reports of orders changed, in a span of market time."""

    executions: tuple[ExecutionReport, ...]
    orders: tuple[OrderReport, ...]


@dataclass(frozen=True, slots=True)
class TradeUpdate:
    """What a stream told of an order; the same message has the same `update_id`. `filled_quantity` is cumulative. Of a message
    that cannot be read `text` is all there is, beginning with what is wrong with it."""

    update_id: str
    event: str = ""
    broker_order_id: str = ""
    client_order_id: str = ""
    state: OrderState | None = None
    filled_quantity: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    account_id: str
    cash: Decimal
    buying_power: Decimal


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    symbol: str
    quantity: int


Objection = Callable[[], str]  # why a request may not leave; empty when it may


def no_objection() -> str:
    """Nothing speaks against it."""
    return ""


class OrderExecutionPort(Protocol):
    """Orders at the broker. Never raises for what a broker or network does to an order request: the answer says what is known.
    Reads raise Transient when there is no usable answer: a failed read is not an empty read. Every call has its own total
    deadline and does not block the loop."""

    @property
    def deduplicates_forever(self) -> bool:
        """The broker refuses a used client_order_id for ever, so the same intent may be sent again under the same id."""
        ...

    @property
    def stop_entry_brackets(self) -> bool:
        """A bracket may enter by a stop or stop-limit order; where not, such an entry goes alone and its exits follow it."""
        ...

    async def barrier(self) -> None:
        """Returns when no request of an earlier connection of ours can still be applied; Transient when one may."""
        ...

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        """Place an order. A refusal because the id is used is UNRESOLVED: look it up. `objection` is asked when nothing can come
        between it and the request any more; where it objects, the request does not leave: DENIED."""
        ...

    async def look_up(self, client_order_id: str) -> LookUp: ...

    async def cancel(self, broker_order_id: str) -> bool:
        """Ask to cancel the order and its group; True when the broker took the request. Its end is seen in the activity."""
        ...

    async def activity(self, since: datetime, until: datetime) -> Activity:
        """Everything with since <= market time <= until. Asked again, it answers the same."""
        ...

    async def open_orders(self) -> tuple[OrderReport, ...]:
        """Every order that is not terminal, legs as orders of their own."""
        ...

    async def positions(self) -> tuple[BrokerPosition, ...]: ...

    async def account(self) -> BrokerAccount: ...


class SimulatedVenue(Protocol):
    """The part of a simulated broker that real ones do not have: its market moves when told to."""

    async def advance(self, at: datetime) -> None:
        """Move market time to `at`: apply what is pending and due, then the bar that is complete at `at`. One commit, none
        when nothing changes; an instant it has seen changes nothing."""
        ...
