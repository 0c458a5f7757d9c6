"""The embedded sample: what it holds, what it says of itself, and the market made of it."""

import gzip
import hashlib
import json
import subprocess
import sys
from csv import DictReader
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data import sample
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import DailyPanel, HistoryPolicy
from finagent.adapters.market_data.sample import sample_market, sample_panel
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort

FIRST, LAST = date(2008, 10, 1), date(2008, 10, 31)
POLICY = BridgedMarketPolicy(HistoryPolicy(mean_sessions=20, hole_sessions_max=5), cached_sessions_max=2)


@pytest.fixture(scope="module")
def panel() -> DailyPanel:
    return sample_panel(NewYorkCalendar())


@pytest.fixture(scope="module")
def gaps(panel: DailyPanel) -> dict[tuple[str, date], tuple[float, ...]]:
    """(symbol, date) -> gap, previous close, mean dollar volume, volume relative to the mean of 20 sessions."""
    found: dict[tuple[str, date], tuple[float, ...]] = {}
    for row, session in enumerate(panel.sessions):
        facts = panel.prior_facts(session, (390,), POLICY.history, lambda _, minutes: np.ones((len(minutes), len(panel.symbols))))
        gap = panel.open[row] / facts.previous_close - 1.0
        relative = panel.volume[row] / facts.cumulative_volume_mean[0]
        for place in np.flatnonzero(np.isfinite(gap)):
            numbers = (gap[place], facts.previous_close[place], facts.dollar_volume_mean[place], relative[place])
            found[panel.symbols[place], session.date] = tuple(float(number) for number in numbers)
    return found


def october(seed: int = 1) -> MarketDataPort:
    return sample_market(NewYorkCalendar(), seed=seed, first=FIRST, last=LAST, policy=POLICY)


def test_there_are_12154_good_bars_of_five_symbols(panel: DailyPanel) -> None:
    counts = dict(zip(panel.symbols, np.isfinite(panel.close).sum(axis=0), strict=True))

    assert counts == {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
    assert all(not day for day in panel.excluded)


def test_exactly_three_splits_are_told(panel: DailyPanel) -> None:
    found = {
        (panel.symbols[place], str(panel.sessions[row].date)): panel.split[row, place]
        for row, place in np.argwhere(panel.split != 1)
    }

    assert found == {("AAPL", "2000-06-21"): 2.0, ("AAPL", "2005-02-28"): 2.0, ("MSFT", "2003-02-18"): 2.0}


def test_a_fall_by_half_is_a_gap_and_no_split(gaps: dict[tuple[str, date], tuple[float, ...]]) -> None:
    assert gaps["AAPL", date(2000, 9, 29)][0] == pytest.approx(-0.47, abs=0.01)
    assert abs(gaps["AAPL", date(2005, 2, 28)][0]) < 0.02


async def test_october_2008_has_23_sessions_4_symbols_and_the_counted_gaps() -> None:
    market = october()
    found = []
    for session in market.sessions():
        facts = await market.prior_facts(session, (5,))
        bars = await market.session_bars(session)
        found.append(bars.open[0] / facts.previous_close - 1.0)

    assert len(market.sessions()) == 23
    assert market.symbols == ("AAPL", "GOOG", "IBM", "MSFT")
    assert int((np.array(found) >= 0.02).sum()) == 25
    assert int((np.array(found) <= -0.02).sum()) == 20


def test_the_source_says_what_it_is_and_names_all_that_its_bars_depend_on() -> None:
    assert october().notice == "real daily bars, simulated intraday path"
    assert october(1).source_id != october(2).source_id
    assert october(1).source_id == october(1).source_id
    assert "2008-10-01:2008-10-31" in october().source_id


def test_a_window_outside_the_sample_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadInput, match="2000-03-01 to 2013-03-01"):
        sample_market(NewYorkCalendar(), seed=1, first=date(2020, 1, 1), last=date(2020, 2, 1), policy=POLICY)


def test_the_embedded_file_has_the_digest_and_licence_its_provenance_names() -> None:
    provenance = json.loads(sample.FOLDER.joinpath(sample.PROVENANCE_FILE).read_text())
    content = gzip.decompress(sample.FOLDER.joinpath(sample.BARS_FILE).read_bytes())

    assert hashlib.sha256(content).hexdigest() == provenance["sha256"]
    assert content.count(b"\n") - 1 == provenance["rows"] == 12_154
    assert provenance["license"].startswith("Public domain")
    assert "Quandl WIKI" in provenance["origin"]


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.decompress(sample.FOLDER.joinpath(sample.BARS_FILE).read_bytes())
    (tmp_path / sample.BARS_FILE).write_bytes(gzip.compress(content.replace(b"118.56", b"118.57", 1)))
    (tmp_path / sample.PROVENANCE_FILE).write_text(sample.FOLDER.joinpath(sample.PROVENANCE_FILE).read_text())
    monkeypatch.setattr(sample, "FOLDER", tmp_path)

    with pytest.raises(BadInput, match="is damaged"):
        sample_panel(NewYorkCalendar())


def test_the_file_can_be_made_again_from_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bokeh_sampledata", reason="the package is needed only to rebuild the sample")

    assert sample.main(["--verify"]) == 0
    assert "equals" in capsys.readouterr().out


def test_rebuilding_writes_a_file_that_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, panel: DailyPanel, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bokeh_sampledata", reason="the package is needed only to rebuild the sample")
    monkeypatch.setattr(sample, "FOLDER", tmp_path)

    assert sample.main(["--rebuild"]) == 0
    np.testing.assert_array_equal(sample_panel(NewYorkCalendar()).close, panel.close)
    (tmp_path / sample.PROVENANCE_FILE).write_text('{"sha256": "another"}')
    assert sample.main(["--verify"]) == 3
    assert "DIFFERS" in capsys.readouterr().out


def test_the_sample_needs_neither_pandas_nor_the_calendar_library() -> None:
    """Start-up counts: both take longer to import than the sample to load."""
    script = (
        "import sys, finagent.adapters.market_data.sample as s, finagent.adapters.calendar as c;"
        "s.sample_panel(c.NewYorkCalendar());"
        "print([n for n in ('pandas', 'exchange_calendars', 'bokeh_sampledata') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_gap_ups_per_symbol_and_year_are_those_counted_elsewhere(
    gaps: dict[tuple[str, date], tuple[float, ...]], market_data_folder: Path
) -> None:
    expected = {
        (row["symbol"], int(row["year"])): int(row["n_gap_up_ge_4pct"])
        for row in rows_of(market_data_folder, "facts_bokeh_2026.1_gapups_per_symbol_year.csv")
    }
    counts: dict[tuple[str, int], int] = {}
    for (symbol, day), numbers in gaps.items():
        if numbers[0] >= 0.04:
            counts[symbol, day.year] = counts.get((symbol, day.year), 0) + 1

    assert counts == {key: number for key, number in expected.items() if number}


def test_the_largest_gaps_are_those_found_elsewhere_but_for_the_three_splits(
    gaps: dict[tuple[str, date], tuple[float, ...]], market_data_folder: Path
) -> None:
    rows = rows_of(market_data_folder, "facts_bokeh_2026.1_top_gaps.csv")
    different = {
        (row["symbol"], row["date"])
        for row in rows
        if gaps[row["symbol"], date.fromisoformat(row["date"])][0] != pytest.approx(float(row["gap"]), abs=1e-7)
    }

    assert len(rows) == 40
    assert different == {("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")}


def test_full_day_candidates_are_those_found_elsewhere(
    gaps: dict[tuple[str, date], tuple[float, ...]], panel: DailyPanel, market_data_folder: Path
) -> None:
    rows = {
        (row["symbol"], date.fromisoformat(row["date"])): row
        for row in rows_of(market_data_folder, "facts_bokeh_2026.1_candidates.csv")
    }
    opens = {
        (symbol, session.date): panel.open[row, place]
        for row, session in enumerate(panel.sessions)
        for place, symbol in enumerate(panel.symbols)
    }
    found = {
        key
        for key, (gap, _, dollars, relative) in gaps.items()
        if gap >= 0.04 and opens[key] >= 5.0 and relative >= 2.0 and dollars >= 5e6
    }

    assert found == set(rows)
    for key, row in rows.items():
        expected = [float(row[name]) for name in ("gap", "prev_close", "adv20_usd", "rvol20")]
        np.testing.assert_allclose(gaps[key], expected, rtol=1e-6)


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(DictReader(file))
