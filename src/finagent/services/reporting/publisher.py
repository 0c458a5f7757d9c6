"""The end of a replay or a day: the figures, the HTML file, the summary."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.services.progress import RecoveryInfo, ReplaySummary
from finagent.services.reporting.day_report import DayReport, day_report
from finagent.services.reporting.html import SessionBarsSource, html_report


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """`trade_charts_max` bounds the size of the HTML file (about 15 kB a chart); the largest results are drawn."""

    trade_charts_max: int


@dataclass(frozen=True, slots=True)
class ReportPublisher:
    """Builds the report from committed records and hands the page to `write(name, text)`, which answers where it lies.

    Publishing again gives the same page at the same place. `sessions` is the window, `bars` the source of what is drawn.
    """

    reads: Reads
    sessions: Iterable[Session]
    bars: SessionBarsSource
    source_id: str
    notice: str
    write: Callable[[str, str], str]
    policy: ReportPolicy

    def figures(self) -> DayReport:
        """The report's figures as the store has them now."""
        return day_report(self.reads, self.source_id, self.notice)

    async def publish(self, recovered: RecoveryInfo | None, duration_seconds: float) -> ReplaySummary:
        """Write the page and say what it says in short."""
        report = self.figures()
        page = await html_report(report, self.sessions, self.bars, self.policy.trade_charts_max)
        return summary_of(report, self.write(report_name(report), page), recovered, duration_seconds)


def report_name(report: DayReport) -> str:
    """`report-2008-10-01-2008-10-31.html`: the window names the file."""
    days = [row.session_date.isoformat() for row in report.sessions]
    return f"report-{days[0]}-{days[-1]}.html" if days else "report-empty.html"


def summary_of(report: DayReport, path: str, recovered: RecoveryInfo | None, duration_seconds: float) -> ReplaySummary:
    """The final document of a replay; `examples` are ids to try `explain` on, one of each outcome, a filled one first."""
    examples = {row.outcome: row.decision_id for row in reversed(report.decisions)}
    return ReplaySummary(
        source_id=report.source_id,
        notice=report.notice,
        sessions=len(report.sessions),
        candidates=len(report.decisions),
        outcomes=report.outcomes,
        orders=report.orders,
        fills=report.fills,
        exits=report.exits,
        start_equity=report.start_equity,
        end_equity=report.end_equity,
        pnl=report.pnl,
        outcome_hash=report.outcome_hash,
        report_path=path,
        duration_seconds=round(duration_seconds, 3),
        recovered=recovered,
        examples=tuple(examples[name] for name in sorted(report.outcomes, key=lambda name: name != "FILLED")),
    )
