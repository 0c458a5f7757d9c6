"""The page is self-contained, says everything, and cannot be broken by what is in the data."""

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from finagent.domain.decision import DecisionOutcome
from finagent.services.progress import RecoveryInfo
from finagent.services.reporting.day_report import day_report
from finagent.services.reporting.html import html_report
from finagent.services.reporting.publisher import ReportPolicy, ReportPublisher

NOTICE = "real daily bars, simulated intraday path"


@pytest.fixture
async def page(ledger: Any, sessions: Any, minute_bars: Any) -> str:
    return await html_report(day_report(ledger, "sample:test", NOTICE), sessions, minute_bars, charts_max=10)


async def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    """No script, no link, no address: the file works on a machine without a network."""
    assert not re.search(r"<script|<link|<img|https?:|url\(|@import", page)


async def test_the_page_says_the_notice_and_every_candidate(page: str, ledger: Any) -> None:
    """The source's notice and each decision id stand on the page."""
    report = day_report(ledger, "sample:test", NOTICE)

    assert NOTICE in page
    assert report.outcome_hash in page
    for row in report.decisions:
        assert row.decision_id in page


async def test_each_trade_is_drawn_with_its_levels_and_marks(page: str) -> None:
    """Three filled decisions, three charts, each with entry, stop, target, a way in and a way out, all well-formed."""
    drawings = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    trades = [drawing for drawing in drawings if "bars, entry and exit" in drawing.attrib["aria-label"]]

    assert len(trades) == 3
    for drawing in trades:
        kinds = {element.attrib.get("class", "") for element in drawing.iter()}
        assert {"level entry", "level stop", "level target", "mark mark-entry", "scan"} <= kinds
        assert kinds & {"mark mark-up", "mark mark-down"}


async def test_only_the_largest_results_are_drawn(ledger: Any, sessions: Any, minute_bars: Any) -> None:
    """With room for one chart the page draws one and says so."""
    page = await html_report(day_report(ledger, "sample:test", NOTICE), sessions, minute_bars, charts_max=1)

    assert page.count("bars, entry and exit") == 1
    assert "the 1 largest of 3" in page


async def test_markup_in_a_reason_stays_text(ledger: Any, ledger_records: list[Any], sessions: Any, minute_bars: Any) -> None:
    """A reason or symbol from outside is shown, never interpreted."""
    records = [
        replace(one, reason="<script>alert(1)</script>") if isinstance(one, DecisionOutcome) else one for one in ledger_records
    ]

    page = await html_report(day_report(type(ledger)(records), "sample:test", NOTICE), sessions, minute_bars, charts_max=1)

    assert "<script" not in page
    assert "&lt;script&gt;" in page


async def test_an_empty_store_still_gives_a_page(ledger: Any, minute_bars: Any) -> None:
    """Before the first scan the page says that there is nothing yet."""
    page = await html_report(day_report(type(ledger)([]), "sample:test", NOTICE), (), minute_bars, charts_max=1)

    assert "No candidate was found." in page


async def test_publishing_writes_the_page_and_sums_it_up(ledger: Any, sessions: Any, minute_bars: Any) -> None:
    """The summary carries the figures of the report, where it lies, and what was recovered."""
    written: dict[str, str] = {}

    def write(name: str, text: str) -> str:
        written[name] = text
        return f"/reports/{name}"

    recovered = RecoveryInfo(None, 3, {"send": 3}, 1, 1, 0, False)
    publisher = ReportPublisher(ledger, sessions, minute_bars, "sample:test", NOTICE, write, ReportPolicy(5))
    summary = await publisher.publish(recovered, 1.25)

    assert summary.report_path == "/reports/report-2008-10-01-2008-10-02.html"
    assert list(written) == ["report-2008-10-01-2008-10-02.html"]
    assert summary.outcomes["FILLED"] == 3
    assert (summary.candidates, summary.orders, summary.fills) == (7, 8, 9)
    assert summary.recovered == recovered
    assert len(summary.examples) == len(summary.outcomes)
