"""A market in memory: made once in the fork server, shared by all its children."""

from datetime import date

from finagent.domain.bars import DailyHistory, PriorFacts, SessionBars
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session


class MarketInMemory:
    """MarketDataPort over another one; what was asked before is answered at once, in this process and in its forks."""

    def __init__(self, source: MarketDataPort) -> None:
        self._source = source
        self._facts: dict[tuple[Session, tuple[int, ...]], PriorFacts] = {}
        self._daily: dict[tuple[Session, date], DailyHistory] = {}
        self._bars: dict[Session, SessionBars] = {}

    @property
    def source_id(self) -> str:
        return self._source.source_id

    @property
    def notice(self) -> str:
        return self._source.notice

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._source.symbols

    def sessions(self) -> tuple[Session, ...]:
        return self._source.sessions()

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        key = (session, minutes)
        if key not in self._facts:
            self._facts[key] = await self._source.prior_facts(session, minutes)
        return self._facts[key]

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        if (session, first) not in self._daily:
            self._daily[session, first] = await self._source.daily_history(session, first)
        return self._daily[session, first]

    async def session_bars(self, session: Session) -> SessionBars:
        if session not in self._bars:
            self._bars[session] = await self._source.session_bars(session)
        return self._bars[session]
