"""The account, what it holds and did, and the exchange's days: reads that translate the broker's statement."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal

from finagent.adapters.broker.alpaca_simulator.day_trading import day_trades, recent_sessions
from finagent.adapters.broker.alpaca_simulator.desk import Desk, Refused, present, told
from finagent.adapters.broker.alpaca_simulator.orders import BAD_REQUEST, instant_of, limit_of
from finagent.adapters.broker.alpaca_simulator.wire import (
    EXCHANGE,
    amount,
    asset_uuid,
    execution_uuid,
    local_text,
    order_uuid,
    time_text,
    uuid_of,
)
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.orders import Execution
from finagent.adapters.broker.simulated.policy import BrokerPolicy
from finagent.adapters.broker.simulated.statement import Holding
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.money import ZERO
from finagent.domain.orders import OrderState
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.sessions import Session
from finagent.domain.time import EXCHANGE_ZONE

ACTIVITIES_MAX = 100
HALF_DAY_MINUTES = 300
CALENDAR_FIRST, CALENDAR_LAST = date(1998, 1, 1), date(2035, 12, 31)
CONFIGURATIONS: Json = {
    "dtbp_check": "entry",
    "trade_confirm_email": "none",
    "suspend_trade": False,
    "no_shorting": False,
    "fractional_trading": False,
    "max_margin_multiplier": "4",
    "max_options_trading_level": 0,
    "pdt_check": "entry",
    "ptp_no_exception_entry": False,
    "disable_overnight_trading": True,
}


class AccountDesk:
    """What /v2/account, /v2/positions, /v2/clock, /v2/calendar and /v2/assets answer."""

    def __init__(self, desk: Desk, policy: BrokerPolicy, calendar: ExchangeCalendar, symbols: tuple[str, ...]) -> None:
        self._desk = desk
        self._policy = policy
        self._calendar = calendar
        self._symbols = symbols
        self._by_id = {asset_uuid(symbol): symbol for symbol in symbols}
        self.configurations = {**CONFIGURATIONS, "no_shorting": not policy.short_selling}

    def symbol(self, symbol_or_id: str) -> str:
        """The symbol that a path names by itself or by its asset id."""
        return self._by_id.get(symbol_or_id, symbol_or_id)

    async def account(self) -> Json:
        """GET /v2/account."""
        return await self._desk.ask(self._account)

    async def positions(self) -> list[Json]:
        """GET /v2/positions."""
        held = await self._desk.ask(lambda broker: broker.statement.holdings(present(broker)))
        return [position_json(holding) for holding in held]

    async def position(self, symbol_or_id: str) -> Json:
        """GET /v2/positions/{symbol or asset id}."""
        for position in await self.positions():
            if position["symbol"] == self.symbol(symbol_or_id):
                return position
        raise Refused(404, 40410000, "position does not exist")

    async def fills(self, query: Mapping[str, str]) -> list[Json]:
        """GET /v2/account/activities/FILL: a page of executions; `page_token` is the id of the last one seen."""
        return await self._desk.ask(lambda broker: _fills(broker, query))

    def clock(self) -> Json:
        """GET /v2/clock, in exchange time."""
        now = self._desk.now
        session = self._calendar.session_at_or_after(now)
        is_open = session.opens_at <= now
        opens = self._calendar.next_session(session.date) if is_open else session
        return {
            "timestamp": local_text(now),
            "is_open": is_open,
            "next_open": local_text(opens.opens_at),
            "next_close": local_text(session.closes_at),
        }

    def calendar(self, query: Mapping[str, str]) -> list[Json]:
        """GET /v2/calendar: sessions from `start` to `end`, in exchange time."""
        try:
            first = date.fromisoformat(query.get("start", CALENDAR_FIRST.isoformat())[:10])
            last = date.fromisoformat(query.get("end", CALENDAR_LAST.isoformat())[:10])
        except ValueError as error:
            raise Refused(422, BAD_REQUEST, f"invalid date: {error}") from None
        sessions = self._calendar.sessions(max(first, CALENDAR_FIRST), min(last, CALENDAR_LAST))
        return [self._day(session) for session in sessions]

    def assets(self) -> list[Json]:
        """GET /v2/assets."""
        return [self._asset(symbol) for symbol in self._symbols]

    def asset(self, symbol_or_id: str) -> Json:
        """GET /v2/assets/{symbol or asset id}."""
        symbol = self.symbol(symbol_or_id)
        if symbol not in self._symbols:
            raise Refused(404, 40410000, f"asset not found for {symbol_or_id}")
        return self._asset(symbol)

    def configure(self, wanted: Json) -> Json:
        """PATCH /v2/account/configurations; kept while the simulator runs."""
        unknown = sorted(set(wanted) - set(self.configurations))
        if unknown:
            raise Refused(422, BAD_REQUEST, f"unknown configuration {', '.join(unknown)}")
        self.configurations |= wanted
        return self.configurations

    def _account(self, broker: SimulatedBroker) -> Json:
        now, statement = present(broker), broker.statement
        told_account = told(broker, {"method": "account"})
        held, cash = statement.holdings(now), Decimal(told_account["cash"])
        long = sum((h.quantity * h.price for h in held if h.quantity > 0), ZERO)
        short = sum((h.quantity * h.price for h in held if h.quantity < 0), ZERO)
        session = statement.session(now)
        eve = session.opens_at - timedelta(microseconds=1) if session else now
        worth_before = sum((h.quantity * statement.previous_close(h.symbol, now) for h in statement.holdings(eve)), ZERO)
        last_equity = statement.cash(self._policy.start_cash_usd, eve) + worth_before
        equity, buying_power = amount(cash + long + short), told_account["buying_power"]
        margin = amount((long - short) / 2)
        recent = recent_sessions(self._calendar, now)
        trades = day_trades(statement.executions(None, now), recent)
        return {
            "id": uuid_of("account", self._policy.account_id),
            "account_number": self._policy.account_id,
            "status": "ACTIVE",
            "crypto_status": "INACTIVE",
            "currency": "USD",
            "cash": amount(cash),
            "buying_power": amount(Decimal(buying_power)),
            "regt_buying_power": amount(Decimal(buying_power)),
            "daytrading_buying_power": amount(Decimal(buying_power)),
            "non_marginable_buying_power": amount(max(ZERO, cash)),
            "effective_buying_power": amount(Decimal(buying_power)),
            "options_buying_power": "0",
            "options_approved_level": 0,
            "options_trading_level": 0,
            "equity": equity,
            "last_equity": amount(last_equity),
            "portfolio_value": equity,
            "long_market_value": amount(long),
            "short_market_value": amount(short),
            "position_market_value": amount(long + short),
            "initial_margin": margin,
            "maintenance_margin": margin,
            "last_maintenance_margin": "0",
            "sma": "0",
            "accrued_fees": "0",
            "pending_transfer_in": "0",
            "pending_transfer_out": "0",
            "pending_reg_taf_fees": "0",
            "intraday_adjustments": "0",
            "balance_asof": recent[-1].date.isoformat(),
            "multiplier": amount(self._policy.leverage),
            "daytrade_count": trades,
            "pattern_day_trader": False,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": bool(self.configurations["suspend_trade"]),
            "shorting_enabled": self._policy.short_selling,
            "created_at": time_text(datetime.fromisoformat("2008-01-02T14:30:00+00:00")),
            "user_configurations": None,
            "admin_configurations": {},
        }

    def _day(self, session: Session) -> Json:
        opens, closes = (instant.astimezone(EXCHANGE_ZONE) for instant in (session.opens_at, session.closes_at))
        return {
            "date": session.date.isoformat(),
            "open": f"{opens:%H:%M}",
            "close": f"{closes:%H:%M}",
            "session_open": "0400",
            "session_close": "1700" if session.minutes < HALF_DAY_MINUTES else "2000",
            "settlement_date": self._calendar.next_session(session.date).date.isoformat(),
        }

    def _asset(self, symbol: str) -> Json:
        return {
            "id": asset_uuid(symbol),
            "class": "us_equity",
            "exchange": EXCHANGE,
            "symbol": symbol,
            "name": f"{symbol} common stock",
            "status": "active",
            "tradable": True,
            "marginable": True,
            "maintenance_margin_requirement": 30,
            "margin_requirement_long": "30",
            "margin_requirement_short": "30",
            "shortable": self._policy.short_selling,
            "easy_to_borrow": self._policy.short_selling,
            "fractionable": False,
            "attributes": [],
        }


def position_json(holding: Holding) -> Json:
    """A position as Alpaca tells it; `unrealized_intraday_*` counts from the previous close."""
    value, cost = holding.quantity * holding.price, holding.cost
    today = holding.quantity * (holding.price - holding.previous_close)
    gain = value - cost
    before = abs(holding.quantity * holding.previous_close)
    change = holding.price / holding.previous_close - 1 if holding.previous_close else ZERO
    return {
        "asset_id": asset_uuid(holding.symbol),
        "symbol": holding.symbol,
        "exchange": EXCHANGE,
        "asset_class": "us_equity",
        "asset_marginable": True,
        "avg_entry_price": amount(cost / holding.quantity),
        "qty": str(holding.quantity),
        "qty_available": str(holding.free if holding.quantity > 0 else -holding.free),
        "side": "long" if holding.quantity > 0 else "short",
        "market_value": amount(value),
        "cost_basis": amount(cost),
        "unrealized_pl": amount(gain),
        "unrealized_plpc": amount(gain / abs(cost)) if cost else "0",
        "unrealized_intraday_pl": amount(today),
        "unrealized_intraday_plpc": amount(today / before) if before else "0",
        "current_price": amount(holding.price),
        "lastday_price": amount(holding.previous_close),
        "change_today": amount(change),
    }


def _fills(broker: SimulatedBroker, query: Mapping[str, str]) -> list[Json]:
    after, until = (instant_of(query.get(name), name) for name in ("after", "until"))
    if query.get("date"):
        after = instant_of(query["date"], "date")
        until = after + timedelta(days=1) if after else None
    size = limit_of(query.get("page_size"), ACTIVITIES_MAX, ACTIVITIES_MAX)
    rows, filled = [], dict[str, int]()
    for execution in broker.statement.executions(None, present(broker)):
        filled[execution.broker_order_id] = filled.get(execution.broker_order_id, 0) + execution.quantity
        if (after is None or execution.market_time > after) and (until is None or execution.market_time < until):
            rows.append((execution, filled[execution.broker_order_id]))
    if query.get("direction", "desc") == "desc":
        rows.reverse()
    told_rows = [_fill_json(broker, execution, total) for execution, total in rows]
    token = query.get("page_token")
    if token is not None:
        places = [place for place, row in enumerate(told_rows) if row["id"] == token]
        if not places:
            raise Refused(422, BAD_REQUEST, f"page_token {token!r} is the id of no activity")
        told_rows = told_rows[places[0] + 1 :]
    return told_rows[:size]


def _fill_json(broker: SimulatedBroker, execution: Execution, total: int) -> Json:
    listed = broker.statement.order(execution.broker_order_id)
    assert listed is not None
    leaves = max(0, listed.order.quantity - total)
    done = listed.order.status is OrderState.FILLED and leaves == 0
    return {
        "id": f"{execution.market_time:%Y%m%d%H%M%S%f}"[:17] + f"::{execution_uuid(execution)}",
        "activity_type": "FILL",
        "transaction_time": time_text(execution.market_time),
        "type": "fill" if done else "partial_fill",
        "price": amount(execution.price),
        "qty": str(execution.quantity),
        "side": execution.side.value.lower(),
        "symbol": execution.symbol,
        "leaves_qty": str(leaves),
        "order_id": order_uuid(execution.broker_order_id),
        "cum_qty": str(total),
        "order_status": "filled" if done else "partially_filled",
    }
