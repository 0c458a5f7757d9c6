"""The result figures say what the records say."""

from decimal import Decimal
from typing import Any

import pytest

from finagent.services.reporting.day_report import DayReport, DecisionRow, day_report


@pytest.fixture
def report(ledger: Any) -> DayReport:
    return day_report(ledger, "sample:test", "real daily bars, simulated intraday path")


def row(report: DayReport, symbol: str, number: int = 0) -> DecisionRow:
    return [one for one in report.decisions if one.symbol == symbol][number]


def test_outcomes_count_every_candidate_once(report: DayReport) -> None:
    """Each candidate is in exactly one count, a parked one under its own name."""
    assert report.outcomes == {"FILLED": 3, "CANCELLED": 1, "NO_TRADE": 1, "PARKED": 1, "RISK_DENIED": 1}
    assert sum(report.outcomes.values()) == len(report.decisions)
    assert report.exits == {"STOP": 1, "TARGET": 1, "TIME": 1}


def test_profit_of_a_decision_is_sales_minus_purchases_minus_fees(report: DayReport) -> None:
    """60 at 104.02 and 40 at 104.05 sold at 108.03, three fees of 0.35."""
    aapl = row(report, "AAPL")

    assert aapl.pnl == 100 * Decimal("108.03") - 60 * Decimal("104.02") - 40 * Decimal("104.05") - 3 * Decimal("0.35")
    assert aapl.entry_price == Decimal("104.032")
    assert aapl.exit == "TARGET"
    assert row(report, "IBM").pnl is None


def test_held_shares_have_no_profit_yet(ledger: Any, ledger_records: list[Any]) -> None:
    """A decision with open shares shows no result, so no paper profit is mistaken for one."""
    without_exits = [one for one in ledger_records if not (type(one).__name__ == "Fill" and one.side.name == "SELL")]
    report = day_report(type(ledger)(without_exits), "sample:test", "notice")

    assert all(one.pnl is None for one in report.decisions)


def test_refusals_are_counted_by_rule(report: DayReport) -> None:
    """The gate's code, or the rule that the outcome's reason begins with."""
    assert report.refusals == {"POSITION_COUNT": 1, "SHORT_SELLING": 1}
    ibm = row(report, "IBM")
    assert (ibm.verdict, ibm.code, ibm.limit, ibm.value) == ("REFUSED", "POSITION_COUNT", Decimal(5), Decimal(6))


def test_equity_runs_from_start_cash_to_the_last_close(report: DayReport) -> None:
    """The result is the last close minus the start cash."""
    assert [one.pnl for one in report.sessions] == [Decimal("191.9"), Decimal("36.15")]
    assert report.pnl == Decimal("228.05")
    assert report.drawdown_max == 0.0


def test_symbols_that_stayed_out_are_named(report: DayReport) -> None:
    """Near misses and bad data carry their reason."""
    assert [(one.symbol, one.reason.split(":")[0]) for one in report.near_misses] == [("GE", "RELATIVE_VOLUME_BELOW_MINIMUM")]
    assert [one.symbol for one in report.bad_data] == ["BAD"]
    assert report.turned_away == {"GAP_BELOW_MINIMUM": 6}


def test_an_empty_store_gives_an_empty_report(ledger: Any) -> None:
    """No sessions, no decisions, no error: what `report` shows before the first scan."""
    report = day_report(type(ledger)([]), "sample:test", "notice")

    assert report.decisions == ()
    assert report.pnl == 0
