"""A market of a few symbols and sessions that is written down bar by bar, and the broker that trades in it."""

import os
import signal
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.policy import NO_FAULTS, BrokerPolicy, FaultRates
from finagent.domain.bars import BarQuality, DailyHistory, PriorFacts, SessionBars, no_history
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session

SYMBOLS = ("AAPL", "IBM", "MSFT")
FIRST = date(2008, 10, 1)
Bars = dict[int, tuple[float, float, float, float, float]]


def session_on(day: date, minutes: int = 390) -> Session:
    opens_at = datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC)
    return Session(day, opens_at, opens_at + timedelta(minutes=minutes))


SESSIONS = (session_on(FIRST), session_on(date(2008, 10, 2), 210), session_on(date(2008, 10, 3)))


class ScriptedMarket:
    """Every bar is 100/100/100/100 x 10,000 shares, unless `walk` draws a seeded path or `script` writes bars of a symbol by
    minute (1: the first). `broken` gives minutes their quality."""

    source_id = "scripted"
    notice = "written by a test"

    def __init__(self, walk: int | None = None, count: int = len(SYMBOLS)) -> None:
        self.symbols = SYMBOLS[:count] if count <= len(SYMBOLS) else tuple(f"S{n:03d}" for n in range(count))
        self.script: dict[str, Bars] = {}
        self.broken: dict[tuple[str, int], BarQuality] = {}
        self.loaded: list[date] = []
        self._walk = walk

    def sessions(self) -> tuple[Session, ...]:
        return SESSIONS

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        flat = np.full(len(self.symbols), 100.0)
        volumes = np.full((len(minutes), len(self.symbols)), 1e4)
        return PriorFacts(session, self.symbols, flat, flat * 1e4, minutes, volumes, {})

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return no_history(self.symbols)

    async def session_bars(self, session: Session) -> SessionBars:
        self.loaded.append(session.date)
        shape = (session.minutes, len(self.symbols))
        open_, high, low, close = (np.full(shape, 100.0) for _ in range(4))
        volume, quality = np.full(shape, 1e4), np.zeros(shape, dtype=np.uint8)
        if self._walk is not None:
            noise = np.random.Generator(np.random.Philox(key=self._walk + session.date.toordinal()))
            close = np.round(100 + np.cumsum(noise.normal(0, 0.12, shape), axis=0), 2)
            open_ = np.vstack([np.full((1, shape[1]), 100.0), close[:-1]])
            high = np.round(np.maximum(open_, close) + noise.exponential(0.04, shape), 2)
            low = np.round(np.minimum(open_, close) - noise.exponential(0.04, shape), 2)
            volume = np.floor(noise.exponential(3_000, shape))
        for symbol, bars in self.script.items():
            column = self.symbols.index(symbol)
            for minute, bar in bars.items():
                for array, value in zip((open_, high, low, close, volume), bar, strict=True):
                    array[minute - 1, column] = value
        for (symbol, minute), mark in self.broken.items():
            quality[minute - 1, self.symbols.index(symbol)] = mark
        return SessionBars(session, self.symbols, open_, high, low, close, volume, quality)


def broker_policy(**changes: Any) -> BrokerPolicy:
    """Free of costs, chance and faults, so that a test says what it is about."""
    terms: dict[str, Any] = {
        "account_id": "simulated",
        "start_cash_usd": Decimal(100_000),
        "leverage": Decimal(2),
        "market_order_buffer_bps": Decimal(400),
        "spread_bps": Decimal(0),
        "slippage_bps": Decimal(0),
        "commission_usd_per_share": Decimal(0),
        "volume_fraction": Decimal(1),
        "partial_fill_rate": 0.0,
        "deduplicates_forever": True,
        "short_selling": False,
        "stop_entry_brackets": True,
        "faults": NO_FAULTS,
    }
    return BrokerPolicy(**{**terms, **changes})


def fault_rates(**rates: float) -> FaultRates:
    names = {name: getattr(NO_FAULTS, name) for name in FaultRates.__dataclass_fields__}
    return FaultRates(**{**names, **rates})


def make_broker(
    folder: Path, market: MarketDataPort | None = None, seed: int = 7, failpoints: Any = None, **terms: Any
) -> SimulatedBroker:
    unarmed = failpoints or (lambda label: None)
    return SimulatedBroker(folder / "broker-simulator.db", market or ScriptedMarket(), broker_policy(**terms), seed, unarmed)


def broker_of(folder: str, walk: int, kill_at: int, label: str, **faults: float) -> SimulatedBroker:
    """For a process of its own: the JSON arguments of the server's command. Dies at the `kill_at`-th passage of the label."""
    passages = 0

    def failpoints(passed: str) -> None:
        nonlocal passages
        passages += passed == label
        if passages == kill_at and passed == label:
            os.kill(os.getpid(), signal.SIGKILL)

    terms: dict[str, Any] = {"partial_fill_rate": 0.3, "volume_fraction": Decimal("0.05"), "faults": fault_rates(**faults)}
    return make_broker(Path(folder), ScriptedMarket(walk), failpoints=failpoints, **terms)
