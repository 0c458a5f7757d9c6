"""What an agent asks of the broker over a day, made from a seed, and an agent that may be killed in the middle of it."""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.unit.adapters.broker.scripted_market import SESSIONS

from finagent.adapters.broker.simulated import wire
from finagent.domain.orders import OrderClass, OrderType, Side, TimeInForce
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.sessions import Session
from finagent.domain.time import to_text

Frame = dict[str, Any]
Handle = Callable[[Frame], Frame]
TABLES = ("ledger_order", "ledger_execution", "ledger_change", "ledger_pending", "ledger_account")


@dataclass
class ScriptedDay:
    """Requests by instant: brackets, simple orders and exits at prices around the market, cancels of some of them."""

    seed: int
    symbols: tuple[str, ...]
    orders: int = 24
    minutes: int = 90
    session: Session = SESSIONS[0]
    submits: dict[int, list[OrderRequest]] = field(default_factory=dict)
    cancels: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        for number in range(self.orders):
            minute = chance.randrange(self.minutes - 10)
            self.submits.setdefault(minute, []).append(self._request(chance, f"order-{self.seed}-{number}"))
            if chance.random() < 0.4:
                self.cancels.setdefault(minute + chance.randrange(1, 15), []).append(f"order-{self.seed}-{number}")

    def instants(self) -> list[datetime]:
        return [self.session.instant_of(minute) for minute in range(self.minutes)]

    def play(self, at: datetime, handle: Handle, *, again: bool = False) -> None:
        """One instant as an agent lives it; `again`: after a kill, when a send is preceded by a look-up."""
        minute, time = self.session.minute_of(at), to_text(at)
        handle({"method": "advance", "at": time})
        for request in self.submits.get(minute, ()):
            if again:
                found = handle({"method": "look_up", "at": time, "client_order_id": request.client_order_id})
                if found.get("withheld") or found["status"] == 200:
                    continue
            handle({"method": "submit", "at": time, "request": wire.request_to_json(request)})
        for name in self.cancels.get(minute, ()):
            found = handle({"method": "look_up", "at": time, "client_order_id": name})
            if found.get("status") == 200:
                handle({"method": "cancel", "at": time, "broker_order_id": found["body"]["broker_order_id"]})
        handle({"method": "activity", "at": time, "since": time, "until": time})

    def _request(self, chance: random.Random, name: str) -> OrderRequest:
        def price(around: float, spread: float) -> Decimal:
            return Decimal(round((around + chance.uniform(-spread, spread)) * 100)) / 100

        type_ = chance.choice((OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT, OrderType.STOP_LIMIT))
        stop = price(100, 0.8) if type_ in (OrderType.STOP, OrderType.STOP_LIMIT) else None
        limit = (stop or Decimal(100)) + price(0.1, 0.4) if type_ in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None
        bracket = chance.random() < 0.6
        oco = not bracket and chance.random() < 0.3
        if oco:
            type_, limit, stop = OrderType.LIMIT, price(100.7, 0.3), None
        return OrderRequest(
            client_order_id=name,
            symbol=chance.choice(self.symbols),
            side=Side.BUY if bracket else Side.SELL if oco else chance.choice((Side.BUY, Side.SELL)),
            quantity=chance.randrange(1, 260),
            type=type_,
            limit_price=limit,
            stop_price=stop,
            order_class=OrderClass.BRACKET if bracket else OrderClass.OCO if oco else OrderClass.SIMPLE,
            time_in_force=chance.choice((TimeInForce.DAY, TimeInForce.GTC)),
            take_profit_price=price(102, 0.7) if bracket else None,
            stop_loss_price=price(98.2, 0.7) if bracket or oco else None,
        )


def ledger_rows(folder: Path) -> dict[str, list[Any]]:
    """The ledger without what a repeated request may add (the log of requests) and without wall time."""
    connection = sqlite3.connect(folder / "broker-simulator.db")
    connection.row_factory = sqlite3.Row
    rows = {}
    for table in TABLES:
        found = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
        for row in found:
            row.pop("received_at", None)
            row.pop("sequence", None)
        rows[table] = sorted(found, key=repr)
    connection.close()
    return rows
