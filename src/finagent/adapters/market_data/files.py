"""Market data from a folder (or one file) of CSV or Parquet bars: daily ones through the bridge, minute ones as they are.

pandas and pandera are imported when a source is opened, not with this module.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridge import MinuteBridge
from finagent.adapters.market_data.bridged_market import BridgedMarket, BridgedMarketPolicy
from finagent.adapters.market_data.past_sessions import past_sessions
from finagent.domain.errors import BadInput
from finagent.domain.identity import digest
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.market_data import MarketDataPort
from finagent.services.past_scan import PastSession

if TYPE_CHECKING:
    import pandas as pd

    from finagent.adapters.market_data.bar_files import BarFolder
    from finagent.adapters.market_data.quote_files import FileQuotes
    from finagent.adapters.news.files import FileNews

_NAMED_MAX = 5
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FilesPolicy:
    """`unenclosed_fraction_max`: up to this share of a file's bars may contradict themselves (high and low do not enclose open
    and close) and are then refused one by one; with more the file is refused."""

    market: BridgedMarketPolicy
    gaps: GapPolicy
    unenclosed_fraction_max: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.unenclosed_fraction_max < 1.0:
            raise BadInput(f"unenclosed_fraction_max is {self.unenclosed_fraction_max}: a fraction from 0 to below 1")


@dataclass(frozen=True, slots=True)
class FilesHistory:
    """Past sessions of daily bars for the scan of the past.

    `ignored`: file -> why it was left aside; `notes`: bars left out, splits used or not, a sentence each.
    """

    source_id: str
    notice: str
    symbols: tuple[str, ...]
    sessions: Iterator[PastSession]
    ignored: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilesSource:
    """The bars of a location, and the quotes and news beside them (None: there are none)."""

    market: MarketDataPort
    quotes: "FileQuotes | None"
    news: "FileNews | None"


def files_source(
    location: Path,
    calendar: ExchangeCalendar,
    *,
    seed: int,
    first: date,
    last: date,
    policy: FilesPolicy,
    symbols: tuple[str, ...] = (),
) -> FilesSource:
    """What there is from `first` to `last` of `symbols` (empty: every symbol with a bar in that window)."""
    from finagent.adapters.market_data.bar_files import read_folder

    folder = read_folder(location, policy.unenclosed_fraction_max)
    for name, reason in folder.ignored.items():
        log.warning("file_left_aside", file=name, reason=reason)
    return source_of(folder, location, calendar, seed=seed, first=first, last=last, policy=policy, symbols=symbols)


def source_of(
    folder: "BarFolder",
    location: Path,
    calendar: ExchangeCalendar,
    *,
    seed: int,
    first: date,
    last: date,
    policy: FilesPolicy,
    symbols: tuple[str, ...] = (),
) -> FilesSource:
    """See `files_source`: of a folder that was read from `location`."""
    from finagent.adapters.market_data.quote_files import FileQuotes
    from finagent.adapters.news.files import FileNews

    market = _market(folder, location, calendar, seed, first, last, policy, symbols)
    quotes = FileQuotes(folder.quotes, market.symbols) if folder.quotes else None
    return FilesSource(market, quotes, FileNews(folder.news) if folder.news else None)


def _market(
    folder: "BarFolder",
    location: Path,
    calendar: ExchangeCalendar,
    seed: int,
    first: date,
    last: date,
    policy: FilesPolicy,
    symbols: tuple[str, ...],
) -> MarketDataPort:
    from finagent.adapters.market_data.bar_files import as_known, corrections
    from finagent.adapters.market_data.daily_files import panels_of
    from finagent.adapters.market_data.minute_files import MinuteFileMarket

    if folder.minute is not None:
        chosen = _universe(folder.minute, first, last, symbols, location)
        return MinuteFileMarket(
            folder.minute,
            folder.daily,
            folder.splits,
            chosen,
            calendar,
            seed=seed,
            first=first,
            last=last,
            source_id=_source_id(folder, chosen, first, last, seed, policy),
            notice="minute bars from files",
            history=policy.market.history,
            gaps=policy.gaps,
        )
    daily = _daily(folder, location)
    chosen = _universe(daily, first, last, symbols, location)
    panels, _ = panels_of(lambda at: as_known(daily, at), corrections(daily), folder.splits, chosen, calendar)
    return BridgedMarket(
        panels,
        MinuteBridge(seed),
        first=first,
        last=last,
        source_id=_source_id(folder, chosen, first, last, seed, policy),
        notice="daily bars from files, simulated intraday path",
        policy=policy.market,
    )


def files_history(
    location: Path,
    calendar: ExchangeCalendar,
    *,
    first: date,
    last: date,
    policy: FilesPolicy,
    symbols: tuple[str, ...] = (),
) -> FilesHistory:
    """The daily bars of the location as past sessions from `first` to `last`."""
    from finagent.adapters.market_data.bar_files import as_known, corrections, read_folder
    from finagent.adapters.market_data.daily_files import panels_of

    folder = read_folder(location, policy.unenclosed_fraction_max)
    daily = _daily(folder, location)
    chosen = _universe(daily, first, last, symbols, location)
    panels, splits = panels_of(lambda at: as_known(daily, at), corrections(daily), folder.splits, chosen, calendar)
    nulls = [f"{file.path.name}: {file.null_bars} bars without any price are left out" for file in folder.files if file.null_bars]
    return FilesHistory(
        source_id=_source_id(folder, chosen, first, last, 0, policy),
        notice="daily bars from files",
        symbols=chosen,
        sessions=past_sessions(panels, policy.market.history, first, last),
        ignored=folder.ignored,
        notes=(
            *nulls,
            *(
                f"{note.symbol} {note.session.date}: split {note.value:g} told by {note.told_by}"
                + (f" set aside: {note.set_aside}" if note.set_aside else "")
                for note in splits
            ),
        ),
    )


def _daily(folder: "BarFolder", location: Path) -> "pd.DataFrame":
    if folder.daily is None:
        raise BadInput(f"{location}: holds minute bars only; the scan of past sessions needs daily bars")
    return folder.daily


def _universe(bars: "pd.DataFrame", first: date, last: date, symbols: tuple[str, ...], location: Path) -> tuple[str, ...]:
    """The symbols asked for, each of which must be there, else all with a bar in the window; in alphabetical order."""
    if last < first:
        raise BadInput(f"the window from {first} to {last} ends before it starts")
    known = set(bars["symbol"].unique())
    unknown = sorted(set(symbols) - known)
    if unknown:
        more = f" and {len(known) - _NAMED_MAX} more" if len(known) > _NAMED_MAX else ""
        raise BadInput(f"unknown symbol {', '.join(unknown)}: {location} holds {', '.join(sorted(known)[:_NAMED_MAX])}{more}")
    import pandas as pd

    days = bars["timestamp"].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize()
    inside = (days >= pd.Timestamp(first)) & (days <= pd.Timestamp(last))
    if not inside.any():
        raise BadInput(f"no bars from {first} to {last}: {location} covers {days.min().date()} to {days.max().date()}")
    return tuple(sorted(symbols or set(bars["symbol"][inside].unique())))


def _source_id(folder: "BarFolder", symbols: tuple[str, ...], first: date, last: date, seed: int, policy: FilesPolicy) -> str:
    names = "+".join(file.path.name for file in folder.files)
    history = policy.market.history
    rules = f"{history.mean_sessions}/{history.hole_sessions_max}/{policy.gaps.hole_minutes_max}"
    return (
        f"files:{names}:{first}:{last}:symbols={digest(*symbols, length=8)}:seed={seed}:rules={rules}:sha256={folder.sha256[:16]}"
    )
