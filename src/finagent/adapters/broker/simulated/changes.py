"""What one transaction of the ledger stores."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from finagent.adapters.broker.simulated.orders import Execution, LedgerOrder
from finagent.adapters.broker.simulated.replacement import Replaced


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One row of ledger_request: what was asked, what was decided, what went wrong."""

    at: datetime
    method: str
    path: str
    client_order_id: str | None
    status: int
    fault: str


@dataclass(frozen=True, slots=True)
class Pending:
    """An effect that is due at a market time: SUBMIT (a late request, `body` its JSON) or CANCEL (of a group)."""

    due: datetime
    effect: str
    subject: str
    body: str
    sequence: int = 0


@dataclass(slots=True)
class Changes:
    """What one transaction stores."""

    clock: datetime | None = None
    by_request: bool = False
    orders: list[LedgerOrder] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    requests: list[RequestLine] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    applied: list[Pending] = field(default_factory=list)
    replaced: list[Replaced] = field(default_factory=list)
    cash: Decimal | None = None

    @property
    def empty(self) -> bool:
        return not (self.orders or self.executions or self.requests or self.pending or self.applied)
