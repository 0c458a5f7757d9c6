"""Quotes beside bars in files: known when their minute is over."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from finagent.adapters.market_data.quote_files import FileQuotes
from finagent.domain.bars import Quotes
from finagent.domain.errors import BadInput

HEADER = "symbol,timestamp,bid_close,bid_size,ask_close,ask_size"
IBM_1, IBM_2 = "IBM,2024-01-02T14:30:00Z,99.9,2,100.1,3", "IBM,2024-01-02T14:31:00Z,100.0,1,100.2,1"
SYMBOLS = ("AAPL", "IBM")


def quotes(folder: Path, *rows: str) -> FileQuotes:
    (folder / "quotes.csv").write_text("\n".join((HEADER, *rows)) + "\n")
    return FileQuotes([folder / "quotes.csv"], SYMBOLS)


async def at(source: FileQuotes, time: str) -> Quotes:
    return await source.quotes(datetime.fromisoformat(f"2024-01-02T{time}Z"))


async def test_the_last_quote_whose_minute_is_over(tmp_path: Path) -> None:
    source = quotes(tmp_path, IBM_2, IBM_1, "TSLA,2024-01-02T14:30:00Z,1,1,2,1")
    assert np.isnan((await at(source, "14:30:59")).bid).all()
    first, second, later = [await at(source, time) for time in ("14:31:00", "14:32:00", "14:35:30")]
    assert (first.bid[1], first.bid_size[1], first.ask[1], first.ask_size[1], first.age_seconds[1]) == (99.9, 2, 100.1, 3, 0)
    assert (second.bid[1], second.age_seconds[1]) == (100.0, 0.0)
    assert (later.bid[1], later.age_seconds[1]) == (100.0, 210.0)
    assert np.isnan(later.bid[0]), "nobody quotes AAPL"


def test_two_quotes_of_a_minute_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"quotes.csv: 1 quotes come twice, first IBM at 2024-01-02T14:30:00"):
        quotes(tmp_path, IBM_1, IBM_1)


def test_a_size_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"quotes.csv: bid_size: 1 rows are not numbers, first 'many' of IBM"):
        quotes(tmp_path, "IBM,2024-01-02T14:30:00Z,99.9,many,100.1,3")
