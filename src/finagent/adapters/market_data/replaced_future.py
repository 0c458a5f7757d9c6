"""A folder of bars, quotes and news in which everything that is told after an instant is replaced. Imports pandas."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finagent.adapters.market_data.bar_files import (
    KNOWN_AT,
    NEWS,
    QUOTES,
    BarFolder,
    Split,
    floats,
    instants,
    known_since,
    read_table,
)
from finagent.domain.bars import BAR_COLUMNS
from finagent.quant.features.lookahead import EXTREME, NOISE, Corruption

DAILY, MINUTE, SPLITS, QUOTE, HEADLINE = "daily", "minute", "split", "quote", "headline"
_DAY_END, _MINUTE_END = pd.Timedelta(hours=16), pd.Timedelta(minutes=1)  # from the timestamp of a bar to its end
_OPEN = pd.Timedelta(hours=9, minutes=30)
_HEADLINES = {
    Corruption.NOISE: "Profit rises, shares gain",
    Corruption.EXTREME: "Bankruptcy, fraud and default: shares crash",
    Corruption.HOLES: "",
}


def told_columns(folder: BarFolder) -> tuple[str, ...]:
    """What there is to replace, such as "daily close"."""
    bars = [
        f"{kind} {name}"
        for kind, table in ((DAILY, folder.daily), (MINUTE, folder.minute))
        if table is not None
        for name in BAR_COLUMNS
    ]
    quotes = [f"{QUOTE} {name}" for name in QUOTES[2:] if folder.quotes]
    return (*bars, *([SPLITS] if folder.splits else []), *quotes, *([HEADLINE] if folder.news else []))


def replaced_after(
    folder: BarFolder, at: datetime, corruption: Corruption, columns: frozenset[str], beside: Path, seed: int = 0
) -> BarFolder:
    """The folder with those of its told_columns replaced where they are known later than `at`; every bar stays sound. Of a day
    that has opened the open is known. Files of quotes and of news are written anew into `beside`, an empty folder."""
    chance = np.random.Generator(np.random.Philox(key=seed))
    return replace(
        folder,
        daily=None if folder.daily is None else _bars(folder.daily, DAILY, at, corruption, columns, chance),
        minute=None if folder.minute is None else _bars(folder.minute, MINUTE, at, corruption, columns, chance),
        splits=tuple(_split(each, at) if SPLITS in columns else each for each in folder.splits),
        quotes=tuple(_quotes(path, at, corruption, columns, beside, chance) for path in folder.quotes),
        news=tuple(_news(path, at, corruption, columns, beside) for path in folder.news),
    )


def _bars(
    table: pd.DataFrame, kind: str, at: datetime, corruption: Corruption, columns: frozenset[str], chance: np.random.Generator
) -> pd.DataFrame:
    chosen = [name for name in BAR_COLUMNS if f"{kind} {name}" in columns]
    over = table["timestamp"] + (_DAY_END if kind == DAILY else _MINUTE_END)
    since = table[KNOWN_AT].fillna(over) if KNOWN_AT in table.columns else over
    later: NDArray[np.bool_] = (since > at).to_numpy()
    rows = int(later.sum())
    if not rows or not chosen:
        return table
    opened: NDArray[np.bool_] = (
        (table["timestamp"] + _OPEN <= at).to_numpy() if kind == DAILY else np.zeros(len(table), dtype=np.bool_)
    )
    if KNOWN_AT in table.columns:
        opened = opened & table[KNOWN_AT].isna().to_numpy()
    if corruption is Corruption.HOLES:
        last = ~table.duplicated("symbol", keep="last").to_numpy()  # the days that the table spans stay
        kept: pd.DataFrame = table[~(later & ~last & ~opened & (chance.random(len(table)) < 0.5))].reset_index(drop=True)
        return kept
    spread = NOISE if corruption is Corruption.NOISE else EXTREME
    told = table.copy()
    numbers = {name: table[name].to_numpy(dtype=np.float64).copy() for name in BAR_COLUMNS}
    factors = {name: np.exp(spread * chance.standard_normal(rows)) for name in BAR_COLUMNS}
    place = {name: chance.random(rows) for name in ("open", "close")}
    for name in ("high", "low", "volume"):
        factor = np.maximum(factors[name], 1 / factors[name]) if name == "high" else factors[name]
        factor = np.minimum(factor, 1 / factor) if name == "low" else factor
        if name in chosen:
            numbers[name][later] *= factor
    for name in ("open", "close"):
        if name in chosen:
            free = later & ~opened if name == "open" else later
            low, high = numbers["low"][free], numbers["high"][free]
            numbers[name][free] = low + place[name][free[later]] * (high - low)
    return told.assign(**numbers)


def _split(split: Split, at: datetime) -> Split:
    return replace(split, value=2.0 * split.value) if split.known_at is not None and split.known_at > at else split


def _quotes(
    path: Path, at: datetime, corruption: Corruption, columns: frozenset[str], beside: Path, chance: np.random.Generator
) -> Path:
    raw = read_table(path).reset_index(drop=True)
    raw["timestamp"] = instants(raw, "timestamp", path.name)
    later = (raw["timestamp"] + _MINUTE_END > at).to_numpy()
    spread = NOISE if corruption is Corruption.NOISE else EXTREME
    for name in QUOTES[2:]:
        numbers = floats(raw, name, path.name).to_numpy(dtype=np.float64).copy()
        factor = np.exp(spread * chance.standard_normal(len(raw)))
        if f"{QUOTE} {name}" in columns:
            numbers[later] = np.nan if corruption is Corruption.HOLES else numbers[later] * factor[later]
        raw[name] = numbers
    return _written(raw, path, beside)


def _news(path: Path, at: datetime, corruption: Corruption, columns: frozenset[str], beside: Path) -> Path:
    if HEADLINE not in columns:
        return path
    raw = read_table(path).reset_index(drop=True)
    raw["timestamp"] = instants(raw, "timestamp", path.name)
    known = raw["timestamp"]
    if KNOWN_AT in raw.columns:
        raw[KNOWN_AT] = known_since(raw, path.name)
        known = raw[KNOWN_AT].fillna(known)
    raw[NEWS[2]] = raw[NEWS[2]].where(known <= at, _HEADLINES[corruption])
    return _written(raw, path, beside)


def _written(table: pd.DataFrame, path: Path, beside: Path) -> Path:
    target = beside / f"{path.stem}.parquet"
    table.to_parquet(target)
    return target
