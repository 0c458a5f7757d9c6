"""The result as a table for people: every candidate, what became of it and why, then the totals."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finagent.domain.money import ZERO
from finagent.services.progress import RecoveryInfo, ReplaySummary
from finagent.services.reporting.day_report import DayReport, DecisionRow

ROWS_MAX = 60
TONES = {"good": "green", "bad": "red", "warn": "yellow", "": ""}
_OUTCOME_TONE = {"FILLED": "good", "RISK_DENIED": "bad", "REJECTED": "bad", "DEAD": "bad", "PARKED": "warn", "EXPIRED": "warn"}


def print_result(console: Console, report: DayReport) -> None:
    """The table of candidates and the totals; the largest results first where there are more than `ROWS_MAX`."""
    rows = _shown(report.decisions)
    if rows:
        console.print(_table(rows))
    if len(rows) < len(report.decisions):
        console.print(f"{len(rows)} of {len(report.decisions)} candidates shown, filled ones first; all are in the HTML report.")
    console.print(_totals(report))


def print_ending(console: Console, summary: ReplaySummary) -> None:
    """Where the report lies, the hash of the outcome, what to look at next."""
    console.print(f"report        {summary.report_path}", highlight=False, soft_wrap=True)
    console.print(f"outcome_hash  {summary.outcome_hash}", highlight=False, soft_wrap=True)
    if summary.examples:
        console.print(f"next          finagent explain {summary.examples[0]}", highlight=False, soft_wrap=True)


def recovery_text(info: RecoveryInfo) -> str:
    """What a start found of an earlier process, in one sentence."""
    if info.finished:
        return "this replay has finished already: its report again"
    jobs = ", ".join(f"{count} {kind}" for kind, count in info.jobs_by_type.items())
    found = [f"{info.jobs_rescued} jobs in flight given back" + (f" ({jobs})" if jobs else "")]
    found.append(f"{info.orders_open} orders open, {info.orders_unresolved} of them unresolved")
    found.append(f"{info.positions} positions held")
    return "recovered: " + "; ".join(found)


def _shown(rows: tuple[DecisionRow, ...]) -> list[DecisionRow]:
    if len(rows) <= ROWS_MAX:
        return list(rows)
    largest = sorted(rows, key=lambda row: (-abs(row.pnl or ZERO), row.order_state == "", row.scanned_at, row.symbol))[:ROWS_MAX]
    return sorted(largest, key=lambda row: (row.scanned_at, row.symbol))


def _table(rows: Iterable[DecisionRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name, justify, width in (
        ("session", "left", 10),
        ("symbol", "left", None),
        ("gap", "right", None),
        ("score", "right", None),
        ("outcome", "left", None),
        ("shares", "right", None),
        ("in", "right", None),
        ("out", "right", None),
        ("exit", "left", None),
        ("result", "right", None),
    ):
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)  # type: ignore[arg-type]  # literals
    table.add_column("why", overflow="fold", ratio=1, style="dim")
    for row in rows:
        result = "" if row.pnl is None else f"{row.pnl:+,.2f}"
        table.add_row(
            row.session_date.isoformat(),
            row.symbol,
            f"{row.gap:+.2%}",
            "" if row.score is None else f"{row.score:.3f}",
            Text(row.outcome, style=TONES[_OUTCOME_TONE.get(row.outcome, "")]),
            "" if row.quantity is None else str(row.quantity),
            "" if row.entry_price is None else f"{row.entry_price:,.2f}",
            "" if row.exit_price is None else f"{row.exit_price:,.2f}",
            row.exit,
            Text(result, style=_sign_style(row)),
            Text(row.reason),
        )
    return table


def _sign_style(row: DecisionRow) -> str:
    return "" if not row.pnl else "green" if row.pnl > 0 else "red"


def _totals(report: DayReport) -> Text:
    counts = ", ".join(f"{count} {name}" for name, count in report.outcomes.items()) or "none"
    exits = ", ".join(f"{count} {name}" for name, count in report.exits.items()) or "none"
    text = Text()
    text.append(f"\n{len(report.sessions)} sessions, {len(report.decisions)} candidates: {counts}\n")
    text.append(f"{report.orders} orders, {report.fills} fills, exits: {exits}\n")
    text.append(f"equity {report.start_equity:,.2f} -> {report.end_equity:,.2f} USD, ")
    text.append(f"{report.pnl:+,.2f}", style="bold green" if report.pnl >= 0 else "bold red")
    text.append(f" after {report.fees:,.2f} fees\ndata: {report.notice}\n", style="")
    return text
