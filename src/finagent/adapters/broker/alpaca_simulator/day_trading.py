"""The rule on pattern day traders: below 25,000 USD no fourth day trade in five sessions."""

from datetime import datetime, timedelta
from decimal import Decimal

from finagent.adapters.broker.alpaca_simulator.desk import Refused, present
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.orders import Execution
from finagent.domain.orders import OrderClass
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.sessions import Session
from finagent.domain.time import EXCHANGE_ZONE

DAY_TRADES_MAX, SESSIONS, EQUITY_USD_MIN = 3, 5, Decimal(25_000)
LOOK_BACK = timedelta(days=14)


def recent_sessions(calendar: ExchangeCalendar, now: datetime) -> tuple[Session, ...]:
    """The last five sessions, today's included."""
    today = now.astimezone(EXCHANGE_ZONE).date()
    return calendar.sessions(today - LOOK_BACK, today)[-SESSIONS:]


def require_no_pattern(broker: SimulatedBroker, request: OrderRequest, start_cash: Decimal, calendar: ExchangeCalendar) -> None:
    """Raises Refused for an order that would make the fourth day trade: one that reduces what was opened today, or one that
    brings its own exits along."""
    now, statement = present(broker), broker.statement
    sessions = recent_sessions(calendar, now)
    executions = statement.executions(sessions[0].opens_at, now)
    if day_trades(executions, sessions) < DAY_TRADES_MAX:
        return
    today = sum(
        each.side.sign * each.quantity
        for each in executions
        if each.symbol == request.symbol and each.market_time >= sessions[-1].opens_at
    )
    held = statement.holdings(now)
    equity = statement.cash(start_cash, now) + sum(holding.quantity * holding.price for holding in held)
    if (today * request.side.sign < 0 or request.order_class is OrderClass.BRACKET) and equity < EQUITY_USD_MIN:
        raise Refused(403, 40310100, "trade denied due to pattern day trading protection")


def day_trades(executions: list[Execution], sessions: tuple[Session, ...]) -> int:
    """Times that a position opened in one of the sessions was reduced in the same session."""
    trades = 0
    for session in sessions:
        opened: dict[str, int] = {}
        closing: set[str] = set()
        for execution in executions:
            if not session.opens_at <= execution.market_time <= session.closes_at:
                continue
            signed = execution.side.sign * execution.quantity
            before = opened.get(execution.symbol, 0)
            if before * signed < 0 and execution.broker_order_id not in closing:
                closing.add(execution.broker_order_id)
                trades += 1
            opened[execution.symbol] = before + signed
    return trades
