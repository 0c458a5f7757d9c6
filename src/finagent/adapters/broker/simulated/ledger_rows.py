"""The ledger's tables, and how orders and executions read in their rows."""

from decimal import Decimal

from finagent.adapters.broker.simulated.orders import Execution, LedgerOrder, next_minute
from finagent.domain.money import plain
from finagent.domain.orders import Leg, OrderClass, OrderState, OrderType, Side, TimeInForce
from finagent.domain.time import from_text, to_text

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
CREATE TABLE IF NOT EXISTS ledger_replacement (
  replaced_id TEXT PRIMARY KEY, by_id TEXT NOT NULL UNIQUE, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_account (
  account_id TEXT PRIMARY KEY, start_cash TEXT NOT NULL, cash TEXT NOT NULL, seed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_clock (id INTEGER PRIMARY KEY CHECK (id = 1), at TEXT NOT NULL);
"""
LIVE = "status IN ('HELD', 'ACCEPTED', 'PARTIALLY_FILLED')"
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


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def order_row(order: LedgerOrder) -> tuple[object, ...]:
    """The values of ORDER_COLUMNS."""
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


def change_row(order: LedgerOrder, by_request: bool) -> tuple[object, ...]:
    """What became of the order, and when others may see it: what a request did is seen from the next minute on."""
    visible_at = next_minute(order.changed_at) if by_request else order.changed_at
    state = (order.quantity, order.status.value, order.filled_quantity, plain(order.notional))
    return (order.broker_order_id, to_text(order.changed_at), to_text(visible_at), *state)


def execution_row(execution: Execution) -> tuple[object, ...]:
    """All columns of ledger_execution."""
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


def order_of_row(row: tuple[object, ...]) -> LedgerOrder:
    """The order that the values of ORDER_COLUMNS make."""
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
