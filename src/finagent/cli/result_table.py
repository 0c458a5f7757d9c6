"""The result as a table for people: every candidate, what became of it and why, then the totals."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finagent.domain.money import ZERO
from finagent.services.forensics.steps import amount
from finagent.services.progress import RecoveryInfo, ReplaySummary
from finagent.services.reporting.day_report import DayReport, DecisionRow

ROWS_MAX = 60
PIPE_WIDTH = 160
TABLE_WIDTH_MIN = 90
TONES = {"good": "green", "bad": "red", "warn": "yellow", "": ""}
_OUTCOME_TONE = {"FILLED": "good", "RISK_DENIED": "bad", "REJECTED": "bad", "DEAD": "bad", "PARKED": "warn", "EXPIRED": "warn"}


def terminal() -> Console:
    """Where people read: as wide as the terminal, and wide enough for whole lines in a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def gate_table(checks: dict[str, dict[str, Any]]) -> Table:
    """What the gate asked (see `forensics.steps.asked`, as plain values); the check that decided stands out."""
    table = Table("check", box=None, pad_edge=False, header_style="dim", style="dim")
    for heading in ("value", "limit", "used", "at most"):
        table.add_column(heading, justify="right")
    allowed = [check["allowed"] for check in checks.values()]
    for code, check in checks.items():
        used = "" if check["utilisation"] is None else f"{check['utilisation']:.0%}"
        value, limit = amount(Decimal(check["value"])), amount(Decimal(check["limit"]))
        style = "bold" if check["allowed"] == min(allowed) < max(allowed) else ""
        table.add_row(code, value, limit, used, f"{check['allowed']:,}", style=style)
    return table


def print_result(console: Console, report: DayReport) -> None:
    """The table of candidates and the totals; the largest results first where there are more than `ROWS_MAX`."""
    rows = _shown(report.decisions)
    if rows and console.width >= TABLE_WIDTH_MIN:
        console.print(_table(rows, console.width))
    else:
        for row in rows:
            console.print(Text.assemble(*_short_line(row)), soft_wrap=False)
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


def _table(rows: Iterable[DecisionRow], width: int) -> Table:
    """All columns where they fit, fewer on a narrow terminal; the reason always."""
    columns = [one for one in _COLUMNS if width >= one.width_min]
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1, style="dim")
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns), Text(row.reason))
    return table


def _short_line(row: DecisionRow) -> list[tuple[str, str]]:
    """A row for a terminal too narrow for a table: the facts, and the reason below."""
    result = "" if row.pnl is None else f" {row.exit} {row.pnl:+,.2f}"
    facts = f"{row.session_date} {row.symbol} {row.gap:+.2%} "
    return [
        (facts, ""),
        (row.outcome, TONES[_OUTCOME_TONE.get(row.outcome, "")]),
        (result, _sign_style(row)),
        (f"\n    {row.reason}", "dim"),
    ]


@dataclass(frozen=True, slots=True)
class _Column:
    """`width_min`: the narrowest terminal that shows it."""

    name: str
    right: bool
    width_min: int
    cell: Callable[[DecisionRow], Text]


def _text(value: object, form: str = "", style: str = "") -> Text:
    return Text("" if value is None else format(value, form), style=style)


_COLUMNS = (
    _Column("session", False, 0, lambda row: _text(row.session_date.isoformat())),
    _Column("symbol", False, 0, lambda row: _text(row.symbol, style="bold")),
    _Column("gap", True, 0, lambda row: _text(row.gap, "+.2%")),
    _Column("score", True, 110, lambda row: _text(row.score, ".3f")),
    _Column("outcome", False, 0, lambda row: _text(row.outcome, style=TONES[_OUTCOME_TONE.get(row.outcome, "")])),
    _Column("shares", True, 100, lambda row: _text(row.entered_quantity or row.quantity, ",d")),
    _Column("in", True, 120, lambda row: _text(row.entry_price, ",.2f")),
    _Column("out", True, 120, lambda row: _text(row.exit_price, ",.2f")),
    _Column("exit", False, 0, lambda row: _text(row.exit)),
    _Column("result", True, 0, lambda row: _text(row.pnl, "+,.2f", _sign_style(row))),
)


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
