"""What is told later is known later: a correction, a late split, and everything after an open change nothing known at it."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.adapters.market_data.test_files import CALENDAR, FIRST, LAST, POLICY, daily_rows, minute_rows, opened

from finagent.adapters.market_data.files import files_source
from finagent.domain.bars import BarQuality, DailyHistory, PriorFacts
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort

FIELDS = ("open", "high", "low", "close", "volume", "split")


async def known(market: MarketDataPort, number: int) -> tuple[DailyHistory, PriorFacts]:
    """At the open of a session, counted from zero."""
    session = market.sessions()[number]
    return await market.daily_history(session, market.sessions()[0].date), await market.prior_facts(session, (5, 390))


async def same(one: MarketDataPort, other: MarketDataPort, number: int) -> bool:
    (days, prior), (days_, prior_) = await known(one, number), await known(other, number)
    return (
        all(np.array_equal(getattr(days, name), getattr(days_, name), equal_nan=True) for name in FIELDS)
        and np.array_equal(prior.previous_close, prior_.previous_close, equal_nan=True)
        and np.array_equal(prior.cumulative_volume_mean, prior_.cumulative_volume_mean, equal_nan=True)
        and prior.excluded == prior_.excluded
    )


def folder(tmp_path: Path, name: str, **files: pd.DataFrame) -> Path:
    place = tmp_path / name
    place.mkdir()
    for stem, rows in files.items():
        rows.to_csv(place / f"{stem}.csv", index=False)
    return place


def corrected(rows: pd.DataFrame, symbol: str, row: int, close: float, known_at: str) -> pd.DataFrame:
    """The row of a symbol told anew."""
    again = rows[rows["symbol"] == symbol].iloc[[row]].copy()
    again["close"], again["high"] = close, max(close, float(again["high"].iloc[0]))
    return again.assign(known_at=known_at)


async def test_a_correction_of_a_day_counts_from_when_it_was_told(tmp_path: Path) -> None:
    """Told in the session of 9 January, of the bar of 4 January: known at the opens from 10 January on."""
    rows = daily_rows()
    correction = corrected(rows, "AAA", 2, 12.75, "2024-01-09T15:00:00Z")
    as_told = opened(folder(tmp_path, "told", bars=rows, later=correction))
    before = opened(folder(tmp_path, "before", bars=rows))
    kept = rows[~((rows["symbol"] == "AAA") & (rows["timestamp"] == correction["timestamp"].iloc[0]))]
    after = opened(folder(tmp_path, "after", bars=pd.concat([kept, correction.drop(columns="known_at")])))

    opens = [session.opens_at for session in as_told.sessions()]
    told = datetime.fromisoformat("2024-01-09T15:00:00Z")
    assert sum(at < told for at in opens) == 6
    for number, at in enumerate(opens):
        expected = before if at < told else after
        assert await same(as_told, expected, number), at
    assert not await same(before, after, 8)
    for session in as_told.sessions():
        np.testing.assert_array_equal((await as_told.session_bars(session)).close, (await before.session_bars(session)).close)


async def test_the_last_of_several_corrections_counts_also_in_one_file(tmp_path: Path) -> None:
    rows = daily_rows()
    versions = [
        corrected(rows, "AAA", 1, close, at)
        for close, at in ((11.7, "2024-01-08T12:00:00Z"), (11.6, "2024-01-05T12:00:00Z"), (11.8, "2024-01-10T12:00:00Z"))
    ]
    market = opened(folder(tmp_path, "told", bars=pd.concat([*versions, rows])))
    closes = [float((await known(market, number))[0].close[1, 0]) for number in range(2, 9)]
    assert closes == [11.5, 11.6, 11.7, 11.7, 11.8, 11.8, 11.8]  # 4, 5, 8, 9, 10, 11 and 12 January
    backward = [float((await known(market, number))[0].close[1, 0]) for number in range(8, 1, -1)]
    assert backward == closes[::-1]


async def test_a_split_that_is_told_late_is_suspect_until_then(tmp_path: Path) -> None:
    rows = daily_rows()
    halved = (rows["symbol"] == "AAA") & (rows["timestamp"] >= rows["timestamp"].iloc[4])
    rows.loc[halved, ["open", "high", "low", "close"]] /= 2.0
    rows.loc[4, "open"] = 6.75  # the close before is 13.5
    actions = pd.DataFrame(
        {
            "symbol": ["AAA"],
            "last_cum_session": ["2024-01-05"],
            "kind": ["split"],
            "value": [2.0],
            "known_at": ["2024-01-08T20:00:00Z"],
        }
    )
    market = opened(folder(tmp_path, "told", bars=rows, corporate_actions=actions))
    at_the_ex_date, next_day = await known(market, 4), await known(market, 5)
    assert "looks like a split" in at_the_ex_date[1].excluded["AAA"]
    assert next_day[1].excluded == {}
    assert next_day[0].split[4].tolist() == [2.0, 1.0]


async def test_a_minute_is_replayed_as_it_was_told_first_and_corrected_from_the_next_open_on(tmp_path: Path) -> None:
    days = [minute_rows(day, before=0) for day in ("2024-01-09", "2024-01-10", "2024-01-11")]
    rows = pd.concat(days, ignore_index=True)
    last = rows[rows["timestamp"] == pd.Timestamp("2024-01-09T20:59:00Z")].copy()
    again = last.assign(close=30.0, high=30.0, known_at="2024-01-09T21:30:00Z")
    market = opened(folder(tmp_path, "told", minutes=rows, later=again))
    first, second, _ = market.sessions()

    assert (await market.session_bars(first)).close[-1, 0] == last["close"].iloc[0]
    assert (await market.prior_facts(second, (5,))).previous_close[0] == 30.0


async def test_minutes_that_are_told_late_were_not_there(tmp_path: Path) -> None:
    """The first hour of a day, told on the next: unknown on its day, known at the next open."""
    rows = pd.concat([minute_rows(day, before=0) for day in ("2024-01-09", "2024-01-10")], ignore_index=True)
    late = (rows["timestamp"] >= "2024-01-09T14:30:00Z") & (rows["timestamp"] < "2024-01-09T15:30:00Z")
    rows["known_at"] = (rows["timestamp"] + pd.Timedelta(seconds=75)).astype(str).where(~late, "2024-01-10T11:00:00Z")
    market = opened(folder(tmp_path, "told", minutes=rows))
    first, second = market.sessions()
    bars = await market.session_bars(first)
    assert (bars.quality[:60] == BarQuality.MISSING).all()
    assert np.isfinite((await market.daily_history(second, first.date)).volume).all()
    assert (await market.daily_history(second, first.date)).volume[0, 0] == 390 * 100


async def test_a_file_of_corrections_alone_is_read_whatever_lies_between_them(tmp_path: Path) -> None:
    rows = pd.concat([minute_rows(day, before=0) for day in ("2024-01-09", "2024-01-10")], ignore_index=True)
    chosen = rows["timestamp"].isin(pd.to_datetime(["2024-01-09T15:00:00Z", "2024-01-09T20:59:00Z"]))
    again = rows[chosen].assign(close=15.0, low=9.0, known_at="2024-01-09T22:00:00Z")
    market = opened(folder(tmp_path, "told", minutes=rows, later=again))
    assert (await market.prior_facts(market.sessions()[1], (5,))).previous_close[0] == 15.0


async def test_a_folder_in_which_every_bar_is_told_in_time_is_one_without_the_column(tmp_path: Path) -> None:
    rows = daily_rows()
    told = rows.assign(known_at=(rows["timestamp"] + pd.Timedelta(hours=17)).astype(str))
    plain, dated = opened(folder(tmp_path, "plain", bars=rows)), opened(folder(tmp_path, "dated", bars=told))
    for number in range(9):
        assert await same(plain, dated, number)


async def test_what_comes_after_an_open_changes_nothing_known_at_it(tmp_path: Path) -> None:
    """Every row of the session and after it replaced: days, their volumes, and minutes."""
    chance = np.random.default_rng(1)
    rows, minutes = daily_rows(), pd.concat([minute_rows(day) for day in ("2024-01-08", "2024-01-09", "2024-01-10")])
    cut = pd.Timestamp("2024-01-09T05:00:00Z")
    places = [folder(tmp_path, name) for name in ("days", "other_days", "minutes", "other_minutes")]
    for place, table in ((places[0], rows), (places[2], minutes)):
        table.to_parquet(place / "bars.parquet")
    for place, table in ((places[1], rows), (places[3], minutes)):
        other, later = table.copy(), table["timestamp"] >= cut
        factor = np.exp(0.1 * chance.standard_normal(int(later.sum())))
        for name in ("open", "high", "low", "close"):
            other.loc[later, name] *= factor
        other["volume"] = other["volume"].astype(float)
        other.loc[later, "volume"] *= 10.0 * factor
        other.to_parquet(place / "bars.parquet")
    for one, other_place in ((places[0], places[1]), (places[2], places[3])):
        market, changed = opened(one), opened(other_place)
        number = [str(session.date) for session in market.sessions()].index("2024-01-09")
        for known_before in range(number + 1):
            assert await same(market, changed, known_before)


@pytest.mark.parametrize(
    ("known_at", "words"),
    [
        ("2024-01-03T12:00:00Z", "known_at: 1 rows are known before their time, first AAA at 2024-01-04T05:00:00"),
        ("soon", "known_at: 1 rows are not UTC instants .* first 'soon' of AAA"),
    ],
)
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, known_at: str, words: str) -> None:
    rows = daily_rows()
    with pytest.raises(BadInput, match=f"bars.csv: {words}"):
        opened(folder(tmp_path, "told", bars=pd.concat([rows, corrected(rows, "AAA", 2, 12.6, known_at)])))


def test_the_same_bar_told_twice_at_one_time_is_refused(tmp_path: Path) -> None:
    rows = daily_rows()
    again = corrected(rows, "AAA", 2, 12.6, "2024-01-09T15:00:00Z")
    with pytest.raises(BadInput, match="duplicates in 2 rows of AAA"):
        opened(folder(tmp_path, "told", bars=pd.concat([rows, again, again])))
    with pytest.raises(BadInput, match=r"2 files in .* hold the same daily bars"):
        opened(folder(tmp_path, "beside", bars=rows, later=again, more=again))


async def test_whether_a_bar_is_sound_is_not_known_at_its_open(tmp_path: Path) -> None:
    """The bar of 10 January is refused, for a low that the vendor slips on; its open is as any other, or that of a split."""
    rows = daily_rows(("AAA",))
    slipped = rows.copy()
    slipped.loc[6, "low"] = 99.0
    lenient = replace(POLICY, unenclosed_fraction_max=0.5)

    def told(name: str, bars: pd.DataFrame) -> MarketDataPort:
        return files_source(folder(tmp_path, name, bars=bars), CALENDAR, seed=1, first=FIRST, last=LAST, policy=lenient).market

    market, sound = told("slipped", slipped), told("sound", rows)
    assert await same(market, sound, 6)
    assert "previous bar refused" in (await known(market, 7))[1].excluded["AAA"]

    halved = slipped.copy()
    halved.loc[6:, ["open", "high", "close"]] /= 2.0
    halved.loc[6, "open"] = 7.75  # the close before is 15.5
    suspect = (await known(told("halved", halved), 6))[1]
    assert "looks like a split" in suspect.excluded["AAA"]
