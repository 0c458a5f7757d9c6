"""The scan of past sessions against facts that were computed twice by other means."""

import csv
import shutil
from datetime import date
from pathlib import Path

import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.files import FilesPolicy, files_history
from finagent.domain.errors import BadInput
from finagent.quant.features.gap_scan import ScanRules
from finagent.services.past_scan import PastScanPolicy, PastScanReport, VolumeBasis, scan_past_sessions

FactSet = tuple[str, Path, date, date, set[tuple[str, str]]]
RULES = ScanRules(
    gap_fraction_min=0.04,
    price_usd_min=5.0,
    dollar_volume_usd_min=5e6,
    relative_volume_min=1.5,
    price_age_minutes_max=2,
    bad_bars_max=0,
    candidates_max=50,
)
POLICY = FilesPolicy(
    market=BridgedMarketPolicy(HistoryPolicy(mean_sessions=20, hole_sessions_max=2), cached_sessions_max=1),
    gaps=GapPolicy(hole_minutes_max=5),
    unenclosed_fraction_max=1e-4,
)
# Facts' name -> bars, whole span, rows that the scan leaves out of the facts: each must be named in `dropped`.
SETS: dict[str, tuple[str, date, date, set[tuple[str, str]]]] = {
    "universe_shared": (
        "daily_universe_2013-2016.parquet",
        date(2013, 10, 1),
        date(2016, 12, 30),
        {("SUI", "2013-11-29"), ("PXD", "2014-01-22"), ("SRC", "2013-11-05")},
    ),
    "yahoo88_shared": ("daily_yahoo88_shared.parquet", date(2012, 9, 4), date(2017, 9, 1), set()),
    "lean_shared": ("daily_lean_unadjusted_shared.parquet", date(1998, 1, 2), date(2021, 3, 31), set()),
    "demo2019_shared": ("daily_2018-01_2019-02_shared.parquet", date(2018, 1, 2), date(2019, 2, 15), set()),
    "bokeh_2026.1": (
        "daily_quandl_wiki_public_domain.parquet",
        date(2000, 3, 1),
        date(2013, 3, 1),
        {("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")},
    ),
}


def scanned(location: Path, first: date, last: date, volume: VolumeBasis) -> PastScanReport:
    history = files_history(location, NewYorkCalendar(), first=first, last=last, policy=POLICY)
    return scan_past_sessions(history.sessions, RULES, volume, PastScanPolicy(top_gaps=20, full_day_relative_volume_min=2.0))


def facts(folder: Path, name: str, kind: str) -> list[dict[str, str]]:
    path = folder / f"facts_{name}_{kind}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {folder}")
    with path.open() as rows:
        return list(csv.DictReader(rows))


@pytest.fixture(params=SETS)
def fact_set(request: pytest.FixtureRequest, market_data_folder: Path) -> FactSet:
    file, first, last, left_out = SETS[request.param]
    if not (market_data_folder / file).is_file():
        pytest.skip(f"{file} is not in {market_data_folder}")
    return request.param, market_data_folder / file, first, last, left_out


def test_counts_tops_and_candidates_are_the_facts_but_for_rows_that_are_named(
    fact_set: FactSet, market_data_folder: Path
) -> None:
    name, file, first, last, left_out = fact_set

    report = scanned(file, first, last, VolumeBasis.FULL_DAY)

    dropped = {(row.symbol, row.date.isoformat()) for row in report.dropped}
    assert left_out <= dropped
    expected = {
        (row["symbol"], int(row["year"])): int(row["n_gap_up_ge_4pct"])
        for row in facts(market_data_folder, name, "gapups_per_symbol_year")
    }
    for symbol, day in left_out & {("SUI", "2013-11-29")}:
        expected[symbol, int(day[:4])] -= 1
    assert report.gap_ups_per_symbol_year == {key: count for key, count in expected.items() if count}
    top = facts(market_data_folder, name, "top_gaps")
    for side, found in (("up", report.top_up), ("down", report.top_down)):
        wanted = {(row["symbol"], row["date"]): float(row["gap"]) for row in top if row["side"] == side}
        gaps = {(gap.symbol, gap.date.isoformat()): gap.gap for gap in found}
        assert set(wanted) - set(gaps) == left_out & set(wanted)
        assert {row: gaps[row] for row in wanted if row in gaps} == {
            row: pytest.approx(gap, abs=1e-8) for row, gap in wanted.items() if row in gaps
        }
    candidates = {(gap.symbol, gap.date.isoformat()) for session in report.scanned for gap in session.candidates if gap.gap > 0}
    assert candidates == {(row["symbol"], row["date"]) for row in facts(market_data_folder, name, "candidates")}


def test_every_raw_split_without_an_actions_file_is_named(market_data_folder: Path, tmp_path: Path) -> None:
    file, first, last, _ = SETS["lean_shared"]
    if not (market_data_folder / file).is_file():
        pytest.skip(f"{file} is not in {market_data_folder}")
    shutil.copy(market_data_folder / file, tmp_path)

    report = scanned(tmp_path, first, last, VolumeBasis.NONE)

    named = {(row.symbol, row.date.isoformat()) for row in report.dropped if row.reason.startswith("looks like a split")}
    splits = [("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("AAPL", "2014-06-09"), ("AAPL", "2020-08-31")]
    assert named == {*splits, ("BAC", "2004-08-30"), ("IWM", "2005-06-09")}
    assert report.top_down[0].date == date(2000, 9, 29)


def test_without_volume_no_relative_volume_is_claimed_and_with_it_the_rule_bites(market_data_folder: Path) -> None:
    file, first, last, _ = SETS["demo2019_shared"]
    if not (market_data_folder / file).is_file():
        pytest.skip(f"{file} is not in {market_data_folder}")

    blind = scanned(market_data_folder / file, first, last, VolumeBasis.NONE)
    ahead = scanned(market_data_folder / file, first, last, VolumeBasis.FULL_DAY)

    found = [gap for session in blind.scanned for gap in session.candidates]
    assert found
    assert {gap.relative_volume for gap in found} == {None}
    assert sum(session.reasons.get("RELATIVE_VOLUME", 0) for session in blind.scanned) == 0
    assert sum(session.reasons.get("RELATIVE_VOLUME", 0) for session in ahead.scanned) > 0
    document = ahead.as_json()
    assert document["volume"] == "full-day"
    assert document["gap_ups"] == 40
    assert set(document["top_gaps"]) == {"up", "down"}
    assert document["sessions_with_gaps"][0]["date"] >= "2018-01-02"


def test_a_window_without_sessions_is_refused() -> None:
    with pytest.raises(BadInput, match="no past session"):
        scan_past_sessions([], RULES, VolumeBasis.NONE, PastScanPolicy(top_gaps=20, full_day_relative_volume_min=2.0))
