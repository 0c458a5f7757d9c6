"""QuotePort over files of minute quotes: symbol, timestamp (the start of the minute), bid_close, bid_size, ask_close, ask_size.

Imports pandas.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finagent.adapters.market_data.bar_files import KNOWN_AT, QUOTES, floats, instants, read_table
from finagent.domain.bars import Floats, Quotes, no_quotes
from finagent.domain.errors import BadInput
from finagent.domain.sessions import MINUTE

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_SECOND = timedelta(seconds=1)
_TIME_BITS = 33  # of seconds since 1970: a key is the place of a symbol, then the time


class FileQuotes:
    """The quotes at the end of each minute; what a minute closes with is known when it is over."""

    def __init__(self, paths: Sequence[Path], symbols: tuple[str, ...]) -> None:
        rows = pd.concat([_read(path) for path in paths], ignore_index=True)
        twice = rows.duplicated(["symbol", "timestamp"])
        if twice.any():
            row = rows[twice].iloc[0]
            names = ", ".join(path.name for path in paths)
            raise BadInput(
                f"{names}: {int(twice.sum())} quotes come twice, first {row['symbol']} at {row['timestamp'].isoformat()}"
            )
        self._places = np.arange(len(symbols), dtype=np.int64)
        place_of = {symbol: place for place, symbol in enumerate(symbols)}
        rows = rows.assign(place=rows["symbol"].map(place_of)).dropna(subset=["place"])
        known = rows["timestamp"].dt.as_unit("s").astype("int64").to_numpy() + MINUTE // _SECOND
        keys = (rows["place"].to_numpy(dtype=np.int64) << _TIME_BITS) | known
        order = np.argsort(keys, kind="stable")
        self._keys: NDArray[np.int64] = keys[order]
        self._numbers: Floats = rows[list(QUOTES[2:])].to_numpy(dtype=np.float64)[order]

    async def quotes(self, at: datetime) -> Quotes:
        now = int((at - _EPOCH) // _SECOND)
        found = no_quotes(len(self._places))
        rows = np.searchsorted(self._keys, (self._places << _TIME_BITS) | now, side="right") - 1
        if not len(self._keys):
            return found
        told = np.flatnonzero((rows >= 0) & (self._keys[rows] >> _TIME_BITS == self._places))
        found.bid[told], found.bid_size[told], found.ask[told], found.ask_size[told] = self._numbers[rows[told]].T
        found.age_seconds[told] = now - (self._keys[rows[told]] & ((1 << _TIME_BITS) - 1))
        return found


def _read(path: Path) -> pd.DataFrame:
    raw = read_table(path).reset_index(drop=True)
    if KNOWN_AT in raw.columns:
        raise BadInput(f"{path.name}: quotes are not told again: remove the column {KNOWN_AT}")
    raw = raw[list(QUOTES)]
    raw["symbol"] = raw["symbol"].fillna("").astype(str)
    raw["timestamp"] = instants(raw, "timestamp", path.name)
    for name in QUOTES[2:]:
        raw[name] = floats(raw, name, path.name)
    return raw
