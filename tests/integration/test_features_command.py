"""`finagent features`: the catalogue, its values on the sample, and nothing in it that looks ahead."""

import contextlib
import io
import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.adapters.market_data.test_files import daily_rows, minute_rows

from finagent.adapters.features.history_files import open_history
from finagent.adapters.market_data.daily_panel import DailyPanel, KnownPanels
from finagent.adapters.market_data.quote_files import FileQuotes
from finagent.adapters.news.files import FileNews
from finagent.cli.app import run
from finagent.domain.bars import BAR_COLUMNS, DailyHistory, Floats, PriorFacts
from finagent.domain.data_spec import AvailableAt, Group
from finagent.domain.ports.news import Article
from finagent.domain.sessions import Session
from finagent.quant.features import bar_features
from finagent.quant.features.catalogue import BARS, CANDIDATE

WINDOW = ("--set", "market_data.first_session=2012-10-01", "--set", "market_data.last_session=2012-12-31")


def said(*words: str, code: int = 0) -> Any:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run(["features", *words, "--json"]) == code
    return json.loads(out.getvalue())


def test_the_catalogue_is_listed_with_everything_that_decides_what_a_number_means() -> None:
    whole, gaps = said("list"), said("list", "--group", "gap")
    assert len(whole["features"]) == len(CANDIDATE.features) >= 100
    assert whole["hash"] == CANDIDATE.hash
    assert {each["group"] for each in gaps["features"]} == {"GAP"}
    assert all(each["source"] for each in whole["features"])
    assert said("list", "--group", "nothing", code=2)["exit_code"] == 2


def test_values_are_told_of_symbols_dates_and_names() -> None:
    symbols, names = ("--symbol", "AAPL", "--symbol", "FB"), ("--feature", "rsi_14", "--feature", "return_1")
    told = said("compute", *symbols, *names, "--date", "2012-11-01", *WINDOW)
    assert told["session"] == "2012-11-01"
    assert told["values"]["AAPL"].keys() == {"rsi_14", "return_1"}
    assert 0 < told["values"]["AAPL"]["rsi_14"] < 100
    assert told["values"]["FB"]["return_1"] is not None
    for wrong in (("--symbol", "NOSUCH"), ("--feature", "nosuch"), ("--feature", "gap"), ("--date", "2012-12-25")):
        assert said("compute", *wrong, *WINDOW, code=2)["exit_code"] == 2


def test_a_history_is_what_was_known_at_each_open(tmp_path: Path) -> None:
    span = ("--from", "2012-12-20", "--to", "2013-01-04", "--set", "market_data.last_session=2013-01-31")
    told = said("history", "--output", str(tmp_path / "features"), *span, *WINDOW[:2])
    kept = open_history(tmp_path / "features", BARS)
    day = said("compute", "--date", "2013-01-03", "--set", "market_data.last_session=2013-01-31", *WINDOW[:2])
    assert (told["sessions"], told["hash"]) == (len(kept.sessions), BARS.hash) == (10, BARS.hash)
    row = kept.sessions.index(date(2013, 1, 3))
    for place, symbol in enumerate(kept.symbols):
        known = [np.nan if value is None else value for value in day["values"][symbol].values()]
        np.testing.assert_array_equal(kept.values[row, place], known)
    again = said("history", "--output", str(tmp_path / "features"), *span, *WINDOW[:2], code=2)
    assert "is there already" in again["error"]


def test_a_feature_is_drawn_under_its_bars(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ["--feature", "rsi_14", "--feature", "natr_14", "--output", str(page), *WINDOW]
    assert said("chart", "--symbol", "AAPL", *options) == {"file": str(page), "symbol": "AAPL", "features": ["rsi_14", "natr_14"]}
    found = page.read_text()
    assert found.count('class="of"') == 2
    assert "AAPL: rsi_14, natr_14" in found
    assert "nan" not in found
    assert run(["features", "chart", "--symbol", "NOSUCH", *options]) == 2


def test_a_feature_is_drawn_under_the_minutes_of_a_session(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ["--symbol", "AAPL", "--feature", "rsi_14", "--output", str(page), "--timeframe", "30min"]
    said("chart", *options, "--date", "2008-10-09")
    found = page.read_text()
    assert "AAPL 2008-10-09: rsi_14" in found
    assert "10:00 to 16:00" in found
    assert found.count('class="up" d') + found.count('class="down" d') == 13, "a bar each half hour"
    assert "--from" in said("chart", *options, "--from", "2008-10-09", code=2)["error"]


def test_nothing_in_the_catalogue_looks_ahead() -> None:
    told = said("lookahead", "--points", "4")
    assert told["leaks"] == []
    outside = {feature.name for feature in CANDIDATE.features if feature.group in (Group.QUOTES, Group.NEWS)}
    assert set(told["untested"]) == outside, "the sample has neither"
    assert told["features"] == len(CANDIDATE.features) + 1 - len(outside)
    assert told["decisions"] >= 8
    assert told["sources"] == [f"daily {name}" for name in BAR_COLUMNS]


def test_a_planted_leak_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that mixes in the bar after the decision."""

    def over_history(features: bar_features.BarFeatures, history: Any) -> Floats:
        values = bar_features.over_history(features, history)
        values[:-1, :, BARS.columns["rsi_14"]] *= values[1:, :, BARS.columns["return_1"]]
        return values

    monkeypatch.setattr("finagent.services.market_data.leak_check.over_history", over_history)
    told = said("lookahead", "--points", "2", code=3)
    assert [leak["feature"] for leak in told["leaks"]] == ["rsi_14"]
    assert "close" in told["leaks"][0]["column"].split(", ")
    assert np.isfinite(told["leaks"][0]["before"])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Days, minutes, quotes that are out a second after the full minute, and headlines: one bar and one headline told anew after
    the session."""
    place = tmp_path_factory.mktemp("recorded")
    days = daily_rows(days=30)
    day = days["timestamp"].iloc[28].tz_convert("America/New_York").date().isoformat()
    days.to_csv(place / "days.csv", index=False)
    again = days[days["symbol"] == "AAA"].iloc[[27]]
    again.assign(high=60.0, close=55.0, known_at=f"{day}T23:00:00Z").to_csv(place / "corrected.csv", index=False)
    minutes = pd.concat([minute_rows(day, symbol, before=0) for symbol in ("AAA", "BBB")])
    minutes.to_csv(place / "minutes.csv", index=False)
    quotes = minutes[["symbol"]].assign(timestamp=minutes["timestamp"] + pd.Timedelta(seconds=1))
    quotes = quotes.assign(bid_close=minutes["close"] - 0.01, bid_size=3.0, ask_close=minutes["close"] + 0.01, ask_size=2.0)
    quotes.to_csv(place / "quotes.csv", index=False)
    told = {"symbol": ["AAA", "AAA"], "timestamp": [f"{day}T14:00:00Z"] * 2, "headline": ["Profit rises", "Profit falls"]}
    news = pd.DataFrame(told | {"known_at": [f"{day}T14:00:00Z", f"{day}T23:00:00Z"]})
    news.to_csv(place / "news.csv", index=False)
    chosen = (f"source=files:{place}", "mean_sessions=3", f"first_session={day}", f"last_session={day}")
    return tuple(word for each in chosen for word in ("--set", f"market_data.{each}"))


def leaks(recorded: tuple[str, ...], *more: str, code: int = 3) -> dict[str, set[str]]:
    """Of each feature that leaks, the columns."""
    told = said("lookahead", "--points", "1", *recorded, *more, code=code)
    return {leak["feature"]: set(leak["column"].split(", ")) for leak in told["leaks"]}


@pytest.mark.parametrize("index", [(), ("--set", "features.index_symbol=BBB")])
def test_what_the_sources_say_is_what_was_known(recorded: tuple[str, ...], index: tuple[str, ...]) -> None:
    assert leaks(recorded, *index, code=0) == {}


def test_a_market_that_tells_the_close_of_today_is_named(recorded: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DailyPanel.prior_facts

    def prior_facts(panel: DailyPanel, session: Session, *rest: Any) -> PriorFacts:
        return replace(honest(panel, session, *rest), previous_close=panel.close[panel.day_of(session)])

    monkeypatch.setattr(DailyPanel, "prior_facts", prior_facts)
    assert leaks(recorded)["gap"] == {"daily close"}


def test_a_correction_that_is_told_before_it_was_is_named(recorded: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnownPanels, "at", lambda panels, _: panels._made(len(panels._changes)))
    found = leaks(recorded)
    assert "daily close" in found["return_1"]
    assert "daily close" in found["gap"]


def test_a_quote_of_a_second_later_is_named(recorded: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FileQuotes.quotes
    monkeypatch.setattr(FileQuotes, "quotes", lambda quotes, at: honest(quotes, at + timedelta(seconds=1)))
    found = leaks(recorded)
    assert found["spread_bps"] == {"quote bid_close", "quote ask_close"}
    assert set(found) <= {each.name for each in CANDIDATE.features if each.group is Group.QUOTES}


def test_a_headline_of_later_is_named(recorded: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FileNews.articles

    async def articles(news: FileNews, symbols: tuple[str, ...], since: datetime, until: datetime) -> tuple[Article, ...]:
        return await honest(news, symbols, since, until + timedelta(hours=12))

    monkeypatch.setattr(FileNews, "articles", articles)
    found = leaks(recorded)
    assert found
    assert set().union(*found.values()) == {"headline"}


ALARMS = ("alarms", "--set", "market_data.first_session=2011-01-03", "--set", "market_data.last_session=2012-12-31")


def test_the_catalogue_at_the_open_is_not_too_good_to_be_true() -> None:
    told = said(*ALARMS)
    assert told["alarms"] == []
    assert told["features"] == sum(feature.available_at is not AvailableAt.INTRADAY for feature in CANDIDATE.features)
    assert told["trained"] + told["figures"]["sessions"] == 501
    assert "121 are needed" in said("alarms", "--from", "2008-10-01", code=2)["error"]


def test_a_feature_that_knows_its_session_rings_the_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A market that tells the day of a session with those before it."""
    honest = DailyPanel.daily_history

    def daily_history(panel: DailyPanel, session: Session, first: date) -> DailyHistory:
        following = panel.sessions[min(panel.day_of(session) + 1, len(panel.sessions) - 1)]
        return honest(panel, following if first.day == 1 else session, first)

    monkeypatch.setattr(DailyPanel, "daily_history", daily_history)
    told = said(*ALARMS, code=3)
    assert len(told["alarms"]) >= 3
    assert told["figures"]["sharpe"] > 3


def test_as_of_an_instant_is_what_was_known_at_the_last_open() -> None:
    at = said("compute", "--at", "2012-11-02T13:00:00Z", *WINDOW)
    assert at == said("compute", "--date", "2012-11-01", *WINDOW)
    assert said("compute", "--at", "2012-11-02T13:00:00Z", "--date", "2012-11-01", *WINDOW, code=2)["exit_code"] == 2
    for wrong in ("2012-11-02", "yesterday", "2000-01-01T00:00:00Z"):
        assert said("compute", "--at", wrong, *WINDOW, code=2)["exit_code"] == 2
