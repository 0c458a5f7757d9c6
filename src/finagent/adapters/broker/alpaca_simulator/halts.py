"""Trading halts of the simulated exchange, by script or by seed: in a halted minute nothing trades, whoever asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from finagent.adapters.broker.alpaca_simulator.orders import instant_of
from finagent.domain.bars import BarQuality, DailyHistory, PriorFacts, SessionBars
from finagent.domain.chance import uniform
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import MINUTE, Session

MINUTES_MIN, MINUTES_MAX = 5, 30  # of a halt by seed; a volatility pause is five


@dataclass(frozen=True, slots=True)
class Halt:
    """`symbol` does not trade in the `minutes` from `at` on."""

    symbol: str
    at: datetime
    minutes: int


@dataclass(slots=True)
class HaltingMarket:
    """MarketDataPort over another one. `rate`: the chance that a symbol is halted once in a session, drawn by `seed`."""

    market: MarketDataPort
    seed: int = 0
    rate: float = 0
    script: list[Halt] = field(default_factory=list)

    @property
    def source_id(self) -> str:
        return self.market.source_id

    @property
    def notice(self) -> str:
        return self.market.notice

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.market.symbols

    def sessions(self) -> tuple[Session, ...]:
        return self.market.sessions()

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        return await self.market.prior_facts(session, minutes)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return await self.market.daily_history(session, first)

    async def session_bars(self, session: Session) -> SessionBars:
        bars, halts = await self.market.session_bars(session), [*self.script, *self._drawn(session)]
        if not halts:
            return bars
        quality = bars.quality.copy()
        for halt in halts:
            first, last = session.minute_of(halt.at), session.minute_of(halt.at + timedelta(minutes=halt.minutes))
            if halt.symbol in self.symbols and halt.at < session.closes_at:
                quality[first:last, self.symbols.index(halt.symbol)] = BarQuality.HALTED
        return replace(bars, quality=quality)

    def _drawn(self, session: Session) -> list[Halt]:
        if not self.rate:
            return []
        draws = {symbol: self._draw("halt", symbol, session) for symbol in self.symbols}
        return [self._halt(symbol, session) for symbol, draw in draws.items() if draw < self.rate]

    def _halt(self, symbol: str, session: Session) -> Halt:
        first = int(self._draw("halt_begins", symbol, session) * session.minutes)
        minutes = MINUTES_MIN + int(self._draw("halt_minutes", symbol, session) * (MINUTES_MAX + 1 - MINUTES_MIN))
        return Halt(symbol, session.opens_at + first * MINUTE, minutes)

    def _draw(self, purpose: str, symbol: str, session: Session) -> float:
        return uniform(self.seed, purpose, symbol, session.date.isoformat())


def halts_from_json(entries: Sequence[Mapping[str, Any]], symbols: Sequence[str], now: datetime) -> list[Halt]:
    """A script as JSON: objects with `symbol`, `at` and `minutes`. What has happened stays: raises BadInput for a halt that
    begins before `now`, and for anything else that cannot be."""
    halts = []
    for entry in entries:
        try:
            halt = Halt(str(entry["symbol"]), _instant(entry["at"]), int(entry["minutes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"halt {dict(entry)}: {error!r}; it has symbol, at and minutes") from None
        if halt.symbol not in symbols or halt.minutes < 1 or halt.at < now:
            raise BadInput(f"halt {dict(entry)}: a listed symbol, from {now.isoformat()} on, for a minute or more")
        halts.append(halt)
    return halts


def _instant(told: Any) -> datetime:
    at = instant_of(told, "at")
    if at is None:
        raise ValueError("at is empty")
    return at
