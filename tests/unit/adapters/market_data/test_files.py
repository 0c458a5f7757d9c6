"""Bars from files: what is read, what is refused and in which words."""

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bar_files import Timeframe, read_folder
from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.files import FilesPolicy, files_history, files_source
from finagent.domain.bars import BarQuality
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort

CALENDAR = NewYorkCalendar()
POLICY = FilesPolicy(
    market=BridgedMarketPolicy(HistoryPolicy(mean_sessions=3, hole_sessions_max=2), cached_sessions_max=2),
    gaps=GapPolicy(hole_minutes_max=2),
    unenclosed_fraction_max=1e-4,
)
FIRST, LAST = date(2024, 1, 2), date(2024, 1, 12)


def daily_rows(symbols: tuple[str, ...] = ("AAA", "BBB"), days: int = 9) -> pd.DataFrame:
    sessions = CALENDAR.sessions(FIRST, date(2024, 3, 1))[:days]
    midnight = pd.DatetimeIndex([session.date for session in sessions]).tz_localize("America/New_York").tz_convert("UTC")
    frames = [
        pd.DataFrame(
            {
                "symbol": symbol,
                "timestamp": midnight.as_unit("ns"),
                "open": 10.0 + np.arange(days),
                "high": 11.0 + np.arange(days),
                "low": 9.0 + np.arange(days),
                "close": 10.5 + np.arange(days),
                "volume": 1000 + np.arange(days),
            }
        )
        for symbol in symbols
    ]
    return pd.concat(frames, ignore_index=True)


def minute_rows(day: str = "2024-01-09", symbol: str = "AAA", minutes: int = 390, before: int = 3) -> pd.DataFrame:
    start = pd.Timestamp(f"{day} 09:30", tz="America/New_York").tz_convert("UTC") - pd.Timedelta(minutes=before)
    count = minutes + before
    price = 20.0 + 0.01 * np.arange(count)
    return pd.DataFrame(
        {
            "symbol": symbol,
            "timestamp": pd.date_range(start, periods=count, freq="min", unit="ns"),
            "open": price,
            "high": price + 0.02,
            "low": price - 0.02,
            "close": price + 0.01,
            "volume": 100,
        }
    )


def opened(location: Path, first: date = FIRST, last: date = LAST, symbols: tuple[str, ...] = ()) -> MarketDataPort:
    return files_source(location, CALENDAR, seed=1, first=first, last=last, policy=POLICY, symbols=symbols).market


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
async def test_daily_bars_become_minutes_that_meet_the_day(tmp_path: Path, suffix: str) -> None:
    bars = daily_rows()
    path = tmp_path / f"bars.{suffix}"
    bars.to_csv(path, index=False) if suffix == "csv" else bars.to_parquet(path)

    market = opened(tmp_path)
    session = market.sessions()[3]
    minutes = await market.session_bars(session)
    prior = await market.prior_facts(session, (5, 390))

    assert market.symbols == ("AAA", "BBB")
    assert minutes.open[0].tolist() == [13.0, 13.0]
    assert minutes.high.max(axis=0).tolist() == [14.0, 14.0]
    assert minutes.close[-1].tolist() == [13.5, 13.5]
    assert minutes.volume.sum(axis=0).tolist() == [1003, 1003]
    assert prior.previous_close.tolist() == [12.5, 12.5]
    assert prior.cumulative_volume_mean[1].tolist() == [1001, 1001]
    assert "simulated intraday path" in market.notice


async def test_csv_and_parquet_of_the_same_bars_are_the_same_market(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "p").mkdir()
    daily_rows().to_csv(tmp_path / "c" / "bars.csv", index=False)
    daily_rows().to_parquet(tmp_path / "p" / "bars.parquet")
    one, two = opened(tmp_path / "c"), opened(tmp_path / "p")

    first, second = await one.session_bars(one.sessions()[2]), await two.session_bars(two.sessions()[2])

    np.testing.assert_array_equal(first.close, second.close)
    assert one.source_id != two.source_id


async def test_minute_bars_are_replayed_as_they_are_without_extended_hours(tmp_path: Path) -> None:
    rows = minute_rows()
    rows.to_parquet(tmp_path / "minutes.parquet")

    market = opened(tmp_path)
    (session,) = market.sessions()
    bars = await market.session_bars(session)

    assert market.notice == "minute bars from files"
    assert (bars.quality == BarQuality.OK).all()
    np.testing.assert_array_equal(bars.close[:, 0], rows["close"].to_numpy()[3:])
    assert bars.volume.sum() == 39_000


async def test_holes_in_minute_bars_follow_the_gap_policy(tmp_path: Path) -> None:
    whole, short, long = minute_rows(symbol="AAA"), minute_rows(symbol="BBB"), minute_rows(symbol="CCC")
    pd.concat([whole, short.drop(index=[13, 14]), long.drop(index=range(13, 17))]).to_parquet(tmp_path / "minutes.parquet")

    market = opened(tmp_path)
    bars = await market.session_bars(market.sessions()[0])

    assert (bars.quality[:, 0] == BarQuality.OK).all()
    assert bars.quality[9:13, 1].tolist() == [BarQuality.OK, BarQuality.FILLED, BarQuality.FILLED, BarQuality.OK]
    assert bars.quality[9:12, 2].tolist() == [BarQuality.OK, BarQuality.FILLED, BarQuality.FILLED]
    assert (bars.quality[12:, 2] == BarQuality.MISSING).all()


async def test_prior_facts_of_minute_bars_come_from_the_daily_file_beside_them(tmp_path: Path) -> None:
    daily_rows(("AAA", "BBB"), days=5).to_parquet(tmp_path / "daily.parquet")
    pd.concat([minute_rows("2024-01-09"), minute_rows("2024-01-10")]).to_parquet(tmp_path / "minutes.parquet")

    market = opened(tmp_path)
    ninth, tenth = market.sessions()
    before_ninth = await market.prior_facts(ninth, (390,))
    before_tenth = await market.prior_facts(tenth, (195, 390))

    assert market.symbols == ("AAA",)
    assert before_ninth.previous_close.tolist() == [14.5]
    assert before_ninth.cumulative_volume_mean.tolist() == [[1003.0]]
    last_minute_close = 20.0 + 0.01 * 392 + 0.01
    assert before_tenth.previous_close == pytest.approx([last_minute_close])
    assert before_tenth.cumulative_volume_mean[1, 0] == pytest.approx((1003 + 1004 + 39_000) / 3)
    assert before_tenth.cumulative_volume_mean[0, 0] > 19_500 / 3


async def test_without_daily_bars_too_few_earlier_minute_sessions_are_no_history(tmp_path: Path) -> None:
    pd.concat([minute_rows("2024-01-09"), minute_rows("2024-01-10")]).to_parquet(tmp_path / "minutes.parquet")

    market = opened(tmp_path)
    prior = await market.prior_facts(market.sessions()[1], (5,))

    assert prior.previous_close == pytest.approx([20.0 + 0.01 * 392 + 0.01])
    assert np.isnan(prior.cumulative_volume_mean).all()


def spoil(column: str, value: str | float, row: int = 4) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(bars: pd.DataFrame) -> pd.DataFrame:
        bars = bars.astype({column: object})
        bars.loc[row, column] = value
        return bars

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("close", "NaN"), ["bars.csv", "close", "missing", "1 row", "AAA", "2024-01-08T05:00:00"]),
        (spoil("open", "abc"), ["bars.csv", "open", "not numbers", "'abc'", "AAA", "2024-01-08T05:00:00"]),
        (spoil("open", "inf"), ["bars.csv", "open", "not a finite number", "AAA"]),
        (spoil("low", 0), ["bars.csv", "low", "not above zero", "AAA", "2024-01-08T05:00:00"]),
        (spoil("volume", -1), ["bars.csv", "volume", "negative", "AAA"]),
        (spoil("volume", ""), ["bars.csv", "volume", "missing", "AAA"]),
        (spoil("high", 9.0), ["bars.csv", "do not enclose", "AAA", "2024-01-08T05:00:00"]),
        (spoil("symbol", ""), ["bars.csv", "symbol", "empty"]),
        (spoil("timestamp", "2024-01-08"), ["bars.csv", "timestamp", "UTC instants", "'2024-01-08'", "AAA"]),
        (spoil("timestamp", "2024-01-08T07:00:00Z"), ["bars.csv", "timestamp", "midnight in New York", "AAA"]),
        (spoil("timestamp", "2024-01-06T05:00:00Z"), ["exchange is closed", "AAA", "2024-01-06"]),
        (lambda bars: pd.concat([bars, bars.iloc[[4]]]), ["bars.csv", "duplicates", "2 rows", "AAA", "2024-01-08T05:00:00"]),
        (lambda bars: bars.drop(columns="volume"), ["bars.csv", "no column volume"]),
        (lambda bars: bars.iloc[:0], ["bars.csv", "holds no bars"]),
    ],
)
def test_a_malformed_file_is_refused_by_name(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: list[str]
) -> None:
    bars = daily_rows()
    bars["timestamp"] = bars["timestamp"].map(lambda at: at.isoformat())
    change(bars).to_csv(tmp_path / "bars.csv", index=False)

    with pytest.raises(BadInput) as refused:
        opened(tmp_path / "bars.csv")

    for word in words:
        assert word in str(refused.value)


def test_a_null_bar_is_no_bar_and_a_few_contradicting_ones_in_many_are_refused_one_by_one(tmp_path: Path) -> None:
    bars = daily_rows(days=40)
    bars.loc[4, ["open", "high", "low", "close"]] = np.nan
    bars.loc[45, "low"] = 15.75
    bars.to_parquet(tmp_path / "bars.parquet")
    policy = FilesPolicy(POLICY.market, POLICY.gaps, unenclosed_fraction_max=0.05)

    history = files_history(tmp_path, CALENDAR, first=FIRST, last=date(2024, 1, 31), policy=policy)
    days = {past.session.date: past for past in history.sessions}

    assert history.notes == ("bars.parquet: 1 bars without any price are left out",)
    assert days[date(2024, 1, 9)].refused == {"BBB": "low is above open or close"}
    assert days[date(2024, 1, 10)].prior.excluded == {"BBB": "previous bar refused: low is above open or close"}
    assert np.isnan(days[date(2024, 1, 8)].open[0])
    assert days[date(2024, 1, 9)].prior.previous_close[0] == 13.5


def test_text_that_is_no_parquet_and_paths_that_are_not_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "bars.parquet").write_text("not a parquet file")
    (tmp_path / "bars.xlsx").write_text("x")
    (tmp_path / "empty").mkdir()

    for location, words in (
        (tmp_path / "bars.parquet", "not a readable parquet file"),
        (tmp_path / "absent", "no such file or folder"),
        (tmp_path / "bars.xlsx", "not a .csv or .parquet file"),
        (tmp_path / "empty", "holds no .csv or .parquet file"),
    ):
        with pytest.raises(BadInput, match=words):
            opened(location)


def test_unknown_symbols_and_windows_without_bars_are_told(tmp_path: Path) -> None:
    daily_rows().to_parquet(tmp_path / "bars.parquet")

    with pytest.raises(BadInput, match=r"unknown symbol ZZZ: .* holds AAA, BBB"):
        opened(tmp_path, symbols=("AAA", "ZZZ"))
    with pytest.raises(BadInput, match=r"no bars from 2023-01-01 to 2023-02-01: .* covers 2024-01-02 to 2024-01-12"):
        opened(tmp_path, date(2023, 1, 1), date(2023, 2, 1))
    with pytest.raises(BadInput, match="ends before it starts"):
        opened(tmp_path, LAST, FIRST)


def test_two_files_of_the_same_bars_are_ambiguous_and_the_message_names_one(tmp_path: Path) -> None:
    daily_rows(("AAA",)).to_parquet(tmp_path / "one.parquet")
    daily_rows(("AAA", "BBB")).to_parquet(tmp_path / "two.parquet")

    with pytest.raises(
        BadInput, match=r"2 files .* AAA at 2024-01-02.*: one.parquet, two.parquet. Name one file, such as files:"
    ):
        opened(tmp_path)
    assert opened(tmp_path / "one.parquet").symbols == ("AAA",)


def test_files_of_different_symbols_are_one_universe_and_other_files_are_set_aside(tmp_path: Path) -> None:
    daily_rows(("AAA",)).to_parquet(tmp_path / "one.parquet")
    daily_rows(("NA",)).to_csv(tmp_path / "two.csv", index=False)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")

    folder = read_folder(tmp_path, 0.0)

    assert [file.timeframe for file in folder.files] == [Timeframe.DAILY, Timeframe.DAILY]
    assert folder.ignored == {"notes.csv": "no column symbol, timestamp, open, high, low, close, volume"}
    assert opened(tmp_path).symbols == ("AAA", "NA")


def test_hourly_bars_are_refused(tmp_path: Path) -> None:
    rows = minute_rows(minutes=360, before=0)
    rows[rows["timestamp"].dt.minute == 0].to_parquet(tmp_path / "hours.parquet")

    with pytest.raises(BadInput, match=r"hours.parquet: hourly bars cannot be replayed"):
        opened(tmp_path / "hours.parquet")
    with pytest.raises(BadInput, match=r"hours.parquet: hourly bars; daily or one-minute bars are used"):
        opened(tmp_path)


def split_folder(tmp_path: Path, *, halved: bool) -> Path:
    bars = daily_rows(("AAA",))
    if halved:
        bars.loc[4:, ["open", "high", "low", "close"]] /= 2
    bars.to_parquet(tmp_path / "bars.parquet")
    return tmp_path


def test_a_split_in_the_actions_file_explains_the_jump(tmp_path: Path) -> None:
    folder = split_folder(tmp_path, halved=True)
    (folder / "corporate_actions.csv").write_text(
        "symbol,last_cum_session,kind,value\nAAA,2024-01-05,split,2\nAAA,2024-01-05,dividend,9\n"
    )

    history = files_history(folder, CALENDAR, first=FIRST, last=LAST, policy=POLICY)
    day = {past.session.date: past for past in history.sessions}[date(2024, 1, 8)]

    assert day.split.tolist() == [2.0]
    assert day.prior.previous_close.tolist() == [13.5 / 2]
    assert history.notes == ("AAA 2024-01-08: split 2 told by corporate actions",)


def test_a_split_that_the_prices_do_not_show_is_set_aside(tmp_path: Path) -> None:
    folder = split_folder(tmp_path, halved=False)
    (folder / "corporate_actions_x.csv").write_text("symbol,last_cum_session,kind,value\nAAA,2024-01-05,split,2\n")

    history = files_history(folder, CALENDAR, first=FIRST, last=LAST, policy=POLICY)

    assert {float(past.split[0]) for past in history.sessions} == {1.0}
    assert "set aside: the prices do not jump by it" in history.notes[0]


def test_a_split_that_nothing_confirms_excludes_the_symbol_that_day(tmp_path: Path) -> None:
    bars = daily_rows(("AAA",))
    bars[["open", "high", "low", "close"]] += 100
    bars.loc[4:, ["open", "high", "low", "close"]] /= 2
    bars.to_parquet(tmp_path / "bars.parquet")

    history = files_history(tmp_path, CALENDAR, first=FIRST, last=LAST, policy=POLICY)
    excluded = {past.session.date: past.prior.excluded for past in history.sessions if past.prior.excluded}

    assert list(excluded) == [date(2024, 1, 8), date(2024, 1, 9)]
    assert "looks like a split, 2 new shares per old, that nothing confirms" in excluded[date(2024, 1, 8)]["AAA"]


def test_a_malformed_actions_file_is_refused(tmp_path: Path) -> None:
    daily_rows().to_parquet(tmp_path / "bars.parquet")
    actions = tmp_path / "corporate_actions.csv"

    actions.write_text("symbol,kind,value\nAAA,split,2\n")
    with pytest.raises(BadInput, match=r"corporate_actions.csv: no column last_cum_session"):
        opened(tmp_path)
    actions.write_text("symbol,last_cum_session,kind,value\nAAA,2024-01-05,split,0\n")
    with pytest.raises(BadInput, match=r"corporate_actions.csv: 1 splits without .* 'AAA', '2024-01-05', '0'"):
        opened(tmp_path)


def test_the_content_is_in_the_name_of_the_source(tmp_path: Path) -> None:
    bars = daily_rows()
    bars.to_parquet(tmp_path / "bars.parquet")
    before, again = opened(tmp_path).source_id, opened(tmp_path).source_id
    bars.loc[0, "volume"] = 7
    bars.to_parquet(tmp_path / "bars.parquet")

    assert before == again
    assert opened(tmp_path).source_id != before
    assert opened(tmp_path, symbols=("AAA",)).source_id != opened(tmp_path, symbols=("BBB",)).source_id


async def test_the_real_minute_week_is_replayed_with_its_daily_history(market_data_folder: Path, tmp_path: Path) -> None:
    for name in ("minute_2019-02-11_15_shared.parquet", "daily_2018-01_2019-02_shared.parquet"):
        if not (market_data_folder / name).is_file():
            pytest.skip(f"{name} is not in {market_data_folder}")
        shutil.copy(market_data_folder / name, tmp_path)

    market = opened(tmp_path, date(2019, 2, 11), date(2019, 2, 15))
    monday = market.sessions()[0]
    bars, prior = await market.session_bars(monday), await market.prior_facts(monday, (5,))

    assert len(market.sessions()) == 5
    assert len(market.symbols) == 14
    assert np.isfinite(prior.previous_close).all()
    gaps = bars.open[0] / prior.previous_close - 1
    assert np.nanmax(np.abs(gaps)) < 0.04
    assert ((bars.quality == BarQuality.OK) | (bars.quality == BarQuality.FILLED)).mean() > 0.9
