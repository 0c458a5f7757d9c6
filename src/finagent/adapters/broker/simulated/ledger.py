"""The broker's memory: one SQLite file, written in one transaction a change and synced before anything is answered."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from finagent.adapters.broker.simulated.changes import Changes, Pending
from finagent.adapters.broker.simulated.ledger_rows import (
    APPLIED_LATE,
    BY_CHANGE,
    BY_ORDER,
    ORDER_COLUMNS,
    ORDERS_AS_OF,
    SCHEMA,
    change_row,
    execution_row,
    order_of_row,
    order_row,
)
from finagent.adapters.broker.simulated.orders import Execution, LedgerOrder
from finagent.adapters.broker.simulated.replacement import Replaced
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.money import plain
from finagent.domain.orders import OrderState, Side
from finagent.domain.time import from_text, to_text
from finagent.services.failpoints import Failpoints


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
                [(*order_row(order), received_at) for order in changes.orders],
            )
            connection.executemany(
                "INSERT INTO ledger_change (broker_order_id, at, visible_at, quantity, status, filled_quantity, notional) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (broker_order_id, at) DO UPDATE SET quantity = excluded.quantity, "
                "status = excluded.status, filled_quantity = excluded.filled_quantity, notional = excluded.notional",
                [change_row(order, changes.by_request) for order in changes.orders],
            )
            connection.executemany(
                "INSERT INTO ledger_execution VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [execution_row(execution) for execution in changes.executions],
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
            connection.executemany(
                "INSERT INTO ledger_replacement VALUES (?, ?, ?)",
                [(r.replaced_id, r.by_id, to_text(r.at)) for r in changes.replaced],
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
        return [order_of_row(row) for row in rows]

    def orders_named(self, client_order_id: str) -> list[LedgerOrder]:
        """Every order that was opened under the client's id, as it stands now, oldest first."""
        rows = self._connection.execute(
            f"SELECT {ORDER_COLUMNS} FROM ledger_order WHERE client_order_id = ? ORDER BY rowid",  # noqa: S608 - constants
            (client_order_id,),
        )
        return [order_of_row(row) for row in rows]

    def orders_where(self, condition: str, values: tuple[str, ...]) -> list[tuple[int, LedgerOrder]]:
        """Orders as they stand now with the number that each had on coming, the first that came first."""
        rows = self._connection.execute(
            f"SELECT {ORDER_COLUMNS}, rowid FROM ledger_order WHERE {condition} ORDER BY rowid",  # noqa: S608 - constants
            values,
        )
        return [(row[-1], order_of_row(row[:-1])) for row in rows]

    def replacements(self, broker_order_id: str) -> list[Replaced]:
        """Where the order was replaced, and where it replaced another."""
        rows = self._connection.execute(
            "SELECT replaced_id, by_id, at FROM ledger_replacement WHERE replaced_id = ?1 OR by_id = ?1", (broker_order_id,)
        )
        return [Replaced(replaced_id, by_id, from_text(at)) for replaced_id, by_id, at in rows]

    def order(self, broker_order_id: str) -> LedgerOrder | None:
        """As it stands now."""
        row = self._connection.execute(
            f"SELECT {ORDER_COLUMNS} FROM ledger_order WHERE broker_order_id = ?",  # noqa: S608 - constants
            (broker_order_id,),
        ).fetchone()
        return order_of_row(row) if row else None

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
            order = order_of_row(row[:20])
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
