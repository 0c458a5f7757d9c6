"""The simulated broker: one request in, one answer out, what it decided on the disk before it answers."""

import copy
import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from finagent.adapters.broker.simulated import wire
from finagent.adapters.broker.simulated.admission import (
    DUPLICATE,
    UNKNOWN_ORDER,
    Refusal,
    Standing,
    inadmissible,
    malformed,
    opens,
    reservation,
    unprocessable,
)
from finagent.adapters.broker.simulated.book import Book
from finagent.adapters.broker.simulated.changes import Changes, Pending, RequestLine
from finagent.adapters.broker.simulated.faults import Fault, FaultDraw
from finagent.adapters.broker.simulated.ledger import Ledger
from finagent.adapters.broker.simulated.ledger_rows import APPLIED_LATE
from finagent.adapters.broker.simulated.orders import MINUTE, LedgerOrder, next_minute, orders_of
from finagent.adapters.broker.simulated.policy import BrokerPolicy
from finagent.adapters.broker.simulated.replacement import Replaced, Replacement, irreplaceable, successor
from finagent.adapters.broker.simulated.statement import Statement
from finagent.adapters.broker.simulated.tape import Tape
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.errors import Transient
from finagent.domain.money import ZERO, plain
from finagent.domain.orders import OrderClass, TimeInForce
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.time import to_text
from finagent.services.failpoints import Failpoints

ORDERS, BY_CLIENT_ID = "/v2/orders", "/v2/orders:by_client_order_id"
WITHHELD: Json = {"withheld": True}


class SimulatedBroker:
    """Not thread-safe and blocking: one thread or process owns it and calls `handle` for one request after the other.

    Market time moves by `advance` alone. Every read answers as of the request's own market time, which may lie before the
    ledger's: a client that was killed and repeats an instant hears what it heard then. An order is opened, and a cancel asked
    for, only at the ledger's present time; anything else is a violation, recorded and answered as such.
    """

    def __init__(self, path: Path, market: MarketDataPort, policy: BrokerPolicy, seed: int, failpoints: Failpoints) -> None:
        self._policy = policy
        self._seed = seed
        self._faults = FaultDraw(policy.faults, seed)
        self._ledger = Ledger(path, failpoints)
        self._tape = Tape(market)
        try:
            self._load()
        except BaseException:
            self.close()
            raise
        self.statement = Statement(
            self._ledger, self._tape, lambda: list(self._book.live.values()), lambda: self._pending, lambda: self._positions
        )
        self.on_commit: list[Callable[[Changes], None]] = []
        self._methods: dict[str, Callable[[datetime], Json]] = {
            "advance": self._on_advance,
            "barrier": lambda at: {"status": 200, "body": None},
            "open_orders": self._on_open_orders,
            "positions": self._on_positions,
            "account": self._on_account,
        }

    def close(self) -> None:
        """Release the file, its lock and the market's loop."""
        self._tape.close()
        self._ledger.close()

    def forget_bars(self) -> None:
        """The market has other bars from now on: those that are known are loaded anew."""
        self._tape.forget()

    @property
    def now(self) -> datetime | None:
        """The ledger's market time; None before the first advance."""
        return self._now

    def handle(self, frame: Json) -> Json:
        """Answer one request: `status` and `body`, or `withheld`. A ledger that cannot be written answers 503."""
        try:
            at = wire.instant_from_json(frame["at"])
            advanced = wire.instant_from_json(frame["advanced"]) if frame.get("advanced") else None
            answer = self._answer_to(frame, at)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            return _refused(Refusal(400, 40010000, f"request body format is invalid: {error!r}"))
        try:
            if advanced is not None:
                self._advance(advanced)
            return answer()
        except sqlite3.Error as error:
            self._load()
            return _refused(Refusal(503, 50310000, f"ledger: {error}"))
        except Transient as error:
            self._load()
            return _refused(Refusal(503, 50310000, f"market data: {error}"))

    def _answer_to(self, frame: Json, at: datetime) -> Callable[[], Json]:
        """What will answer the frame; reads all of it before anything is done."""
        if frame["method"] == "submit":
            request = wire.request_from_json(frame["request"])
            late_minutes, rejected = int(frame.get("late_minutes", 0)), bool(frame.get("rejected"))
            return lambda: self._on_submit(request, at, late_minutes, rejected)
        if frame["method"] == "look_up":
            name = str(frame["client_order_id"])
            return lambda: self._on_look_up(name, at)
        if frame["method"] == "cancel":
            broker_order_id = str(frame["broker_order_id"])
            minutes = int(frame.get("late_minutes", 0))
            return lambda: self._on_cancel(broker_order_id, at, minutes)
        if frame["method"] == "replace":
            replaced_id, wanted = str(frame["broker_order_id"]), wire.replacement_from_json(frame["wanted"])
            return lambda: self._on_replace(replaced_id, wanted, at)
        if frame["method"] == "activity":
            since, until = wire.instant_from_json(frame["since"]), wire.instant_from_json(frame["until"])
            return lambda: self._on_activity(since, until)
        method = self._methods[frame["method"]]
        return lambda: method(at)

    def _load(self) -> None:
        """The state that is on the disk."""
        self._cash = self._ledger.open_account(self._policy.account_id, self._policy.start_cash_usd, self._seed)
        self._now = self._ledger.clock()
        self._pending = self._ledger.pending()
        self._uncommitted: list[LedgerOrder] = []
        self._told_until = self._ledger.last_visible()
        self._book = Book(self._policy, self._seed, self._ledger.live_orders())
        self._positions: dict[str, int] = defaultdict(int)
        for execution in self._ledger.executions(None, self._now) if self._now else ():
            self._positions[execution.symbol] += execution.side.sign * execution.quantity

    # -- market time ---------------------------------------------------------------------------------------------------------

    def _on_advance(self, at: datetime) -> Json:
        self._advance(at)
        return {"status": 200, "body": None}

    def _advance(self, at: datetime) -> None:
        """Everything that falls in (now, at], step by step, in one commit; no commit when nothing happened."""
        if self._now is not None and at <= self._now:
            return
        changes = Changes(clock=at)
        if self._now is not None:
            for step in self._steps(self._now, at):
                self._step(step, changes)
        self._now = at
        if not changes.empty:
            self._commit(changes)

    def _steps(self, after: datetime, until: datetime) -> list[datetime]:
        """The instants at which something may happen: effects due, and bars while an order lives."""
        due = {pending.due for pending in self._pending if pending.due <= until}
        start = after if self._book.live else min(due, default=until)
        return sorted(due.union(self._tape.bar_times(start, until)))

    def _step(self, at: datetime, changes: Changes) -> None:
        while self._pending and self._pending[0].due <= at:
            pending = self._pending.pop(0)
            changes.applied.append(pending)
            self._apply(pending, changes)
        session = self._tape.session_at_bar(at) if self._book.live else None
        if session is not None:
            self._book.match(at, lambda symbol: self._tape.bar(symbol, session, at))
            if at == session.closes_at:
                self._book.expire(at)
        self._collect(changes)

    def _apply(self, pending: Pending, changes: Changes) -> None:
        """An effect whose time has come: the cancel of a group, or a late request, dropped if it came too late."""
        if pending.effect == "CANCEL":
            self._book.cancel(pending.subject, pending.due)
            return
        if pending.effect == "REJECT":
            self._book.reject(pending.subject, pending.due)
            return
        request = wire.request_from_json(json.loads(pending.body))
        sent_at = wire.instant_from_json(json.loads(pending.body)["sent_at"])
        session = self._tape.session_of(sent_at)
        over = request.time_in_force is TimeInForce.DAY and session is not None and pending.due >= session.closes_at
        refusal = unprocessable("the day of this order is over") if over else self._refusal(request, pending.due)
        if refusal is None:
            self._open(request, pending.due)
        status = refusal.status if refusal else 200
        changes.requests.append(RequestLine(pending.due, "POST", ORDERS, request.client_order_id, status, APPLIED_LATE))

    # -- orders --------------------------------------------------------------------------------------------------------------

    def _on_submit(self, request: OrderRequest, at: datetime, late_minutes: int = 0, rejected: bool = False) -> Json:
        """`late_minutes`: nobody hears an answer, and it is applied that much later. `rejected`: taken, and rejected before it
        trades. Both are what the caller scripted; the faults of the settings are drawn."""
        if at != self._now:
            return self._violation("POST", ORDERS, request.client_order_id, at)
        if late_minutes:
            return self._scripted_late(request, at, late_minutes)
        fault = self._faults.submit(request.client_order_id, at)
        changes = Changes(clock=at, by_request=True)
        refusal = unprocessable("asset is not tradable at the moment") if fault is Fault.REFUSED else None
        if fault in (Fault.NONE, Fault.REPLY_LOST):
            refusal = self._refusal(request, at)
        answer: Json = WITHHELD
        if fault is Fault.LATE:
            changes.pending.append(_late(request, at, self._faults.late_minutes(request.client_order_id, at)))
        elif refusal is not None:
            answer = _refused(refusal)
        elif fault is not Fault.DROPPED:
            orders = self._open(request, at)
            answer = {"status": 200, "body": wire.order_to_json(orders[0], orders[1:])}
            if rejected:
                changes.pending.append(Pending(next_minute(at), "REJECT", orders[0].group_id, "{}"))
        status = refusal.status if refusal else 0 if fault in (Fault.DROPPED, Fault.LATE) else 200
        changes.requests.append(RequestLine(at, "POST", ORDERS, request.client_order_id, status, fault.value))
        self._collect(changes)
        self._commit(changes)
        return WITHHELD if fault.silent else answer

    def _scripted_late(self, request: OrderRequest, at: datetime, minutes: int) -> Json:
        """No fault is noted, so a look-up of this instant tells the truth: there is no such order yet."""
        line = RequestLine(at, "POST", ORDERS, request.client_order_id, 0, "")
        self._commit(Changes(clock=at, requests=[line], pending=[_late(request, at, minutes)]))
        return WITHHELD

    def _on_look_up(self, name: str, at: datetime) -> Json:
        """Shares the fate of a submit of this instant; of an id that was never submitted it tells the truth."""
        if self._now is None or at > self._now:
            return self._violation("GET", BY_CLIENT_ID, name, at)
        submits = self._ledger.submits(name)
        now = [fault for sent_at, fault in submits if sent_at == at]
        if now:
            fault = Fault.WITHHELD if Fault(now[0]).silent else Fault.NONE
        else:
            fault = self._faults.look_up(name, at) if submits else Fault.NONE
        named = [order for order in self._ledger.orders_named(name) if order.market_time <= at]
        line = RequestLine(at, "GET", BY_CLIENT_ID, name, 200 if named else 404, fault.value)
        self._commit(Changes(clock=self._now, requests=[line]))
        if fault.silent:
            return WITHHELD
        if not named:
            return _refused(UNKNOWN_ORDER)
        first, *legs = self._ledger.group_as_of(named[-1].group_id, at)
        return {"status": 200, "body": wire.order_to_json(first, legs)}

    def _on_cancel(self, name: str, at: datetime, late_minutes: int = 0) -> Json:
        """Takes effect before the next minute's bar, for the whole group; `late_minutes` later where that is scripted, so that a
        fill may come first."""
        path = f"{ORDERS}/{name}"
        order = self._ledger.order(name)
        if at != self._now:
            return self._violation("DELETE", path, order.client_order_id if order else None, at)
        fault = self._faults.cancel(name, at)
        refusal = None
        if order is None:
            refusal = UNKNOWN_ORDER
        elif not self._book.group(order.group_id):
            refusal = unprocessable(f'order is already in "{order.status.value.lower()}" state')
        status = 0 if fault is Fault.DROPPED else refusal.status if refusal else 204
        line = RequestLine(at, "DELETE", path, order.client_order_id if order else None, status, fault.value)
        changes = Changes(clock=at, requests=[line])
        if order is not None and status == 204:
            changes.pending.append(Pending(next_minute(at) + late_minutes * MINUTE, "CANCEL", order.group_id, "{}"))
        self._commit(changes)
        if fault.silent:
            return WITHHELD
        return _refused(refusal) if refusal else {"status": 204, "body": None}

    def _on_replace(self, name: str, wanted: Replacement, at: datetime) -> Json:
        """Takes effect at once: the new order trades from the next bar on, the old one no more."""
        path, order = f"{ORDERS}/{name}", self._ledger.order(name)
        if at != self._now:
            return self._violation("PATCH", path, order.client_order_id if order else None, at)
        refusal = UNKNOWN_ORDER if order is None else irreplaceable(order, wanted)
        changes, answer = Changes(clock=at, by_request=True), Json()
        if order is not None and refusal is None:
            refusal = self._replace(self._book.live[name], wanted, at, changes)
        if refusal is None:
            by = changes.replaced[0].by_id
            answer = {"status": 200, "body": wire.order_to_json(self._book.live[by], [])}
        status = refusal.status if refusal else 200
        changes.requests.append(RequestLine(at, "PATCH", path, wanted.client_order_id, status, ""))
        self._collect(changes)
        self._commit(changes)
        return _refused(refusal) if refusal else answer

    def _replace(self, order: LedgerOrder, wanted: Replacement, at: datetime, changes: Changes) -> Refusal | None:
        if any(pending.effect == "CANCEL" and pending.subject == order.group_id for pending in self._pending):
            return unprocessable('order is already in "pending_cancel" state')
        new = successor(order, wanted, at)
        if order.order_class is OrderClass.SIMPLE:
            del self._book.live[order.broker_order_id]  # what it holds back is the new one's
            refusal = self._refusal(wire.request_of(new), at)
            self._book.live[order.broker_order_id] = order
            if refusal is not None:
                return refusal
        elif self._uses(new.client_order_id):
            return DUPLICATE
        self._book.replace(order, new, at)
        changes.replaced.append(Replaced(order.broker_order_id, new.broker_order_id, at))
        return None

    def _refusal(self, request: OrderRequest, at: datetime) -> Refusal | None:
        """Why the broker does not take the order: its id is used, it makes no sense, or the account cannot bear it."""
        used = self._uses(request.client_order_id)
        if used and (self._policy.deduplicates_forever or any(order.broker_order_id in self._book.live for order in used)):
            return DUPLICATE
        listed = self._tape.lists(request.symbol)
        standing = Standing(
            listed,
            self._tape.last_price(request.symbol, at) if listed else None,
            self._positions[request.symbol],
            tuple(order for order in self._book.live.values() if order.symbol == request.symbol),
            self._buying_power(at, self._cash, self._positions, list(self._book.live.values())),
        )
        return malformed(request, self._policy) or inadmissible(request, standing, self._policy)

    def _open(self, request: OrderRequest, at: datetime) -> list[LedgerOrder]:
        orders = orders_of(request, len(self._uses(request.client_order_id)), at)
        self._book.open(orders)
        self._uncommitted.append(orders[0])
        return orders

    def _uses(self, client_order_id: str) -> list[LedgerOrder]:
        """The orders opened under the client's id, those of the transaction at hand included."""
        ahead = [order for order in self._uncommitted if order.client_order_id == client_order_id]
        return self._ledger.orders_named(client_order_id) + ahead

    # -- reads ---------------------------------------------------------------------------------------------------------------

    def _on_activity(self, since: datetime, until: datetime) -> Json:
        if self._told_until is None or since > self._told_until:
            return {"status": 200, "body": {"executions": [], "orders": []}}
        found = self._ledger.executions(since, until)
        told = self._faults.disorder(found, [execution.execution_id for execution in found], until)
        orders = self._ledger.orders_changed(since, until)
        return {
            "status": 200,
            "body": {
                "executions": [wire.execution_to_json(execution) for execution in told],
                "orders": [wire.order_to_json(order, []) for order in orders],
            },
        }

    def _on_open_orders(self, at: datetime) -> Json:
        return {"status": 200, "body": [wire.order_to_json(order, []) for order in self._live(at)]}

    def _on_positions(self, at: datetime) -> Json:
        _, positions = self._holdings(at)
        return {"status": 200, "body": [[symbol, held] for symbol, held in sorted(positions.items()) if held]}

    def _on_account(self, at: datetime) -> Json:
        cash, positions = self._holdings(at)
        buying_power = max(ZERO, self._buying_power(at, cash, positions, self._live(at)))
        return {
            "status": 200,
            "body": {"account_id": self._policy.account_id, "cash": plain(cash), "buying_power": plain(buying_power)},
        }

    def _ahead_of(self, at: datetime) -> bool:
        return self._now is not None and at < self._now

    def _live(self, at: datetime) -> list[LedgerOrder]:
        return self._ledger.live_as_of(at) if self._ahead_of(at) else list(self._book.live.values())

    def _holdings(self, at: datetime) -> tuple[Decimal, dict[str, int]]:
        """Cash and positions as of the instant."""
        if not self._ahead_of(at):
            return self._cash, self._positions
        cash, positions = self._policy.start_cash_usd, defaultdict[str, int](int)
        for execution in self._ledger.executions(None, at):
            cash += execution.cash_change
            positions[execution.symbol] += execution.side.sign * execution.quantity
        return cash, positions

    def _buying_power(self, at: datetime, cash: Decimal, positions: dict[str, int], live: list[LedgerOrder]) -> Decimal:
        """leverage x equity, less the market value held and what opening orders reserve."""
        equity, gross = cash, ZERO
        for symbol, held in positions.items():
            if held:
                value = held * (self._tape.last_price(symbol, at) or ZERO)
                equity, gross = equity + value, gross + abs(value)
        reserved = ZERO
        for order in live:
            if order.order_class is not OrderClass.OCO and opens(order, positions.get(order.symbol, 0)):
                last = self._tape.last_price(order.symbol, at) or ZERO
                reserved += reservation(order.remaining, order.reference, last, self._policy)
        return self._policy.leverage * equity - gross - reserved

    # -- the ledger ----------------------------------------------------------------------------------------------------------

    def _collect(self, changes: Changes) -> None:
        """Take what the book did over into the transaction, as it stands at this step."""
        changes.orders += [copy.copy(order) for order in self._book.changed.values()]
        for execution in self._book.executions:
            changes.executions.append(execution)
            self._positions[execution.symbol] += execution.side.sign * execution.quantity
            self._cash += execution.cash_change
            changes.cash = self._cash
        self._book.changed.clear()
        self._book.executions.clear()

    def _commit(self, changes: Changes) -> None:
        self._ledger.commit(changes)
        for observer in self.on_commit:
            observer(changes)
        self._uncommitted.clear()
        if changes.orders:
            self._told_until = self._ledger.last_visible()
        if changes.pending:
            self._pending = self._ledger.pending()

    def _violation(self, method: str, path: str, client_order_id: str | None, at: datetime) -> Json:
        self._commit(Changes(clock=self._now, requests=[RequestLine(at, method, path, client_order_id, 409, "VIOLATION")]))
        told = to_text(self._now) if self._now else "not set"
        return _refused(Refusal(409, 40910000, f"{method} {path} at market time {to_text(at)}, the ledger's is {told}"))


def _refused(refusal: Refusal) -> Json:
    return {"status": refusal.status, "body": {"code": refusal.code, "message": refusal.message, **dict(refusal.details)}}


def _late(request: OrderRequest, at: datetime, minutes: int) -> Pending:
    """A submit that is applied `minutes` later."""
    body = json.dumps({**wire.request_to_json(request), "sent_at": to_text(at)})
    return Pending(next_minute(at) + (minutes - 1) * MINUTE, "SUBMIT", request.client_order_id, body)
