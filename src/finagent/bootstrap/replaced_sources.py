"""Feeds over what the settings name, of which everything that is known after an instant can be replaced."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.clock import VirtualClock
from finagent.adapters.market_data.files import FilesSource, source_of
from finagent.adapters.news.lexicon import LexiconScorer
from finagent.bootstrap.features import build_feature_cache
from finagent.domain.bars import BAR_COLUMNS, DailyHistory, PriorFacts, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.policies import files_policy
from finagent.quant.features.lookahead import Corruption
from finagent.services.market_data.feed import Feed
from finagent.services.market_data.leak_check import FeedAt, everybody
from finagent.services.market_data.news import NewsFeatures
from finagent.settings import Settings

if TYPE_CHECKING:
    from finagent.adapters.market_data.bar_files import BarFolder


@dataclass(frozen=True, slots=True)
class _BridgedMinutes:
    """A market whose minutes are those of another one: bridged minutes know where their day ends."""

    days: MarketDataPort
    minutes: MarketDataPort

    @property
    def source_id(self) -> str:
        return self.days.source_id

    @property
    def notice(self) -> str:
        return self.days.notice

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.days.symbols

    def sessions(self) -> tuple[Session, ...]:
        return self.days.sessions()

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        return await self.days.prior_facts(session, minutes)

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        return await self.days.daily_history(session, first)

    async def session_bars(self, session: Session) -> SessionBars:
        return await self.minutes.session_bars(session)


@contextmanager
def replaced_sources(
    settings: Settings, symbols: tuple[str, ...], session: Session, history: DailyHistory
) -> Iterator[tuple[FeedAt, tuple[str, ...]]]:
    """The feeds of a session for those symbols, and the columns that can be replaced: of a folder of files what it holds, of any
    other source the days of `history`, which go on after the session."""
    from finagent.adapters.market_data.bar_files import read_folder
    from finagent.adapters.market_data.replaced_future import replaced_after, told_columns

    source, policy = settings.market_data.source, files_policy(settings)
    location = Path(source.removeprefix("files:"))
    of_files = source.startswith("files:")
    if not of_files and session.date not in history.sessions:
        raise BadInput(
            f"{session.date} is the last session of the window, and no bar after its open is there to replace: name an earlier "
            "--date, or a later market_data.last_session"
        )
    folder = _some_of(read_folder(location, policy.unenclosed_fraction_max), symbols) if of_files else _folder_of(history)

    calendar = NewYorkCalendar()

    def opened(what: "BarFolder") -> FilesSource:
        day, seed = session.date, settings.replay.seed
        return source_of(what, location, calendar, seed=seed, first=day, last=day, policy=policy, symbols=symbols)

    whole = opened(folder)
    with TemporaryDirectory() as written:

        def feed_at(at: datetime, corruption: Corruption | None, columns: frozenset[str]) -> Feed:
            told = folder if corruption is None else replaced_after(folder, at, corruption, columns, Path(written))
            sources = opened(told)
            market = sources.market if folder.minute is not None else _BridgedMinutes(sources.market, whole.market)
            clock = VirtualClock(at)
            days = build_feature_cache(settings, market, None, clock.now)
            news = NewsFeatures(sources.news, LexiconScorer(), asyncio.to_thread) if sources.news is not None else None
            return Feed(market, clock, everybody(session, len(symbols)), days, news, sources.quotes)

        yield feed_at, told_columns(folder)


def _some_of(folder: "BarFolder", symbols: tuple[str, ...]) -> "BarFolder":
    daily, minute = (
        None if table is None else table[table["symbol"].isin(symbols)].reset_index(drop=True)
        for table in (folder.daily, folder.minute)
    )
    return replace(folder, daily=daily, minute=minute)


def _folder_of(history: DailyHistory) -> "BarFolder":
    """The days of a history as a folder of daily bars, with its splits."""
    import numpy as np
    import pandas as pd

    from finagent.adapters.market_data.bar_files import BarFolder, Split

    midnight = pd.DatetimeIndex(history.sessions).tz_localize("America/New_York").tz_convert("UTC").as_unit("ns")
    tables = [
        pd.DataFrame({"symbol": symbol, "timestamp": midnight} | {name: getattr(history, name)[:, place] for name in BAR_COLUMNS})
        for place, symbol in enumerate(history.symbols)
    ]
    daily = pd.concat(tables, ignore_index=True).dropna().sort_values(["symbol", "timestamp"], ignore_index=True)
    splits = tuple(
        Split(history.symbols[place], pd.Timestamp(history.sessions[row - 1]), float(history.split[row, place]))
        for row, place in np.argwhere(history.split != 1.0).tolist()
        if row
    )
    return BarFolder(daily, None, splits, (), (), (), {}, "")
