"""What was known before an open, from Alpaca's raw daily bars, its splits, and the minutes of past sessions."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta

import numpy as np

from finagent.adapters.market_data.alpaca.policy import AlpacaMarketPolicy
from finagent.adapters.market_data.alpaca.wire import Bar, SplitAction
from finagent.adapters.market_data.daily_files import suspected_splits
from finagent.adapters.market_data.daily_panel import DailyPanel
from finagent.domain.bars import BAR_COLUMNS, DailyHistory, Floats, PriorFacts
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.sessions import MINUTE, Session
from finagent.domain.time import EXCHANGE_ZONE

Bars = Callable[[str, str, datetime, datetime], Awaitable[list[Bar]]]  # timeframe, feed, start, end
Splits = Callable[[date, date], Awaitable[list[SplitAction]]]
CALENDAR_DAYS_PER_SESSION = 2  # more than weekends and holidays take


class AlpacaHistory:
    """The minutes of a past session are read once and stay in memory while they count."""

    def __init__(self, bars: Bars, splits: Splits, calendar: ExchangeCalendar, policy: AlpacaMarketPolicy) -> None:
        self._bars, self._splits, self._calendar, self._policy = bars, splits, calendar, policy
        self._minutes: dict[tuple[date, int], Floats] = {}

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        """Raises Transient where history cannot be had whole."""
        past = self._past(session)
        first = past[0].date
        daily = await self._bars("1Day", self._policy.history_feed, _midnight(first), past[-1].closes_at)
        panel = self._panel((*past, session), daily, await self._splits(first, session.date))
        traded = {each.date: await self._traded(each, minutes) for each in past}
        self._minutes = {key: volumes for key, volumes in self._minutes.items() if key[0] in traded}

        def shares(session: Session, minutes: tuple[int, ...]) -> Floats:
            """Such that share times volume of the day is the volume of the minutes, on their own feed."""
            volume = panel.volume[panel.day_of(session)]
            whole = np.where(np.isfinite(volume) & (volume > 0), volume, np.inf)
            return np.asarray(traded[session.date] / whole)

        return panel.prior_facts(session, minutes, self._policy.history, shares)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        """Raises Transient where history cannot be had whole."""
        past = self._calendar.sessions(first, session.date - timedelta(days=1))
        daily = await self._bars("1Day", self._policy.history_feed, _midnight(first), past[-1].closes_at)
        return self._panel((*past, session), daily, await self._splits(first, session.date)).daily_history(session, first)

    def _past(self, session: Session) -> tuple[Session, ...]:
        history = self._policy.history
        count = history.mean_sessions + history.hole_sessions_max
        days = timedelta(days=CALENDAR_DAYS_PER_SESSION * count + 10)
        return self._calendar.sessions(session.date - days, session.date - timedelta(days=1))[-count:]

    def _panel(self, sessions: tuple[Session, ...], daily: Iterable[Bar], splits: Iterable[SplitAction]) -> DailyPanel:
        symbols = self._policy.symbols
        row_of = {session.date: row for row, session in enumerate(sessions)}
        column_of = {symbol: column for column, symbol in enumerate(symbols)}
        shape = (len(sessions), len(symbols))
        columns = {name: np.full(shape, np.nan) for name in BAR_COLUMNS}
        for bar in daily:
            row, column = row_of.get(bar.at.astimezone(EXCHANGE_ZONE).date()), column_of.get(bar.symbol)
            if row is not None and column is not None:
                for name in BAR_COLUMNS:
                    columns[name][row, column] = getattr(bar, name)
        split = np.ones(shape)
        for action in splits:
            row, column = row_of.get(action.ex_date), column_of.get(action.symbol)
            if row is not None and column is not None:
                split[row, column] *= action.value
        return DailyPanel.checked(symbols, sessions, columns, split, self._suspects(sessions, columns, split))

    def _suspects(
        self, sessions: tuple[Session, ...], columns: Mapping[str, Floats], split: Floats
    ) -> tuple[dict[str, str], ...]:
        """A jump that looks like a split and that no corporate action confirms puts its symbol out until it is explained."""
        named: list[dict[str, str]] = [{} for _ in sessions]
        adjusted = columns["open"] * split
        for row, place, value in suspected_splits(adjusted, columns["close"]):
            named[row][self._policy.symbols[place]] = f"looks like a split, {value:g} new shares per old, and none is listed"
        return tuple(named)

    async def _traded(self, session: Session, minutes: tuple[int, ...]) -> Floats:
        """Shares traded by each of the minutes of a past session, [len(minutes), symbols]."""
        symbols, longest = self._policy.symbols, min(max(minutes, default=0), session.minutes)
        key = (session.date, longest)
        if key not in self._minutes:
            volume = np.zeros((longest + 1, len(symbols)))
            column_of = {symbol: column for column, symbol in enumerate(symbols)}
            end = session.opens_at + longest * MINUTE - timedelta(seconds=1)
            told = await self._bars("1Min", self._policy.feed, session.opens_at, end) if longest else []
            for bar in told:
                row = (bar.at - session.opens_at) // MINUTE + 1
                if bar.symbol in column_of and 1 <= row <= longest:
                    volume[row, column_of[bar.symbol]] = bar.volume
            self._minutes[key] = np.cumsum(volume, axis=0)
        return self._minutes[key][np.clip(np.array(minutes, dtype=np.intp), 0, longest)]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), EXCHANGE_ZONE)
