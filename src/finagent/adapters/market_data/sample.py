"""The embedded sample: real daily bars of AAPL, FB, GOOG, IBM and MSFT, March 2000 to March 2013.

The file is the public-domain Quandl WIKI extract of the PyPI package bokeh_sampledata, repacked; its provenance and digest
stand beside it. The package is needed only to rebuild or verify the file:

    python -m finagent.adapters.market_data.sample --rebuild | --verify
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from operator import itemgetter
from pathlib import Path

import numpy as np

from finagent.adapters.market_data.bridge import MinuteBridge
from finagent.adapters.market_data.bridged_market import BridgedMarket, BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import DailyPanel, KnownPanels, split_values
from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.calendar import ExchangeCalendar
from finagent.domain.ports.market_data import MarketDataPort

FOLDER = Path(__file__).with_name("data")
BARS_FILE, PROVENANCE_FILE = "sample_daily_bars.csv.gz", "sample_daily_bars.json"
HEADER = ["symbol", "date", "open", "high", "low", "close", "volume", "adjusted_close"]
VALUES = HEADER[2:]
NOTICE = "real daily bars, simulated intraday path"


def sample_market(
    calendar: ExchangeCalendar,
    *,
    seed: int,
    first: date,
    last: date,
    policy: BridgedMarketPolicy,
    symbols: tuple[str, ...] = (),
) -> MarketDataPort:
    """The sample from `first` to `last`, of `symbols` (empty: all with a bar in that window); the bridge fills in the minutes."""
    panel = sample_panel(calendar)
    unknown = sorted(set(symbols) - set(panel.symbols))
    if unknown:
        raise BadInput(f"unknown symbol {', '.join(unknown)}: the sample holds {', '.join(panel.symbols)}")
    panel = panel.of_symbols(tuple(symbol for symbol in panel.symbols if symbol in symbols)) if symbols else panel
    rows = [row for row, session in enumerate(panel.sessions) if first <= session.date <= last]
    present = np.flatnonzero(np.isfinite(panel.close[rows]).any(axis=0))
    return BridgedMarket(
        KnownPanels.fixed(panel.of_symbols(tuple(panel.symbols[place] for place in present))),
        MinuteBridge(seed),
        first=first,
        last=last,
        source_id=":".join(("sample", str(first), str(last), *symbols, f"seed={seed}", f"sha256={_content_digest(FOLDER)[:16]}")),
        notice=NOTICE,
        policy=policy,
    )


def sample_panel(calendar: ExchangeCalendar) -> DailyPanel:
    """All five symbols over all their sessions, splits told from gaps."""
    table = read_sample(FOLDER)
    dates = sorted({day for series in table.values() for day in series.dates})
    sessions = calendar.sessions(dates[0], dates[-1])
    row_of = {session.date: row for row, session in enumerate(sessions)}
    strangers = [day for day in dates if day not in row_of]
    if strangers:
        raise BadInput(f"{BARS_FILE}: bars on {len(strangers)} days without a session, the first on {strangers[0]}")
    columns = {name: np.full((len(sessions), len(table)), np.nan) for name in VALUES}
    for place, series in enumerate(table.values()):
        rows = [row_of[day] for day in series.dates]
        for number, name in enumerate(VALUES):
            columns[name][rows, place] = series.values[:, number]
    split = split_values(columns["close"], columns["adjusted_close"])
    return DailyPanel.checked(tuple(table), sessions, columns, split)


@dataclass(frozen=True, slots=True)
class DailySeries:
    """The bars of one symbol: `values` [days, columns of VALUES]."""

    dates: tuple[date, ...]
    values: Floats


@cache
def read_sample(folder: Path) -> Mapping[str, DailySeries]:
    """Symbol -> its series, from the file in that folder, read once a process; BadInput when the file is not the one its
    provenance names."""
    text = gzip.decompress(folder.joinpath(BARS_FILE).read_bytes())
    if hashlib.sha256(text).hexdigest() != _content_digest(folder):
        raise BadInput(f"{BARS_FILE} is damaged: its digest is not the one in {PROVENANCE_FILE}; install finagent again")
    rows: dict[str, list[list[str]]] = {}
    for row in list(csv.reader(io.StringIO(text.decode())))[1:]:
        rows.setdefault(row[0], []).append(row)
    found = {}
    for symbol, series in rows.items():
        values = np.array([row[2:] for row in series], dtype=np.float64)
        values.setflags(write=False)
        found[symbol] = DailySeries(tuple(date.fromisoformat(row[1]) for row in series), values)
    return found


def _content_digest(folder: Path) -> str:
    provenance = json.loads(folder.joinpath(PROVENANCE_FILE).read_text())
    return str(provenance["sha256"])


def pack() -> tuple[bytes, str]:
    """The embedded file made anew from the installed bokeh_sampledata, and its provenance; imports the package."""
    from importlib.metadata import version

    from bokeh_sampledata import package_path

    source = Path(package_path("stocks.csv.gz")).read_bytes()
    rows: list[list[str]] = list(csv.reader(io.StringIO(gzip.decompress(source).decode())))[1:]
    rows.sort(key=itemgetter(0, 1))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    content = text.getvalue().encode()
    provenance = {
        "content": "Daily bars as traded (unadjusted) of AAPL, FB, GOOG, IBM, MSFT, 2000-03-01 to 2013-03-01, with the"
        " source's adjusted close.",
        "rows": len(rows),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sha256_of": "the uncompressed CSV",
        "package": f"bokeh_sampledata {version('bokeh_sampledata')} (PyPI), file stocks.csv.gz",
        "package_file_sha256": hashlib.sha256(source).hexdigest(),
        "origin": "Quandl WIKI Prices, https://data.nasdaq.com/databases/WIKIP, archived copy"
        " https://www.kaggle.com/datasets/marketneutral/quandl-wiki-prices-us-equites/versions/1",
        "license": "Public domain, as declared by the publisher:"
        " https://web.archive.org/web/20150411011214/https://www.quandl.com/data/WIKI",
        "notice": "Provided as supplied by the source, without a guarantee of accuracy. GOOG holds Google's history from"
        " before 2014, filed under GOOGL in the source.",
        "changes": "Columns renamed and rows sorted by symbol and date; no value changed.",
    }
    return gzip.compress(content, compresslevel=9, mtime=0), json.dumps(provenance, indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Rebuild the embedded sample in the source tree, or compare it with the package (exit 3 when it differs)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--rebuild", action="store_true")
    action.add_argument("--verify", action="store_true")
    options = parser.parse_args(arguments)
    packed, provenance = pack()
    bars, beside = FOLDER.joinpath(BARS_FILE), FOLDER.joinpath(PROVENANCE_FILE)
    if options.rebuild:
        Path(str(bars)).write_bytes(packed)
        Path(str(beside)).write_text(provenance)
        print(f"{BARS_FILE}: {len(packed)} bytes")
        return 0
    content = gzip.decompress(packed)
    same = gzip.decompress(bars.read_bytes()) == content and hashlib.sha256(content).hexdigest() == _content_digest(FOLDER)
    print(f"{BARS_FILE}: {'equals' if same else 'DIFFERS from'} the data of the installed bokeh_sampledata")
    return 0 if same else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
