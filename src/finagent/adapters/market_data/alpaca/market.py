"""MarketDataPort on wall time at Alpaca: history and gaps over REST, which is the truth; the stream tells sooner."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from alpaca.common.rest import RESTClient
from alpaca.data.historical.stock import StockHistoricalDataClient

from finagent.adapters.broker.alpaca.policy import Keys, RestPolicy
from finagent.adapters.broker.alpaca.rest import AlpacaRest
from finagent.adapters.market_data.alpaca.history import AlpacaHistory
from finagent.adapters.market_data.alpaca.pages import AlpacaPages
from finagent.adapters.market_data.alpaca.policy import AlpacaMarketPolicy
from finagent.adapters.market_data.alpaca.session_book import SessionBook
from finagent.adapters.market_data.alpaca.stream import BAR_TYPES, MarketStream
from finagent.adapters.market_data.alpaca.wire import (
    Bar,
    Quote,
    Snapshot,
    SplitAction,
    bar,
    moment,
    page_of_bars,
    page_of_splits,
    quote,
    snapshots,
)
from finagent.domain.bars import DailyHistory, PriorFacts, Quotes, SessionBars, no_quotes
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.clock import Clock
from finagent.domain.sessions import MINUTE, Session
from finagent.domain.time import to_text

log = structlog.get_logger(__name__)
ROWS_PER_PAGE, ACTIONS_PER_PAGE = 10_000, 1000  # the most that Alpaca gives
WATCH_SECONDS = 1.0  # of wall time between looks at how long the stream has been mute
PAST, AHEAD = timedelta(days=30), timedelta(days=366)  # sessions that a job may still speak of, and those that are planned
HALTED, RESUMED = frozenset({"H", "2", "P"}), frozenset({"T", "3", "R"})  # of the two tapes: halt or pause, and its end


def data_client(policy: RestPolicy, keys: Keys) -> RESTClient:
    """The SDK's client of market data; it is asked raw."""
    return StockHistoricalDataClient(keys.key_id, keys.secret_key, raw_data=True, url_override=policy.url)


class AlpacaMarket:
    """One session at a time is kept up to date: the one whose bars were asked for last."""

    def __init__(
        self, rest: AlpacaRest, keys: Keys, calendar: ExchangeCalendar, clock: Clock, policy: AlpacaMarketPolicy
    ) -> None:
        self._rest, self._calendar, self._clock, self._policy = rest, calendar, clock, policy
        self._pages = AlpacaPages(rest)
        self._history = AlpacaHistory(self._bars, self._splits, calendar, policy)
        self._book: SessionBook | None = None
        self._asked_until: datetime | None = None
        self._asking = asyncio.Lock()
        self._quotes: dict[str, Quote] = {}
        self.heard: Counter[str] = Counter()
        self._make_stream: Callable[[], MarketStream] = lambda: MarketStream(
            keys, policy.stream_url, policy.feed, policy.symbols, self._take, self._connected
        )

    @property
    def source_id(self) -> str:
        return f"alpaca:{self._policy.feed}"

    @property
    def notice(self) -> str:
        feed = self._policy.feed
        return f"Alpaca, feed {feed}" + (" (one exchange, some percent of all trades)" if feed == "iex" else "")

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._policy.symbols

    def sessions(self) -> tuple[Session, ...]:
        """Those of the calendar around now."""
        now = self._clock.now()
        return self._calendar.sessions((now - PAST).date(), (now + AHEAD).date())

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        return await self._history.prior_facts(session, minutes)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return await self._history.daily_history(session, first)

    async def session_bars(self, session: Session) -> SessionBars:
        """What is known of the session; of the one at hand the arrays fill as its bars come."""
        now = self._clock.now()
        book = SessionBook(session, self._policy.symbols)
        if now > session.closes_at + MINUTE:
            for told in await self._bars("1Min", self._policy.feed, session.opens_at, session.closes_at):
                book.put(told)
            return book.bars
        if self._book is None or self._book.bars.session != session:
            self._book, self._asked_until = book, None
            await self.catch_up()
        return self._book.bars

    async def catch_up(self) -> None:
        """Bring in the bars of the session at hand that are complete by now; what was told before changes nothing."""
        async with self._asking:
            book, now = self._book, self._clock.now()
            if book is None or now < book.bars.session.opens_at:
                return
            session = book.bars.session
            since = session.opens_at if self._asked_until is None else self._asked_until - MINUTE
            for told in await self._bars("1Min", self._policy.feed, since, min(now, session.closes_at)):
                book.put(told)
            self._asked_until = session.opens_at + session.minute_of(now) * MINUTE

    async def run(self) -> None:
        """Listen until cancelled. A stream that tells nothing for long while the market is open is opened anew."""
        stream = self._make_stream()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.run_forever(), name="market stream")
            broken_at = self._clock.now()
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                mute = min(self.stale_seconds(), (self._clock.now() - broken_at).total_seconds())
                if mute > self._policy.reconnect_seconds:
                    log.warning("market_stream_mute", seconds=round(mute), trouble=stream.trouble)
                    broken_at = self._clock.now()
                    await stream.break_off()

    def stale_seconds(self) -> float:
        """How far the last bar that came lies back by its own time, while the market is open; 0 while it is not. A feed that is
        late is as stale as one that is silent."""
        if self._book is None:
            return 0.0
        session, now = self._book.bars.session, self._clock.now()
        if not session.opens_at <= now <= session.closes_at:
            return 0.0
        return max(0.0, (now - (self._book.last_at or session.opens_at)).total_seconds())

    async def quotes(self, at: datetime) -> Quotes:
        """The last ones that the stream told: they are known already, whatever their clock says."""
        found = no_quotes(len(self.symbols))
        for place, symbol in enumerate(self.symbols):
            told = self._quotes.get(symbol)
            if told is not None:
                found.bid[place], found.bid_size[place], found.ask[place] = told.bid, told.bid_size, told.ask
                found.ask_size[place] = told.ask_size
                found.age_seconds[place] = max(0.0, (at - told.at).total_seconds())
        return found

    async def close(self) -> None:
        """Give the connections back."""
        await self._rest.close()

    async def snapshots(self) -> dict[str, Snapshot]:
        """The last trade and quote of every symbol of which there is one. Transient without a usable answer; Permanent where the
        feed is not ours to read."""
        found: dict[str, Snapshot] = {}
        symbols, size = self._policy.symbols, self._policy.symbols_per_request
        for first in range(0, len(symbols), size):
            query = {"symbols": ",".join(symbols[first : first + size]), "feed": self._policy.feed}
            found |= await self._pages.one("/stocks/snapshots", query, snapshots)
        return found

    # -- REST ----------------------------------------------------------------------------------------------------------------

    async def _bars(self, timeframe: str, feed: str, start: datetime, end: datetime) -> list[Bar]:
        """Every bar that begins in [start, end], raw: all pages of all symbols, or no answer at all."""
        found: list[Bar] = []
        symbols, size = self._policy.symbols, self._policy.symbols_per_request
        for first in range(0, len(symbols), size):
            query = {
                "symbols": ",".join(symbols[first : first + size]),
                "timeframe": timeframe,
                "feed": feed,
                "start": to_text(start),
                "end": to_text(end),
                "adjustment": "raw",
                "limit": ROWS_PER_PAGE,
                "sort": "asc",
            }
            found += await self._pages.all("/stocks/bars", query, page_of_bars)
        return found

    async def _splits(self, first: date, last: date) -> list[SplitAction]:
        found: list[SplitAction] = []
        symbols, size = self._policy.symbols, self._policy.symbols_per_request
        for begin in range(0, len(symbols), size):
            query = {
                "symbols": ",".join(symbols[begin : begin + size]),
                "types": "forward_split,reverse_split",
                "start": first.isoformat(),
                "end": last.isoformat(),
                "limit": ACTIONS_PER_PAGE,
            }
            found += await self._pages.all("/corporate-actions", query, page_of_splits, api_version="v1")
        return found

    # -- stream --------------------------------------------------------------------------------------------------------------

    async def _connected(self) -> None:
        """The server tells nothing again: what was missed is asked for."""
        try:
            await self.catch_up()
        except Transient as error:
            log.warning("bars_unanswered", error=str(error))

    def _take(self, message: dict[str, Any]) -> None:
        """A message of the stream. Raises Unreadable for one that cannot be used."""
        kind = str(message.get("T"))
        self.heard[kind] += 1
        if kind in BAR_TYPES:
            told = bar(str(message.get("S")), message)
            if self._book is not None:
                self._book.put(told)
        elif kind == "q":
            told_quote = quote(message)
            self._quotes[told_quote.symbol] = told_quote
        elif kind == "s" and self._book is not None:
            code = message.get("sc")
            if code in HALTED or code in RESUMED:
                self._book.halt(str(message.get("S")), moment(message), halted=code in HALTED)


def require_universe(symbols: tuple[str, ...], tradable: frozenset[str]) -> None:
    """Raises BadInput that names the symbols which cannot be traded."""
    unknown = [symbol for symbol in symbols if symbol not in tradable]
    if unknown:
        raise BadInput(f"market_data.symbols: {', '.join(unknown)} cannot be traded at Alpaca: remove them")
