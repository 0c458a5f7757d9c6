"""Minute bars replayed as the files hold them. Imports pandas."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finagent.adapters.market_data.bar_files import KNOWN_AT, Split, as_known, corrections
from finagent.adapters.market_data.bar_repair import GapPolicy, repaired
from finagent.adapters.market_data.bridge import MinuteBridge
from finagent.adapters.market_data.daily_files import panels_of, sessions_of
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.domain.bars import BAR_COLUMNS, BarQuality, DailyHistory, Floats, PriorFacts, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.sessions import Session
from finagent.quant.features.bar_soundness import sound_bars

_MINUTE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class MinuteRows:
    """Bars of the regular sessions as columns over rows, sorted by session row: `starts[row]:starts[row + 1]` is a session."""

    symbols: tuple[str, ...]
    sessions: tuple[Session, ...]
    starts: NDArray[np.intp]
    minute: NDArray[np.intp]
    place: NDArray[np.intp]
    numbers: dict[str, Floats]

    @classmethod
    def of(cls, bars: pd.DataFrame, symbols: tuple[str, ...], calendar: ExchangeCalendar) -> "MinuteRows":
        """Extended hours are left out: the agent trades the regular session."""
        bars = bars[bars["symbol"].isin(symbols)]
        sessions, rows = sessions_of(bars, calendar)
        opens = np.array([pd.Timestamp(session.opens_at).value for session in sessions])
        lengths = np.array([session.minutes for session in sessions])
        minute = (bars["timestamp"].astype("int64").to_numpy() - opens[rows]) // _MINUTE_NS
        regular = np.flatnonzero((minute >= 0) & (minute < lengths[rows]))
        order = regular[np.argsort(rows[regular], kind="stable")]
        place_of = {symbol: place for place, symbol in enumerate(symbols)}
        return cls(
            symbols=symbols,
            sessions=sessions,
            starts=np.searchsorted(rows[order], np.arange(len(sessions) + 1)),
            minute=minute[order],
            place=np.array(bars["symbol"].map(place_of), dtype=np.intp)[order],
            numbers={name: bars[name].to_numpy(dtype=np.float64)[order] for name in BAR_COLUMNS},
        )

    def holds(self, row: int) -> bool:
        return bool(self.starts[row + 1] > self.starts[row])

    def bars(self, row: int) -> SessionBars:
        """The session as the files hold it: OK where there is a bar, MISSING elsewhere."""
        session = self.sessions[row]
        part = slice(self.starts[row], self.starts[row + 1])
        shape = (session.minutes, len(self.symbols))
        at = (self.minute[part], self.place[part])
        columns = np.full((len(BAR_COLUMNS), *shape), np.nan)
        for name, column in zip(BAR_COLUMNS, columns, strict=True):
            column[at] = self.numbers[name][part]
        open_, high, low, close, volume = columns
        quality = np.full(shape, BarQuality.MISSING, dtype=np.uint8)
        quality[at] = BarQuality.OK
        return SessionBars(session, self.symbols, open_, high, low, close, volume, quality)

    def daily(self) -> pd.DataFrame:
        """Daily bars made of the sound minutes of each session and symbol, in the shape of a daily file."""
        frame = pd.DataFrame(self.numbers)
        frame["row"] = np.repeat(np.arange(len(self.sessions)), np.diff(self.starts))
        frame["place"], frame["minute"] = self.place, self.minute
        frame = frame[sound_bars(*(self.numbers[name] for name in BAR_COLUMNS))].sort_values(["row", "place", "minute"])
        days = frame.groupby(["row", "place"], as_index=False).agg(
            open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"), volume=("volume", "sum")
        )
        midnight = pd.to_datetime([self.sessions[row].date for row in days["row"]]).tz_localize("America/New_York")
        days["timestamp"] = midnight.tz_convert("UTC").as_unit("ns")
        days["symbol"] = [self.symbols[place] for place in days["place"]]
        return days.drop(columns=["row", "place"])


class MinuteFileMarket:
    """MarketDataPort over minute files, each minute as it was told first, if it was in time: what is told later counts from the
    next open on. What was
    known before an open comes from the daily files where they tell of a day, else from the minutes of that day; the share of a
    day traded by a minute from its own minutes, else from the bridge's curve."""

    def __init__(
        self,
        minutes: pd.DataFrame,
        daily: pd.DataFrame | None,
        splits: Sequence[Split],
        symbols: tuple[str, ...],
        calendar: ExchangeCalendar,
        *,
        seed: int,
        first: date,
        last: date,
        source_id: str,
        notice: str,
        history: HistoryPolicy,
        gaps: GapPolicy,
    ) -> None:
        seen = as_known(minutes, None)
        if KNOWN_AT in seen.columns:
            seen = seen[seen[KNOWN_AT].isna()].reset_index(drop=True)  # what is told late was not there in its minute
        self._minutes = told = MinuteRows.of(seen, symbols, calendar)
        self._row = {session.date: row for row, session in enumerate(told.sessions) if told.holds(row)}
        self._sessions = tuple(told.sessions[row] for day, row in self._row.items() if first <= day <= last)
        if not self._sessions:
            known = f"{min(self._row)} to {max(self._row)}" if self._row else "no regular session"
            raise BadInput(f"no session from {first} to {last}: the minute bars cover {known}")
        self._panels, _ = panels_of(
            lambda at: _days(minutes, daily, symbols, calendar, at), corrections(minutes, daily), splits, symbols, calendar
        )
        self._bridge = MinuteBridge(seed)
        self._source_id, self._notice = source_id, notice
        self._history, self._gaps = history, gaps
        self._shares = lru_cache(maxsize=history.mean_sessions + history.hole_sessions_max + 1)(self._compute_shares)

    @property
    def source_id(self) -> str:
        return self._source_id

    @property
    def notice(self) -> str:
        return self._notice

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._minutes.symbols

    def sessions(self) -> tuple[Session, ...]:
        return self._sessions

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        def known() -> PriorFacts:
            return self._panels.at(session.opens_at).prior_facts(session, minutes, self._history, self._shares)

        return await asyncio.to_thread(known)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return await asyncio.to_thread(lambda: self._panels.at(session.opens_at).daily_history(session, first))

    async def session_bars(self, session: Session) -> SessionBars:
        row = self._row.get(session.date)
        if row is None:
            raise BadInput(f"no minute bars for the session {session.date}")
        return await asyncio.to_thread(lambda: repaired(self._minutes.bars(row), self._gaps))

    def _compute_shares(self, session: Session, minutes: tuple[int, ...]) -> Floats:
        """Share of the day's volume by each minute, [len(minutes), symbols]."""
        at = np.clip(np.array(minutes, dtype=np.intp), 0, session.minutes)
        bridged = self._bridge.cumulative_volume_shares(session.date, session.minutes, self.symbols)
        shares = np.vstack([np.zeros(len(self.symbols)), bridged])[at]
        row = self._row.get(session.date)
        if row is None:
            return shares
        volume = np.nan_to_num(self._minutes.bars(row).volume)
        traded = np.vstack([np.zeros(len(self.symbols)), np.cumsum(volume, axis=0)])
        return np.where(traded[-1] > 0, traded[at] / np.maximum(traded[-1], 1.0), shares)


def _days(
    minutes: pd.DataFrame, daily: pd.DataFrame | None, symbols: tuple[str, ...], calendar: ExchangeCalendar, at: datetime | None
) -> pd.DataFrame:
    """Days as known at an instant, or as told first: from the daily files, those that they lack from the minutes."""
    days = MinuteRows.of(as_known(minutes, at), symbols, calendar).daily()
    if daily is not None:
        told = as_known(daily, at)
        days = pd.concat([told, days], ignore_index=True).drop_duplicates(["symbol", "timestamp"], keep="first")
    return days.reset_index(drop=True)
