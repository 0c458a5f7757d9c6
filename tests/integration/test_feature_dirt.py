"""Real dirt in vendors' files: refused or adjusted, each with its reason, and no feature tells of what never happened."""

import asyncio
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.files import FilesPolicy, files_source
from finagent.domain.bars import PriorFacts
from finagent.domain.ports.market_data import MarketDataPort
from finagent.quant.features.catalogue import BARS
from finagent.services.market_data.daily_features import DailyFeatures

POLICY = FilesPolicy(BridgedMarketPolicy(HistoryPolicy(20, 5), 2), GapPolicy(5), unenclosed_fraction_max=1e-2)
MOVES = ("return_1", "range_1", "true_range_1", "return_overnight", "parkinson_10", "volatility_5")


def some_of(folder: Path, target: Path, file: str, symbols: tuple[str, ...]) -> Path:
    """A folder with the bars of those symbols alone."""
    table = pd.read_parquet(folder / f"{file}.parquet")
    table[table["symbol"].isin(symbols)].to_parquet(target / "bars.parquet")
    return target


def market_of(place: Path, first: date, last: date) -> MarketDataPort:
    return files_source(place, NewYorkCalendar(), seed=1, first=first, last=last, policy=POLICY).market


async def known(market: MarketDataPort, day: date) -> tuple[dict[str, dict[str, float]], PriorFacts]:
    """The features and facts at the open of a session."""
    session = next(session for session in market.sessions() if session.date == day)
    values = await DailyFeatures(market, 5, asyncio.to_thread).before(session)
    told = {symbol: dict(zip(BARS.names, row, strict=True)) for symbol, row in zip(market.symbols, values.tolist(), strict=True)}
    return told, await market.prior_facts(session, (5,))


async def test_a_bad_tick_is_no_move(market_data_folder: Path, tmp_path: Path) -> None:
    """SUI's close of 27 November 2013 is a tenth of its price: the scan would see a gap of 902 %."""
    market = market_of(
        some_of(market_data_folder, tmp_path, "daily_universe_2013-2016", ("SUI", "PXD")), date(2013, 11, 1), date(2014, 6, 30)
    )
    values, prior = await known(market, date(2013, 11, 29))
    assert "low is above open or close" in prior.excluded["SUI"]
    assert all(abs(values["SUI"][name]) < 0.05 for name in MOVES if np.isfinite(values["SUI"][name]))
    later, prior = await known(market, date(2014, 1, 23))
    assert "low is above open or close" in prior.excluded["PXD"], "its open of 22 January 2014 is a tenth of its price"
    assert all(abs(later[symbol][name]) < 0.05 for symbol in ("SUI", "PXD") for name in MOVES)


async def test_a_bar_without_any_price_is_a_hole(market_data_folder: Path, tmp_path: Path) -> None:
    """PTR of 29 June 2016."""
    place = some_of(market_data_folder, tmp_path, "daily_yahoo88_shared", ("PTR", "XOM"))
    market = market_of(place, date(2016, 1, 4), date(2016, 12, 30))
    values, _ = await known(market, date(2016, 6, 30))
    assert values["PTR"]["return_1"] == values["PTR"]["range_1"] == 0.0
    assert all(np.isfinite(value) for value in values["PTR"].values())
    assert abs(values["XOM"]["return_1"]) > 0.0


@pytest.mark.parametrize("told", [True, False])
async def test_a_raw_split_is_adjusted_by_who_tells_of_it_and_suspect_without(
    market_data_folder: Path, tmp_path: Path, told: bool
) -> None:
    """AAPL opened on 9 June 2014 at a seventh of its price."""
    place = some_of(market_data_folder, tmp_path, "daily_lean_unadjusted_shared", ("AAPL", "SPY"))
    if told:
        shutil.copy(market_data_folder / "corporate_actions_lean_shared.csv", place)
    market = market_of(place, date(2014, 1, 2), date(2014, 12, 31))
    _, at_the_split = await known(market, date(2014, 6, 9))
    values, _ = await known(market, date(2014, 6, 10))
    assert all(abs(values["AAPL"][name]) < 0.05 for name in MOVES)
    if told:
        assert at_the_split.excluded == {}
        assert 0.5 < values["AAPL"]["volume_ratio_20"] < 2.0
    else:
        assert "looks like a split, 7 new shares per old, that nothing confirms" in at_the_split.excluded["AAPL"]
        assert values["AAPL"]["volume_ratio_20"] == 0.0, "the bar of that day is refused"
