"""Market data as Alpaca tells it, made of the minute bars of our market source; nothing later than market time is told.

The source knows minutes alone: the trade and the quote of a minute stand at its close, half a spread on either side.
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np

from finagent.adapters.broker.alpaca_simulator.desk import Desk, Refused
from finagent.adapters.broker.alpaca_simulator.orders import BAD_REQUEST, instant_of, limit_of
from finagent.adapters.broker.alpaca_simulator.wire import time_text
from finagent.adapters.broker.simulated.wire import Json
from finagent.adapters.news.simulated import SimulatedNews
from finagent.domain.bars import BarQuality, SessionBars, no_bars
from finagent.domain.chance import uniform
from finagent.domain.errors import BadInput
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.news import Article
from finagent.domain.sessions import MINUTE, Session
from finagent.domain.time import EXCHANGE_ZONE, from_text

PAGE_DEFAULT, PAGE_MAX = 1000, 10_000
NEWS_DEFAULT, NEWS_MAX = 10, 50
TOP_DEFAULT, TOP_MAX = 10, 100
IEX_SHARE = 0.025  # of the consolidated volume: what the free feed sees
SHARES_PER_TRADE = 100
HISTORY_DAYS = 60  # before the window: what an agent asks for before its first open
UNITS = {"Min": 1, "T": 1, "Hour": 60, "H": 60}
DAILY = ("Day", "D")


@dataclass(slots=True)
class Bar:
    """A bar that starts at `at`; prices in USD, volume in shares."""

    at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    worth: float

    def take(self, later: "Bar") -> None:
        """Grow by the bar that follows."""
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.close, self.volume, self.worth = later.close, self.volume + later.volume, self.worth + later.worth

    def told(self, share: float = 1.0) -> Json:
        volume = max(1, int(self.volume * share)) if self.volume else 0
        mean = self.worth / self.volume if self.volume else self.close
        trades = -(-volume // SHARES_PER_TRADE)
        prices = {"o": self.open, "h": self.high, "l": self.low, "c": self.close}
        return {"t": time_text(self.at), **prices, "v": volume, "n": trades, "vw": round(mean, 6)}


@dataclass(frozen=True, slots=True)
class MarketDataPolicy:
    """`spread_bps` of the quotes; `corrected_bars`: the chance that a live bar tells nine tenths of its volume and is updated a
    minute later."""

    spread_bps: float
    corrected_bars: float
    seed: int


class MarketData:
    """What /v2/stocks, /v1beta1/news and the screener answer, and what the market streams tell. Raises Refused."""

    def __init__(self, desk: Desk, market: MarketDataPort, calendar: ExchangeCalendar, policy: MarketDataPolicy) -> None:
        self._desk = desk
        self._market, self._news = market, SimulatedNews(market)
        self._calendar = calendar
        self._policy = policy
        self._columns = {symbol: column for column, symbol in enumerate(market.symbols)}
        first = market.sessions()[0].date
        history = calendar.sessions(first - timedelta(days=HISTORY_DAYS), first - timedelta(days=1))
        self._known = (*history, *market.sessions())

    async def bars(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/bars, raw prices."""
        minutes = _timeframe(query.get("timeframe", "1Min"))
        share = IEX_SHARE if query.get("feed") == "iex" else 1.0
        start, end = self._window(query)
        rows = []
        for symbol in sorted(self._symbols(query)):
            made = [bar async for bar in self._bars(symbol, start, end)]
            rows += [(symbol, bar.at, bar.told(share)) for bar in _grouped(made, minutes) if start <= bar.at <= end]
        return _page("bars", rows, query)

    async def quotes(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/quotes."""
        return _page("quotes", await self._rows(query, self._quote), query)

    async def trades(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/trades."""
        return _page("trades", await self._rows(query, _trade), query)

    async def latest(self, kind: str, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/{bars, quotes, trades}/latest: symbols that have not traded are left out."""
        told: Json = {}
        for symbol in self._symbols(query):
            bar = await self._last(symbol)
            if bar is not None:
                told[symbol] = bar.told() if kind == "bars" else self._quote(bar) if kind == "quotes" else _trade(bar)
        return {kind: told}

    async def snapshots(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/snapshots. The day before the window is known by its close alone."""
        told: Json = {}
        for symbol in self._symbols(query):
            last = await self._last(symbol)
            today, before = await self._days(symbol)
            snapshot = {
                "latestTrade": _trade(last) if last else None,
                "latestQuote": self._quote(last) if last else None,
                "minuteBar": last.told() if last else None,
                "dailyBar": today.told() if today else None,
                "prevDailyBar": before.told() if before else None,
            }
            told[symbol] = {name: value for name, value in snapshot.items() if value is not None}
        return told

    async def movers(self, query: Mapping[str, str]) -> Json:
        """GET /v1beta1/screener/stocks/movers: by their change from the previous close."""
        moved: list[Json] = []
        for symbol in self._columns:
            (today, before), last = await self._days(symbol), await self._last(symbol)
            if today and before and last:
                change = last.close - before.close
                percent = round(100 * change / before.close, 2)
                moved.append({"symbol": symbol, "price": last.close, "change": round(change, 2), "percent_change": percent})
        moved.sort(key=lambda mover: (-mover["percent_change"], mover["symbol"]))
        top = limit_of(query.get("top"), TOP_DEFAULT, TOP_MAX)
        gainers = [mover for mover in moved if mover["percent_change"] > 0][:top]
        losers = [mover for mover in reversed(moved) if mover["percent_change"] < 0][:top]
        at = time_text(self._desk.now)
        return {"gainers": gainers, "losers": losers, "market_type": "stocks", "last_updated": at}

    async def most_actives(self, query: Mapping[str, str]) -> Json:
        """GET /v1beta1/screener/stocks/most-actives: by volume or trades since the open."""
        found = []
        for symbol in self._columns:
            today, _ = await self._days(symbol)
            if today:
                bar = today.told()
                found.append({"symbol": symbol, "volume": bar["v"], "trade_count": bar["n"]})
        by = "trade_count" if query.get("by") == "trades" else "volume"
        found.sort(key=lambda each: (-each[by], each["symbol"]))
        top = limit_of(query.get("top"), TOP_DEFAULT, TOP_MAX)
        return {"most_actives": found[:top], "last_updated": time_text(self._desk.now)}

    async def news(self, query: Mapping[str, str]) -> Json:
        """GET /v1beta1/news: an article a gap, when the session's first bar is complete."""
        start, end = self._window(query)
        symbols = set(filter(None, query.get("symbols", "").split(",")))
        found = []
        for session in self._market.sessions():
            if start - timedelta(days=1) <= session.opens_at <= self._desk.now:
                found += [article for article in await self._articles(session) if start <= article.at <= end]
        wanted = [article for article in found if not symbols or symbols & set(article.symbols)]
        wanted.sort(key=lambda each: (each.at, int(each.article_id)), reverse=query.get("sort", "desc").lower() != "asc")
        ids, token = [article.article_id for article in wanted], query.get("page_token")
        if token is not None and token not in ids:
            raise Refused(400, None, "invalid page_token")
        begin = ids.index(token) + 1 if token is not None else 0
        page = wanted[begin : begin + limit_of(query.get("limit"), NEWS_DEFAULT, NEWS_MAX)]
        more = begin + len(page) < len(wanted)
        return {"news": [_article(item) for item in page], "next_page_token": page[-1].article_id if more else None}

    async def messages(self, wanted: set[str], before: datetime, until: datetime) -> list[list[Json]]:
        """What the streams tell of the minutes that ended in (before, until], a batch a minute; times are instants."""
        batches = []
        for session in self._market.sessions():
            if session.closes_at <= before or session.opens_at >= until or not wanted:
                continue
            bars = await self._market.session_bars(session)
            columns = range(len(self._columns)) if "*" in wanted else [self._columns[s] for s in wanted if s in self._columns]
            batches += [
                [message for column in columns for message in self._live(bars, minute, column)]
                for minute in range(session.minute_of(before) + 1, session.minute_of(until) + 1)
            ]
            batches += await self._told_news(session, before, until)
        return batches

    # -- the source ----------------------------------------------------------------------------------------------------------

    def _live(self, bars: SessionBars, minute: int, column: int) -> Iterable[Json]:
        symbol, now = bars.symbols[column], bars.session.instant_of(minute)
        halted = [minute > n and bars.quality[minute - 1 - n, column] == BarQuality.HALTED for n in (0, 1)]
        if halted[0] != halted[1]:
            code, text = ("H", "Trading Halt") if halted[0] else ("T", "Trading Resumption")
            yield {
                "T": "s",
                "S": symbol,
                "sc": code,
                "sm": text,
                "rc": "LUDP",
                "rm": "Volatility Trading Pause",
                "t": now,
                "z": "C",
            }
        if minute > 1 and (corrected := _minute_bar(bars, minute - 1, column)) and self._corrected(symbol, corrected.at):
            yield {"T": "u", "S": symbol, **corrected.told(), "t": corrected.at}
        bar = _minute_bar(bars, minute, column)
        if bar is not None:
            yield {"T": "b", "S": symbol, **bar.told(0.9 if self._corrected(symbol, bar.at) else 1.0), "t": bar.at}
            yield {"T": "t", "S": symbol, **_trade(bar), "t": now}
            yield {"T": "q", "S": symbol, **self._quote(bar), "t": now}

    def _corrected(self, symbol: str, at: datetime) -> bool:
        rate = self._policy.corrected_bars
        return bool(rate) and uniform(self._policy.seed, "corrected_bar", symbol, time_text(at)) < rate

    def _quote(self, bar: Bar) -> Json:
        half = bar.close * self._policy.spread_bps / 20_000
        sides = {"bp": round(bar.close - half, 4), "bs": 1, "bx": "Q", "ap": round(bar.close + half, 4), "as": 1, "ax": "Q"}
        return {"t": time_text(bar.at + MINUTE), **sides, "c": ["R"], "z": "C"}

    def _symbols(self, query: Mapping[str, str]) -> list[str]:
        named = [symbol for symbol in query.get("symbols", "").split(",") if symbol]
        if not named:
            raise Refused(400, None, "symbols is required")
        return [symbol for symbol in dict.fromkeys(named) if symbol in self._columns]

    def _window(self, query: Mapping[str, str]) -> tuple[datetime, datetime]:
        """From `start` (else the beginning of the day) to `end` (else now). What lies ahead of now has no bar yet."""
        now = self._desk.now
        start, end = instant_of(query.get("start"), "start"), instant_of(query.get("end"), "end")
        return start or _midnight(now.astimezone(EXCHANGE_ZONE).date()), end or now

    async def _bars(self, symbol: str, start: datetime, end: datetime) -> AsyncIterator[Bar]:
        """The minute bars that are complete by now and begin in [start, end]."""
        for session in self._known:
            if session.closes_at <= start or session.opens_at > end or session.opens_at > self._desk.now:
                continue
            bars = await self._session_bars(session)
            for minute in range(session.minute_of(start) + 1, session.minute_of(min(self._desk.now, end + MINUTE)) + 1):
                bar = _minute_bar(bars, minute, self._columns[symbol])
                if bar is not None and start <= bar.at <= end:
                    yield bar

    async def _session_bars(self, session: Session) -> SessionBars:
        """Of a session before the window too, where the source has its bars."""
        try:
            return await self._market.session_bars(session)
        except BadInput:
            return no_bars(session, self._market.symbols)

    async def _rows(self, query: Mapping[str, str], tell: Any) -> list[tuple[str, datetime, Json]]:
        start, end = self._window(query)
        rows = []
        for symbol in sorted(self._symbols(query)):
            made = [bar async for bar in self._bars(symbol, start - MINUTE, end)]
            rows += [(symbol, bar.at + MINUTE, tell(bar)) for bar in made if start <= bar.at + MINUTE <= end]
        return rows

    async def _last(self, symbol: str) -> Bar | None:
        """The last minute in which the symbol traded: today, else in the session before."""
        for session in [s for s in reversed(self._market.sessions()) if s.opens_at < self._desk.now][:2]:
            bars = await self._market.session_bars(session)
            for minute in range(session.minute_of(self._desk.now), 0, -1):
                bar = _minute_bar(bars, minute, self._columns[symbol])
                if bar is not None:
                    return bar
        return None

    async def _days(self, symbol: str) -> tuple[Bar | None, Bar | None]:
        """The day at hand so far (the last one, while the exchange is closed) and the one before."""
        begun = [session for session in self._market.sessions() if session.opens_at <= self._desk.now]
        if not begun:
            return None, None
        today = await self._day(symbol, begun[-1])
        if len(begun) > 1:
            return today, await self._day(symbol, begun[-2])
        facts = await self._market.prior_facts(begun[-1], ())
        close = float(facts.previous_close[self._columns[symbol]])
        if not np.isfinite(close):
            return today, None
        eve = self._calendar.sessions(begun[-1].date - timedelta(days=14), begun[-1].date - timedelta(days=1))[-1]
        return today, Bar(_midnight(eve.date), close, close, close, close, 0, 0)

    async def _day(self, symbol: str, session: Session) -> Bar | None:
        made = [bar async for bar in self._bars(symbol, session.opens_at, session.closes_at)]
        return next(iter(_grouped(made, None)), None)

    async def _articles(self, session: Session) -> Sequence[Article]:
        """Of a session; empty before its first bar is complete."""
        return await self._news.of_session(session) if session.instant_of(1) <= self._desk.now else ()

    async def _told_news(self, session: Session, before: datetime, until: datetime) -> list[list[Json]]:
        if not before < session.instant_of(1) <= until:
            return []
        articles = await self._articles(session)
        return [[{"T": "n", **_article(item), "created_at": item.at, "updated_at": item.at}] for item in articles]


def _minute_bar(bars: SessionBars, minute: int, column: int) -> Bar | None:
    """The bar of the session's n-th minute; None where nothing traded or it is bad."""
    row = minute - 1
    if int(bars.quality[row, column]) != BarQuality.OK or bars.volume[row, column] < 1:
        return None
    opened, high, low, close = (float(array[row, column]) for array in (bars.open, bars.high, bars.low, bars.close))
    volume = float(bars.volume[row, column])
    return Bar(bars.session.instant_of(row), opened, high, low, close, volume, volume * (opened + high + low + close) / 4)


def _timeframe(text: str) -> int | None:
    """Its minutes; None for a day."""
    found = re.fullmatch(r"(\d+)(Min|T|Hour|H|Day|D)", text)
    if found is None or (found[2] in DAILY and found[1] != "1") or not int(found[1]):
        raise Refused(400, None, f"invalid timeframe: {text} (minutes, hours and 1Day are simulated)")
    return None if found[2] in DAILY else int(found[1]) * UNITS[found[2]]


def _grouped(minutes: Iterable[Bar], size: int | None) -> list[Bar]:
    """Bars of so many minutes, on the clock; of a day for None, which start at midnight in New York."""
    groups: list[Bar] = []
    for bar in minutes:
        if size is None:
            at = _midnight(bar.at.astimezone(EXCHANGE_ZONE).date())
        else:
            at = bar.at - timedelta(seconds=bar.at.timestamp() % (size * 60))
        if groups and groups[-1].at == at:
            groups[-1].take(bar)
        else:
            groups.append(Bar(at, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.worth))
    return groups


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), EXCHANGE_ZONE)


def _trade(bar: Bar) -> Json:
    at = bar.at + MINUTE
    size = int(bar.volume)
    return {"t": time_text(at), "i": int(at.timestamp()), "x": "Q", "p": bar.close, "s": size, "c": ["@"], "z": "C"}


def _article(article: Article) -> Json:
    at = time_text(article.at)
    return {
        "id": int(article.article_id),
        "headline": article.headline,
        "author": "simulator",
        "created_at": at,
        "updated_at": at,
        "summary": article.headline,
        "content": f"<p>{article.headline}.</p>",
        "url": article.url,
        "images": [],
        "symbols": list(article.symbols),
        "source": article.source,
    }


def _page(kind: str, rows: list[tuple[str, datetime, Json]], query: Mapping[str, str]) -> Json:
    """Rows by symbol, a page of them, and the token of the next one: symbol and time of the last."""
    if query.get("sort") == "desc":
        rows = sorted(rows, key=lambda row: row[1], reverse=True)
        rows.sort(key=lambda row: row[0])
    token, begin = query.get("page_token"), 0
    if token:
        symbol, _, at = token.partition("|")
        keys = [(row[0], row[1]) for row in rows]
        try:
            begin = keys.index((symbol, from_text(at))) + 1
        except ValueError:
            raise Refused(400, BAD_REQUEST, "invalid page_token") from None
    page = rows[begin : begin + limit_of(query.get("limit"), PAGE_DEFAULT, PAGE_MAX)]
    told: dict[str, list[Json]] = {}
    for symbol, _, row in page:
        told.setdefault(symbol, []).append(row)
    more = begin + len(page) < len(rows)
    return {kind: told, "next_page_token": f"{page[-1][0]}|{time_text(page[-1][1])}" if more else None}
