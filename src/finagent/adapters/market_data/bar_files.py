"""Bar files found and read: CSV or Parquet with the columns symbol, timestamp, open, high, low, close, volume
[, adj_close, known_at].

Timestamps are UTC instants: a minute bar carries its start, a daily bar midnight in New York of its session. A bar may be told
again with another `known_at`, since when it reads so: a correction, in the same file or in one beside it; without one it reads so
from its day on. Files of quotes and of news are found by their columns. Imports pandas.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

import numpy as np
import pandas as pd

from finagent.adapters.market_data.schemas import (
    COLUMNS,
    DAILY_BARS,
    MINUTE_BARS,
    PRICES,
    require_columns,
    told_again,
    unenclosed,
)
from finagent.domain.errors import BadInput, Unavailable

ADJUSTED = "adj_close"
KNOWN_AT = "known_at"
Columns = tuple[str, ...]
QUOTES: Columns = ("symbol", "timestamp", "bid_close", "bid_size", "ask_close", "ask_size")
NEWS: Columns = ("symbol", "timestamp", "headline")
ACTIONS_PREFIX = "corporate_actions"
ACTIONS_COLUMNS = ("symbol", "last_cum_session", "kind", "value")
_SUFFIXES = (".csv", ".parquet")
_MINUTE_SECONDS, _HOUR_SECONDS = 60, 3600


class Timeframe(Enum):
    DAILY = "daily"
    MINUTE = "minute"
    HOURLY = "hourly"
    OTHER = "neither daily nor minute"


# From the timestamp of a bar until it is told at the latest, to be known when it is over: a minute after its end, and before the
# next open (nine in the morning of the day after, New York).
_PROMPT = {Timeframe.MINUTE: pd.Timedelta(minutes=2), Timeframe.DAILY: pd.Timedelta(hours=33)}


@dataclass(frozen=True, slots=True)
class BarFile:
    """A file's bars, valid and sorted by symbol and time; `unenclosed` counts those whose high and low contradict the rest."""

    path: Path
    timeframe: Timeframe
    bars: pd.DataFrame
    sha256: str
    null_bars: int
    unenclosed: int


@dataclass(frozen=True, slots=True)
class Split:
    """`value` new shares per old one from the first session after `last_cum_session` on; `known_at` where it was told later."""

    symbol: str
    last_cum_session: pd.Timestamp
    value: float
    known_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BarFolder:
    """What a location holds: daily and minute bars (None: none), splits, files of quotes and of news, the files left aside with
    the reason, a content hash."""

    daily: pd.DataFrame | None
    minute: pd.DataFrame | None
    splits: tuple[Split, ...]
    files: tuple[BarFile, ...]
    quotes: tuple[Path, ...]
    news: tuple[Path, ...]
    ignored: dict[str, str]
    sha256: str


def read_folder(location: Path, unenclosed_fraction_max: float) -> BarFolder:
    """Read a folder, or one file with the corporate actions beside it; BadInput names what a person must mend."""
    paths, beside, ignored = _paths(location)
    found = []
    for path in paths:
        bars = _read(path)
        timeframe = _timeframe(bars)
        if timeframe in (Timeframe.DAILY, Timeframe.MINUTE):
            found.append(_checked(path, timeframe, bars, unenclosed_fraction_max))
        elif path == location:
            raise BadInput(f"{path.name}: {timeframe.value} bars cannot be replayed; give daily or one-minute bars")
        else:
            ignored[path.name] = f"{timeframe.value} bars; daily or one-minute bars are used"
    if not found:
        told = "; ".join(f"{name}: {reason}" for name, reason in sorted(ignored.items())) or "it holds no .csv or .parquet file"
        raise BadInput(f"no bars to use in {location}: {told}")
    folder = location if location.is_dir() else location.parent
    actions = sorted(folder.glob(f"{ACTIONS_PREFIX}*.csv"))
    others = [*actions, *beside[QUOTES], *beside[NEWS]]
    content = hashlib.sha256("".join([*(file.sha256 for file in found), *map(_sha256, others)]).encode()).hexdigest()
    return BarFolder(
        daily=_joined(found, Timeframe.DAILY, location),
        minute=_joined(found, Timeframe.MINUTE, location),
        splits=tuple(split for path in actions for split in _read_splits(path)),
        files=tuple(found),
        quotes=beside[QUOTES],
        news=beside[NEWS],
        ignored=ignored,
        sha256=content,
    )


def _promptly_told_are_known(bars: pd.DataFrame, timeframe: Timeframe) -> pd.DataFrame:
    """A bar that is told for the first time in good time is known when it is over, as one is of which nobody says when."""
    if KNOWN_AT not in bars.columns:
        return bars
    first = bars.groupby(["symbol", "timestamp"])[KNOWN_AT].transform("min")
    prompt = (bars[KNOWN_AT] == first) & (bars[KNOWN_AT] <= bars["timestamp"] + _PROMPT[timeframe])
    return bars.assign(**{KNOWN_AT: bars[KNOWN_AT].mask(prompt)})


def as_known(bars: pd.DataFrame, at: datetime | None) -> pd.DataFrame:
    """Each bar as it was told last by an instant, for None as it was told first."""
    if KNOWN_AT not in bars.columns:
        return bars
    told = bars.sort_values(["symbol", "timestamp", KNOWN_AT], kind="stable", na_position="first")
    if at is not None:
        told = told[told[KNOWN_AT].isna() | (told[KNOWN_AT] <= at)]
    return told.drop_duplicates(["symbol", "timestamp"], keep="first" if at is None else "last").reset_index(drop=True)


def corrections(*tables: pd.DataFrame | None) -> list[datetime]:
    """The instants at which bars were told."""
    found = [table[KNOWN_AT].dropna().unique() for table in tables if table is not None and KNOWN_AT in table.columns]
    return [pd.Timestamp(at).to_pydatetime() for instants_ in found for at in instants_]


def _paths(location: Path) -> tuple[list[Path], dict[Columns, tuple[Path, ...]], dict[str, str]]:
    """The files that have the columns of bars, those of QUOTES and of NEWS, and the others with the reason why not."""
    if not location.exists():
        raise BadInput(f"{location}: no such file or folder")
    if location.is_file():
        if location.suffix not in _SUFFIXES:
            raise BadInput(f"{location.name}: not a .csv or .parquet file")
        require_columns(_column_names(location), location.name)
        return [location], {QUOTES: (), NEWS: ()}, {}
    paths: list[Path] = []
    beside: dict[Columns, tuple[Path, ...]] = {QUOTES: (), NEWS: ()}
    ignored: dict[str, str] = {}
    for path in sorted(path for path in location.iterdir() if path.suffix in _SUFFIXES):
        if path.name.startswith(ACTIONS_PREFIX):
            continue
        names = _column_names(path)
        missing = [name for name in COLUMNS if name not in names]
        kind = next((kind for kind in beside if set(kind) <= set(names)), None)
        if kind is not None:
            beside[kind] += (path,)
        elif missing:
            ignored[path.name] = f"no column {', '.join(missing)}"
        else:
            paths.append(path)
    return paths, beside, ignored


def _column_names(path: Path) -> list[str]:
    if path.suffix == ".csv":
        return list(_csv(path, rows=0).columns)
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _csv(path: Path, rows: int | None = None) -> pd.DataFrame:
    """All columns as text: "NA" is a symbol, and what is no number must be told by row."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, nrows=rows)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BadInput | Unavailable:
    if isinstance(error, PermissionError):
        return Unavailable(f"{path.name} cannot be read: {error.strerror}")
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BadInput(f"{path.name}: not a readable {path.suffix[1:]} file: {first}")


def _read(path: Path) -> pd.DataFrame:
    """COLUMNS (and adj_close where there is one) with UTC timestamps and float numbers, RangeIndex in the file's order."""
    raw = read_table(path)
    if not len(raw):
        raise BadInput(f"{path.name}: holds no bars")
    names = [*COLUMNS, *(name for name in (ADJUSTED, KNOWN_AT) if name in raw.columns)]
    bars = raw[names].reset_index(drop=True)
    bars["symbol"] = bars["symbol"].fillna("").astype(str)
    bars["timestamp"] = instants(bars, "timestamp", path.name)
    for name in names[2:]:
        bars[name] = floats(bars, name, path.name) if name != KNOWN_AT else known_since(bars, path.name)
    return bars


def known_since(bars: pd.DataFrame, file: str) -> "pd.Series[pd.Timestamp]":
    """The column KNOWN_AT, NaT where the file does not say; BadInput for what was known before it began."""
    told = bars[KNOWN_AT].notna() & (bars[KNOWN_AT].astype(str) != "")
    known = pd.Series(pd.NaT, index=bars.index, dtype=pd.DatetimeTZDtype("ns", "UTC"))
    if told.any():
        known[told] = instants(bars[told], KNOWN_AT, file)
    early = known < bars["timestamp"]
    if early.any():
        row = bars[early].iloc[0]
        raise BadInput(
            f"{file}: {KNOWN_AT}: {int(early.sum())} rows are known before their time, first {row['symbol']} at "
            f"{row['timestamp'].isoformat()}"
        )
    return known


def read_table(path: Path) -> pd.DataFrame:
    """The rows as they stand, text where the file is CSV; BadInput for a file that cannot be read."""
    if path.suffix == ".csv":
        raw = _csv(path)
    else:
        try:
            raw = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
    return raw


def instants(bars: pd.DataFrame, name: str, file: str) -> "pd.Series[pd.Timestamp]":
    """A column of UTC instants; BadInput that tells how many are none, and the first."""
    column = bars[name]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return pd.Series(column.dt.tz_convert("UTC").dt.as_unit("ns"))
    text = column.astype(str)
    zoned = text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
    found = pd.to_datetime(text.where(zoned), utc=True, format="ISO8601", errors="coerce").dt.as_unit("ns")
    bad = found.isna()
    if bad.any():
        row = bars[bad].iloc[0]
        raise BadInput(
            f"{file}: {name}: {int(bad.sum())} rows are not UTC instants such as 2024-01-02T14:30:00Z, first "
            f"{row[name]!r} of {row['symbol']}. A daily bar carries midnight in New York of its session, in UTC"
        )
    return found


def floats(bars: pd.DataFrame, name: str, file: str) -> "pd.Series[float]":
    """A column of numbers, NaN where it is empty; BadInput that tells how many are none, and the first."""
    column = bars[name]
    empty = column.isna()
    if not pd.api.types.is_numeric_dtype(column):
        empty |= column.astype(str).str.strip().str.lower().isin(["", "nan", "null", "none"])
    numbers = pd.to_numeric(column.where(~empty), errors="coerce").astype(np.float64)
    bad = numbers.isna() & ~empty
    if bad.any():
        row = bars[bad].iloc[0]
        raise BadInput(
            f"{file}: {name}: {int(bad.sum())} rows are not numbers, first {row[name]!r} of {row['symbol']} at "
            f"{row['timestamp'].isoformat()}. Correct or remove these rows"
        )
    return numbers


def _timeframe(bars: pd.DataFrame) -> Timeframe:
    """Told by the timestamps: all midnight in New York, else the shortest step between bars of one symbol."""
    local = bars["timestamp"].dt.tz_convert("America/New_York")
    seconds = bars["timestamp"].dt.as_unit("s").astype("int64")
    at_midnight = local == local.dt.normalize()
    if at_midnight.mean() > 0.5:
        return Timeframe.DAILY
    if KNOWN_AT in bars.columns and bool((seconds % _MINUTE_SECONDS == 0).all()):
        return Timeframe.MINUTE  # corrections lie far apart
    steps = seconds.groupby(bars["symbol"]).diff().abs()
    shortest = steps[steps > 0].min()
    if shortest == _MINUTE_SECONDS or (np.isnan(shortest) and bool((seconds % _HOUR_SECONDS != 0).any())):
        return Timeframe.MINUTE
    return Timeframe.HOURLY if shortest >= _HOUR_SECONDS or np.isnan(shortest) else Timeframe.OTHER


def _checked(path: Path, timeframe: Timeframe, bars: pd.DataFrame, unenclosed_fraction_max: float) -> BarFile:
    """Valid bars without the null ones (no price at all: no bar, which the gap policy treats as a hole)."""
    null = bars[list(PRICES)].isna().all(axis=1)
    kept = bars[~null].reset_index(drop=True)
    schema = DAILY_BARS if timeframe is Timeframe.DAILY else MINUTE_BARS
    schema = told_again(schema) if KNOWN_AT in bars.columns else schema
    dirty = unenclosed(kept, schema, path.name, unenclosed_fraction_max)
    ordered = _promptly_told_are_known(kept, timeframe).sort_values(["symbol", "timestamp"], kind="stable", ignore_index=True)
    return BarFile(path, timeframe, ordered, _sha256(path), int(null.sum()), len(dirty))


def _joined(files: list[BarFile], timeframe: Timeframe, location: Path) -> pd.DataFrame | None:
    """The bars of all files of one timeframe; two files that tell of the same bar are ambiguous."""
    parts = [file for file in files if file.timeframe is timeframe]
    if not parts:
        return None
    whole = pd.concat([file.bars.assign(file=file.path.name) for file in parts], ignore_index=True)
    twice = whole.duplicated([name for name in ("symbol", "timestamp", KNOWN_AT) if name in whole.columns], keep=False)
    if twice.any():
        rows = whole[twice]
        names = sorted(set(rows["file"]))
        first = rows.sort_values("timestamp").iloc[0]
        raise BadInput(
            f"{len(names)} files in {location} hold the same {timeframe.value} bars ({int(twice.sum())} rows, first "
            f"{first['symbol']} at {first['timestamp'].isoformat()}): {', '.join(names)}. "
            f"Name one file, such as files:{location / names[0]}"
        )
    return whole.sort_values(["symbol", "timestamp"], kind="stable", ignore_index=True)


def _read_splits(path: Path) -> list[Split]:
    """The splits of a corporate-actions file; other kinds (dividends) leave the raw prices as they are."""
    rows = _csv(path)
    missing = [name for name in ACTIONS_COLUMNS if name not in rows.columns]
    if missing:
        raise BadInput(f"{path.name}: no column {', '.join(missing)}; corporate actions need {', '.join(ACTIONS_COLUMNS)}")
    rows = rows[rows["kind"] == "split"].reset_index(drop=True)
    values = pd.to_numeric(rows["value"], errors="coerce")
    days = pd.to_datetime(rows["last_cum_session"], format="%Y-%m-%d", errors="coerce")
    bad = ~((values > 0) & np.isfinite(values)) | days.isna() | (rows["symbol"] == "")
    if bad.any():
        row = rows[bad].iloc[0]
        raise BadInput(
            f"{path.name}: {int(bad.sum())} splits without a symbol, a date YYYY-MM-DD or a value above zero, first: "
            f"{row['symbol']!r}, {row['last_cum_session']!r}, {row['value']!r}"
        )
    known: list[datetime | None] = [None] * len(rows)
    if KNOWN_AT in rows.columns:
        dated = rows.assign(timestamp=days.dt.tz_localize("America/New_York").dt.tz_convert("UTC"))
        known = [None if pd.isna(at) else at.to_pydatetime() for at in known_since(dated, path.name)]
    return [
        Split(symbol, day, float(value), at) for symbol, day, value, at in zip(rows["symbol"], days, values, known, strict=True)
    ]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
