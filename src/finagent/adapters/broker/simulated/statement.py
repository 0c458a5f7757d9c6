"""What the broker can be asked about its account beyond one order: lists, holdings, executions, day trades. Reads only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from finagent.adapters.broker.simulated.admission import Standing, available
from finagent.adapters.broker.simulated.changes import Pending
from finagent.adapters.broker.simulated.ledger import Ledger
from finagent.adapters.broker.simulated.ledger_rows import LIVE
from finagent.adapters.broker.simulated.orders import MINUTE, Execution, LedgerOrder
from finagent.adapters.broker.simulated.replacement import Replaced
from finagent.adapters.broker.simulated.tape import Tape
from finagent.domain.money import ZERO
from finagent.domain.orders import Side
from finagent.domain.sessions import Session
from finagent.domain.time import to_text

MICROSECOND = timedelta(microseconds=1)
INSTANT_ORDERS_MAX = 60_000_000  # orders of one instant keep apart within its minute


@dataclass(frozen=True, slots=True)
class Listed:
    """An order, when it came (its market time, moved on by a microsecond an order, so that a page can end between two), the first
    session in which it is worked (None: after the last), what took its place and whose place it took."""

    order: LedgerOrder
    submitted_at: datetime
    session: Session | None
    replaced: Replaced | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an order's report depends on beside the order: market time, groups with a cancel under way, shares held."""

    now: datetime
    cancelling: frozenset[str]
    positions: Mapping[str, int]


@dataclass(slots=True)
class Holding:
    """Shares of a symbol (negative: short), what they cost in USD, and how many of them no order has a claim on."""

    symbol: str
    quantity: int = 0
    cost: Decimal = ZERO
    free: int = 0
    price: Decimal = ZERO
    previous_close: Decimal = ZERO

    def take(self, execution: Execution) -> None:
        """Add an execution: what closes leaves the mean price, what opens moves it."""
        signed = execution.side.sign * execution.quantity
        if self.quantity * signed < 0:
            closed = min(abs(signed), abs(self.quantity)) * (1 if self.quantity > 0 else -1)
            self.cost -= self.cost / self.quantity * closed
            self.quantity -= closed
            signed += closed
        self.quantity += signed
        self.cost += signed * execution.price


class Statement:
    """A view of the broker's ledger at its present time. Lives on the broker's thread."""

    def __init__(
        self,
        ledger: Ledger,
        tape: Tape,
        live: Callable[[], list[LedgerOrder]],
        pending: Callable[[], list[Pending]],
        positions: Callable[[], Mapping[str, int]],
    ) -> None:
        self._ledger = ledger
        self._tape = tape
        self._live = live
        self._pending = pending
        self._positions = positions

    def order(self, broker_order_id: str) -> Listed | None:
        """One order, as it stands now."""
        return next((self._listed(*row) for row in self._ledger.orders_where("broker_order_id = ?", (broker_order_id,))), None)

    def named(self, client_order_id: str) -> Listed | None:
        """The last order that was opened under the client's id."""
        rows = self._ledger.orders_where("client_order_id = ?", (client_order_id,))
        return self._listed(*rows[-1]) if rows else None

    def listing(self, order: LedgerOrder) -> Listed:
        """The order as given, which may be as it stood before now, with when it came."""
        ((row_id, _),) = self._ledger.orders_where("broker_order_id = ?", (order.broker_order_id,))
        return self._listed(row_id, order)

    def group(self, group_id: str) -> list[Listed]:
        """An order and its legs, in the order in which they came, without legs that were replaced."""
        listed = [self._listed(*row) for row in self._ledger.orders_where("group_id = ?", (group_id,))]
        return [each for each in listed if each.replaced is None or each.order.broker_order_id == group_id]

    def orders(self, since: datetime | None = None, until: datetime | None = None) -> list[Listed]:
        """Every order that came in the minutes from `since` to `until`, the oldest first."""
        bounds = (to_text(since - MINUTE) if since else "", to_text(until) if until else "~")
        return [self._listed(*row) for row in self._ledger.orders_where("market_time BETWEEN ? AND ?", bounds)]

    def live(self) -> list[Listed]:
        """The orders that may still trade, the oldest first."""
        return [self._listed(*row) for row in self._ledger.orders_where(LIVE, ())]

    def surroundings(self, now: datetime) -> Surroundings:
        """As they are now."""
        return Surroundings(now, self.cancelling(), dict(self._positions()))

    def cancelling(self) -> frozenset[str]:
        """The groups whose cancel was taken and has not had its effect yet."""
        return frozenset(pending.subject for pending in self._pending() if pending.effect == "CANCEL")

    def executions(self, after: datetime | None, until: datetime) -> list[Execution]:
        """Executions in [after, until]."""
        return self._ledger.executions(after, until)

    def holdings(self, at: datetime) -> list[Holding]:
        """What the account holds at `at`, by symbol, valued at the last price."""
        found: dict[str, Holding] = {}
        for execution in self._ledger.executions(None, at):
            found.setdefault(execution.symbol, Holding(execution.symbol)).take(execution)
        held = [holding for _, holding in sorted(found.items()) if holding.quantity]
        for holding in held:
            holding.price = self.price(holding.symbol, at)
            holding.previous_close = self.previous_close(holding.symbol, at)
            live = tuple(order for order in self._live() if order.symbol == holding.symbol)
            closing = Side.SELL if holding.quantity > 0 else Side.BUY
            holding.free = available(closing, Standing(True, holding.price, holding.quantity, live, ZERO))
        return held

    def cash(self, start_cash: Decimal, at: datetime) -> Decimal:
        """USD in the account after the executions by then."""
        return sum((execution.cash_change for execution in self._ledger.executions(None, at)), start_cash)

    def price(self, symbol: str, at: datetime) -> Decimal:
        """The last price by then; zero where there never was one."""
        return (self._tape.last_price(symbol, at) if self._tape.lists(symbol) else None) or ZERO

    def previous_close(self, symbol: str, at: datetime) -> Decimal:
        """The close of the session before the one at hand."""
        session = self.session(at)
        return self.price(symbol, session.opens_at) if session else self.price(symbol, at)

    def session(self, at: datetime) -> Session | None:
        """The session at hand or the next one; None after the last."""
        return self._tape.session_of(at)

    def lists(self, symbol: str) -> bool:
        """Whether the symbol is known."""
        return self._tape.lists(symbol)

    def _listed(self, row_id: int, order: LedgerOrder) -> Listed:
        submitted_at = order.market_time + (row_id % INSTANT_ORDERS_MAX) * MICROSECOND
        replacements = self._ledger.replacements(order.broker_order_id)
        replaced = next((each for each in replacements if each.replaced_id == order.broker_order_id), None)
        replaces = next((each.replaced_id for each in replacements if each.by_id == order.broker_order_id), None)
        return Listed(order, submitted_at, self._tape.session_of(order.market_time), replaced, replaces)
