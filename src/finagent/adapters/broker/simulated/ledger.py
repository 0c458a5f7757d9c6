"""The broker's memory: one SQLite file, written in one transaction a change and synced before anything is answered."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from finagent.adapters.broker.simulated.orders import Execution, LedgerOrder, next_minute
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.money import plain
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, Side, TimeInForce
from finagent.domain.time import from_text, to_text
from finagent.services.failpoints import Failpoints

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger_order (
  broker_order_id TEXT PRIMARY KEY, client_order_id TEXT NOT NULL, parent_broker_order_id TEXT, group_id TEXT NOT NULL,
  leg TEXT, order_class TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL, quantity INTEGER NOT NULL,
  type TEXT NOT NULL, limit_price TEXT, stop_price TEXT, time_in_force TEXT NOT NULL, status TEXT NOT NULL,
  filled_quantity INTEGER NOT NULL, notional TEXT NOT NULL, elected INTEGER NOT NULL, market_time TEXT NOT NULL,
  active_from TEXT NOT NULL, changed_at TEXT NOT NULL, received_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_order_client ON ledger_order (client_order_id);
CREATE INDEX IF NOT EXISTS ledger_order_group ON ledger_order (group_id);
CREATE INDEX IF NOT EXISTS ledger_order_live ON ledger_order (status)
  WHERE status IN ('HELD', 'ACCEPTED', 'PARTIALLY_FILLED');
CREATE TABLE IF NOT EXISTS ledger_change (
  sequence INTEGER PRIMARY KEY, broker_order_id TEXT NOT NULL REFERENCES ledger_order, at TEXT NOT NULL,
  visible_at TEXT NOT NULL, quantity INTEGER NOT NULL, status TEXT NOT NULL, filled_quantity INTEGER NOT NULL,
  notional TEXT NOT NULL, UNIQUE (broker_order_id, at));
CREATE INDEX IF NOT EXISTS ledger_change_visible ON ledger_change (visible_at);
CREATE TABLE IF NOT EXISTS ledger_execution (
  execution_id TEXT PRIMARY KEY, broker_order_id TEXT NOT NULL REFERENCES ledger_order, symbol TEXT NOT NULL,
  side TEXT NOT NULL, quantity INTEGER NOT NULL CHECK (quantity > 0), price TEXT NOT NULL, fee TEXT NOT NULL,
  market_time TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_execution_time ON ledger_execution (market_time);
CREATE TABLE IF NOT EXISTS ledger_request (
  sequence INTEGER PRIMARY KEY, at TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, client_order_id TEXT,
  status INTEGER NOT NULL, fault TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_request_client ON ledger_request (client_order_id, at);
CREATE TABLE IF NOT EXISTS ledger_pending (
  sequence INTEGER PRIMARY KEY, due TEXT NOT NULL, effect TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL,
  UNIQUE (effect, subject, due));
CREATE TABLE IF NOT EXISTS ledger_account (
  account_id TEXT PRIMARY KEY, start_cash TEXT NOT NULL, cash TEXT NOT NULL, seed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_clock (id INTEGER PRIMARY KEY CHECK (id = 1), at TEXT NOT NULL);
"""
ORDER_COLUMNS = (
    "broker_order_id, client_order_id, parent_broker_order_id, group_id, leg, order_class, symbol, side, quantity, type, "
    "limit_price, stop_price, time_in_force, status, filled_quantity, notional, elected, market_time, active_from, changed_at"
)
# An order as it stood at an instant: its fixed facts, and the last change by then.
ORDERS_AS_OF = f"""SELECT {", ".join("o." + name for name in ORDER_COLUMNS.split(", "))},
  c.quantity, c.status, c.filled_quantity, c.notional, c.at FROM {{tables}} USING (broker_order_id)
  WHERE c.at = (SELECT max(at) FROM ledger_change WHERE broker_order_id = o.broker_order_id AND {{bound}} <= :at)
  AND {{condition}} ORDER BY o.rowid"""  # noqa: S608 - constants
APPLIED_LATE = "APPLIED_LATE"
BY_ORDER, BY_CHANGE = "ledger_order o JOIN ledger_change c", "ledger_change c CROSS JOIN ledger_order o"


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
    cash: Decimal | None = None

    @property
    def empty(self) -> bool:
        return not (self.orders or self.executions or self.requests or self.pending or self.applied)


class Ledger:
    """Reads and writes of the file. One process holds it at a time; readers of others may look in."""

    def __init__(self, path: Path, failpoints: Failpoints) -> None:
        self._failpoints = failpoints
        self._lock = _locked(path)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(SCHEMA)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise Unavailable(f"the broker's ledger {path} cannot be opened: {error}") from error

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)

    def open_account(self, account_id: str, start_cash: Decimal, seed: int) -> Decimal:
        """The cash of the account; the first time it is opened with `start_cash`. Refuses the ledger of another account."""
        row = self._connection.execute("SELECT account_id, cash, seed FROM ledger_account").fetchone()
        if row is None:
            values = (account_id, plain(start_cash), plain(start_cash), seed)
            self._connection.execute("INSERT INTO ledger_account VALUES (?, ?, ?, ?)", values)
            return start_cash
        if (row[0], row[2]) != (account_id, seed):
            raise BadInput(
                f"the broker's ledger is of account {row[0]} with seed {row[2]}, not of {account_id} with seed {seed}: "
                "use another folder, or the settings it was made with"
            )
        return Decimal(row[1])

    def commit(self, changes: Changes) -> None:
        """Store all of it, or nothing, and return when it is on the disk."""
        with self._transaction() as connection:
            received_at = to_text(datetime.now(UTC))
            connection.executemany(
                f"INSERT INTO ledger_order ({ORDER_COLUMNS}, received_at) VALUES ({', '.join('?' * 21)}) "  # noqa: S608 - constants
                "ON CONFLICT (broker_order_id) DO UPDATE SET quantity = excluded.quantity, status = excluded.status, "
                "filled_quantity = excluded.filled_quantity, notional = excluded.notional, elected = excluded.elected, "
                "active_from = excluded.active_from, changed_at = excluded.changed_at",
                [(*_row(order), received_at) for order in changes.orders],
            )
            connection.executemany(
                "INSERT INTO ledger_change (broker_order_id, at, visible_at, quantity, status, filled_quantity, notional) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (broker_order_id, at) DO UPDATE SET quantity = excluded.quantity, "
                "status = excluded.status, filled_quantity = excluded.filled_quantity, notional = excluded.notional",
                [_change(order, changes.by_request) for order in changes.orders],
            )
            connection.executemany(
                "INSERT INTO ledger_execution VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_execution_row(execution) for execution in changes.executions],
            )
            connection.executemany(
                "INSERT INTO ledger_request (at, method, path, client_order_id, status, fault) VALUES (?, ?, ?, ?, ?, ?)",
                [(to_text(r.at), r.method, r.path, r.client_order_id, r.status, r.fault) for r in changes.requests],
            )
            connection.executemany("DELETE FROM ledger_pending WHERE sequence = ?", [(p.sequence,) for p in changes.applied])
            connection.executemany(
                "INSERT OR IGNORE INTO ledger_pending (due, effect, subject, body) VALUES (?, ?, ?, ?)",
                [(to_text(p.due), p.effect, p.subject, p.body) for p in changes.pending],
            )
            if changes.cash is not None:
                connection.execute("UPDATE ledger_account SET cash = ?", (plain(changes.cash),))
            if changes.clock is not None:
                connection.execute(
                    "INSERT INTO ledger_clock VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at",
                    (to_text(changes.clock),),
                )

    def clock(self) -> datetime | None:
        """The market time of the last commit; None before the first."""
        row = self._connection.execute("SELECT at FROM ledger_clock").fetchone()
        return from_text(row[0]) if row else None

    def last_visible(self) -> datetime | None:
        """The market time after which no activity is on record."""
        (text,) = self._connection.execute("SELECT max(visible_at) FROM ledger_change").fetchone()
        return from_text(text) if text else None

    def pending(self) -> list[Pending]:
        """Effects not yet applied, in the order in which they fall due."""
        rows = self._connection.execute("SELECT due, effect, subject, body, sequence FROM ledger_pending ORDER BY due, sequence")
        return [Pending(from_text(due), effect, subject, body, sequence) for due, effect, subject, body, sequence in rows]

    def live_orders(self) -> list[LedgerOrder]:
        """As they stand now, in the order in which they came."""
        rows = self._connection.execute(
            f"SELECT {ORDER_COLUMNS} FROM ledger_order "  # noqa: S608 - constants
            "WHERE status IN ('HELD', 'ACCEPTED', 'PARTIALLY_FILLED') ORDER BY rowid"
        )
        return [_order(row) for row in rows]

    def orders_named(self, client_order_id: str) -> list[LedgerOrder]:
        """Every order that was opened under the client's id, as it stands now, oldest first."""
        rows = self._connection.execute(
            f"SELECT {ORDER_COLUMNS} FROM ledger_order WHERE client_order_id = ? ORDER BY rowid",  # noqa: S608 - constants
            (client_order_id,),
        )
        return [_order(row) for row in rows]

    def order(self, broker_order_id: str) -> LedgerOrder | None:
        """As it stands now."""
        row = self._connection.execute(
            f"SELECT {ORDER_COLUMNS} FROM ledger_order WHERE broker_order_id = ?",  # noqa: S608 - constants
            (broker_order_id,),
        ).fetchone()
        return _order(row) if row else None

    def group_as_of(self, group_id: str, at: datetime) -> list[LedgerOrder]:
        """The orders of a group as they stood at the instant, the first one first."""
        return self._as_of(BY_ORDER, "at", "o.group_id = :group", at, group=group_id)

    def live_as_of(self, at: datetime) -> list[LedgerOrder]:
        """The orders that lived at the instant."""
        return self._as_of(BY_ORDER, "at", "c.status IN ('HELD', 'ACCEPTED', 'PARTIALLY_FILLED')", at)

    def orders_changed(self, since: datetime, until: datetime) -> list[LedgerOrder]:
        """Orders with a change that became visible in [since, until], as they stood to the eye at `until`."""
        return self._as_of(BY_CHANGE, "visible_at", "c.visible_at BETWEEN :since AND :at", until, since=to_text(since))

    def executions(self, since: datetime | None, until: datetime) -> list[Execution]:
        """Executions in [since, until], in the order in which they happened."""
        rows = self._connection.execute(
            "SELECT * FROM ledger_execution WHERE market_time >= ? AND market_time <= ? ORDER BY market_time, rowid",
            (to_text(since) if since else "", to_text(until)),
        )
        return [
            Execution(i, o, symbol, Side(side), quantity, Decimal(price), Decimal(fee), from_text(at))
            for i, o, symbol, side, quantity, price, fee, at in rows
        ]

    def submits(self, client_order_id: str) -> list[tuple[datetime, str]]:
        """When orders under this id were asked for, and the fault that each request met."""
        rows = self._connection.execute(
            "SELECT at, fault FROM ledger_request WHERE client_order_id = ? AND method = 'POST' AND status <> 409 "
            "AND fault <> ? ORDER BY sequence",
            (client_order_id, APPLIED_LATE),
        )
        return [(from_text(at), fault) for at, fault in rows]

    def _as_of(self, tables: str, bound: str, condition: str, at: datetime, **values: str) -> list[LedgerOrder]:
        rows = self._connection.execute(
            ORDERS_AS_OF.format(tables=tables, bound=bound, condition=condition), {"at": to_text(at), **values}
        )
        found = []
        for row in rows:
            order = _order(row[:20])
            order.quantity, order.filled_quantity = row[20], row[22]
            order.status, order.notional, order.changed_at = OrderState[row[21]], Decimal(row[23]), from_text(row[24])
            found.append(order)
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._failpoints("broker_commit.before")
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._failpoints("broker_commit.after")


def _locked(path: Path) -> int:
    """An exclusive lock beside the file: two brokers on one ledger would both believe themselves."""
    try:
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"the broker's ledger {path} cannot be opened: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Unavailable(f"another broker holds {path}") from error
    return handle


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _row(order: LedgerOrder) -> tuple[object, ...]:
    return (
        order.broker_order_id,
        order.client_order_id,
        order.parent_broker_order_id,
        order.group_id,
        order.leg.value if order.leg else None,
        order.order_class.value,
        order.symbol,
        order.side.value,
        order.quantity,
        order.type.value,
        _text(order.limit_price),
        _text(order.stop_price),
        order.time_in_force.value,
        order.status.value,
        order.filled_quantity,
        plain(order.notional),
        int(order.elected),
        to_text(order.market_time),
        to_text(order.active_from),
        to_text(order.changed_at),
    )


def _change(order: LedgerOrder, by_request: bool) -> tuple[object, ...]:
    visible_at = next_minute(order.changed_at) if by_request else order.changed_at
    state = (order.quantity, order.status.value, order.filled_quantity, plain(order.notional))
    return (order.broker_order_id, to_text(order.changed_at), to_text(visible_at), *state)


def _execution_row(execution: Execution) -> tuple[object, ...]:
    return (
        execution.execution_id,
        execution.broker_order_id,
        execution.symbol,
        execution.side.value,
        execution.quantity,
        plain(execution.price),
        plain(execution.fee),
        to_text(execution.market_time),
    )


def _order(row: tuple[object, ...]) -> LedgerOrder:
    texts = [None if value is None else str(value) for value in row]
    return LedgerOrder(
        str(row[0]),
        str(row[1]),
        texts[2],
        str(row[3]),
        Leg[texts[4]] if texts[4] else None,
        OrderClass[str(row[5])],
        str(row[6]),
        Side[str(row[7])],
        int(str(row[8])),
        OrderType[str(row[9])],
        _amount(texts[10]),
        _amount(texts[11]),
        TimeInForce[str(row[12])],
        OrderState[str(row[13])],
        int(str(row[14])),
        Decimal(str(row[15])),
        bool(row[16]),
        from_text(str(row[17])),
        from_text(str(row[18])),
        from_text(str(row[19])),
    )
