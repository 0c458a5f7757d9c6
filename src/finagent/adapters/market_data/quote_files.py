"""QuotePort over files of minute quotes: symbol, timestamp (the start of the minute), bid_close, bid_size, ask_close, ask_size.

Imports pandas.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finagent.adapters.market_data.bar_files import QUOTES, floats, instants, read_table
from finagent.domain.bars import Floats, Quotes, no_quotes
from finagent.domain.errors import BadInput
from finagent.domain.sessions import MINUTE

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


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
        self._symbols = symbols
        self._of: dict[int, tuple[NDArray[np.int64], Floats]] = {}
        for symbol, part in rows.sort_values("timestamp").groupby("symbol"):
            if symbol in symbols:
                known = part["timestamp"].dt.as_unit("us").astype("int64").to_numpy() + MINUTE // _MICROSECOND
                self._of[symbols.index(symbol)] = known, part[list(QUOTES[2:])].to_numpy(dtype=np.float64)

    async def quotes(self, at: datetime) -> Quotes:
        now = (at - _EPOCH) // _MICROSECOND
        found = no_quotes(len(self._symbols))
        for place, (known, numbers) in self._of.items():
            row = int(np.searchsorted(known, now, side="right")) - 1
            if row >= 0:
                found.bid[place], found.bid_size[place], found.ask[place], found.ask_size[place] = numbers[row]
                found.age_seconds[place] = (now - int(known[row])) / 1e6
        return found


def _read(path: Path) -> pd.DataFrame:
    raw = read_table(path)[list(QUOTES)].reset_index(drop=True)
    raw["symbol"] = raw["symbol"].fillna("").astype(str)
    raw["timestamp"] = instants(raw, "timestamp", path.name)
    for name in QUOTES[2:]:
        raw[name] = floats(raw, name, path.name)
    return raw
