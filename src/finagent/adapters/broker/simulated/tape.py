"""The broker's own view of the market: bars of the symbols it has orders in, and nothing else materialised."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np

from finagent.adapters.broker.simulated.matching import Bar
from finagent.domain.bars import BarQuality, SessionBars
from finagent.domain.money import exact
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session

SESSIONS_KEPT = 1  # 10,000 symbols of one session are 160 MB


@dataclass(frozen=True, slots=True)
class _Column:
    """One symbol's session: prices and volumes as Python numbers, and the minutes in which it traded, ascending."""

    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    traded: list[int]


class Tape:
    """Bars by symbol and session. Blocks while a session is loaded, so it lives on the broker's own thread."""

    def __init__(self, market: MarketDataPort) -> None:
        self._market = market
        self._symbols = {symbol: index for index, symbol in enumerate(market.symbols)}
        self._sessions = market.sessions()
        self._closes = [session.closes_at for session in self._sessions]
        self._runner: asyncio.Runner | None = None
        self._bars: dict[Session, SessionBars] = {}
        self._columns: dict[tuple[Session, str], _Column] = {}
        self._prior: dict[Session, list[float]] = {}

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def forget(self) -> None:
        """Load the bars anew when they are wanted: the market has other ones."""
        self._bars.clear()
        self._columns.clear()

    def lists(self, symbol: str) -> bool:
        """Whether the symbol is known at all."""
        return symbol in self._symbols

    def session_of(self, received_at: datetime) -> Session | None:
        """The session in which an order received then is worked: the first one that closes later."""
        index = bisect_right(self._closes, received_at)
        return self._sessions[index] if index < len(self._sessions) else None

    def bar_times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants in (after, until] at which a bar is complete, in order."""
        for session in self._sessions[bisect_right(self._closes, after) :]:
            if session.opens_at >= until:
                return
            for minute in range(session.minute_of(after) + 1, session.minute_of(until) + 1):
                yield session.instant_of(minute)

    def session_at_bar(self, instant: datetime) -> Session | None:
        """The session of which a bar is complete at the instant."""
        index = bisect_left(self._closes, instant)
        if index == len(self._sessions):
            return None
        session = self._sessions[index]
        minute = session.minute_of(instant)
        return session if minute and session.instant_of(minute) == instant else None

    def bar(self, symbol: str, session: Session, instant: datetime) -> Bar | None:
        """The bar complete at the instant; None when nothing traded in it (halted, missing, bad, or no volume)."""
        column, row = self._column(symbol, session), session.minute_of(instant) - 1
        found = bisect_left(column.traded, row)
        if found == len(column.traded) or column.traded[found] != row:
            return None
        return Bar(
            exact(column.open[row]),
            exact(column.high[row]),
            exact(column.low[row]),
            exact(column.close[row]),
            int(column.volume[row]),
        )

    def last_price(self, symbol: str, at: datetime) -> Decimal | None:
        """The last close traded by then in the session at hand, else the close before it; None when there is none."""
        index = min(bisect_left(self._closes, at), len(self._sessions) - 1)
        session = self._sessions[index]
        if session.minute_of(at):
            column = self._column(symbol, session)
            found = bisect_left(column.traded, session.minute_of(at))
            if found:
                return exact(column.close[column.traded[found - 1]])
        previous = self._previous_closes(session)[self._symbols[symbol]]
        return exact(previous) if np.isfinite(previous) else None

    def _column(self, symbol: str, session: Session) -> _Column:
        column = self._columns.get((session, symbol))
        if column is None:
            bars, index = self._session_bars(session), self._symbols[symbol]
            traded = (bars.quality[:, index] == BarQuality.OK) & (bars.volume[:, index] >= 1)
            column = self._columns[session, symbol] = _Column(
                bars.open[:, index].tolist(),
                bars.high[:, index].tolist(),
                bars.low[:, index].tolist(),
                bars.close[:, index].tolist(),
                bars.volume[:, index].tolist(),
                np.flatnonzero(traded).tolist(),
            )
        return column

    def _session_bars(self, session: Session) -> SessionBars:
        if session not in self._bars:
            while len(self._bars) >= SESSIONS_KEPT:
                self._forget(next(iter(self._bars)))
            self._bars[session] = self._loop().run(self._market.session_bars(session))
        return self._bars[session]

    def _previous_closes(self, session: Session) -> list[float]:
        if session not in self._prior:
            facts = self._loop().run(self._market.prior_facts(session, ()))
            self._prior = {session: facts.previous_close.tolist()}
        return self._prior[session]

    def _forget(self, session: Session) -> None:
        del self._bars[session]
        self._columns = {key: column for key, column in self._columns.items() if key[0] != session}

    def _loop(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner
