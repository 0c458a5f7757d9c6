"""`finagent scan`: one pass of the pipeline for cron and workflow engines, or a scan of past sessions."""

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.domain.effect import Effect
    from finagent.services.past_scan import PastScanReport
    from finagent.settings import Settings

FILES = "files:"
SHOWN = 10


def scan(
    once: Annotated[bool, typer.Option("--once", help="Stop when one run of the pipeline is terminal.")] = False,
    source: Annotated[str | None, typer.Option(metavar="files:FOLDER", help="Scan past sessions of daily bar files.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First past session.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last past session.")] = None,
    volume: Annotated[str, typer.Option(help="none, or full-day: looks ahead, for checks of past sessions only.")] = "none",
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """One pass of the pipeline, or the gaps of past sessions.

    Without --source: the next scheduled run of the pipeline, to its end; the folder remembers where it stands.
    With --source: every gap of the window, each row that is left out named with its reason.
    """
    if not once:
        raise BadInput("scan runs one pass: say --once (finagent orchestrate runs them all)")
    settings = settings_in_force(settings_file, overrides)
    if source is None:
        if volume != "none":
            raise BadInput("--volume full-day looks ahead: the trading path refuses it; it goes with --source files:FOLDER")
        document, text = asyncio.run(_one_run(settings))
    else:
        document, text = _past(settings, source, first, last, volume)
    if as_json:
        import orjson

        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    sys.stdout.write(text + "\n")


def _past(
    settings: "Settings", source: str, first: datetime | None, last: datetime | None, volume: str
) -> tuple[dict[str, object], str]:
    from finagent.bootstrap import scan_past
    from finagent.services.past_scan import VolumeBasis

    if not source.startswith(FILES):
        raise BadInput(f"--source {source!r}: past sessions are scanned from files:FOLDER")
    if first is None or last is None:
        raise BadInput("--source goes with --from YYYY-MM-DD and --to YYYY-MM-DD")
    try:
        basis = VolumeBasis(volume)
    except ValueError:
        raise BadInput(f"--volume {volume!r}: none or full-day") from None
    rules = f"market_data.source={source}"
    settings = settings.model_copy(update={"market_data": settings.market_data.model_copy(update={"source": source})})
    location = Path(source.removeprefix(FILES))
    report, history = scan_past(settings, location, first.date(), last.date(), basis)
    document = {"source": rules, "source_id": history.source_id, "ignored": history.ignored, "notes": list(history.notes)}
    return {**document, **report.as_json()}, _past_text(report)


def _past_text(report: "PastScanReport") -> str:
    lines = [
        f"{report.sessions} sessions, {report.symbols} symbols: {report.gap_ups} gaps up and {report.gap_downs} down of at least "
        f"{report.rules.gap_fraction_min:.1%}",
        *(f"  {gap.date} {gap.symbol:<6} {gap.gap:+8.2%}" for gap in (*report.top_up[:SHOWN], *report.top_down[:SHOWN])),
        f"{len(report.dropped)} rows not taken at face value:",
        *(f"  {row.date} {row.symbol:<6} {row.reason}" for row in report.dropped[:SHOWN]),
    ]
    return "\n".join(lines)


async def _one_run(settings: "Settings") -> tuple[dict[str, object], str]:
    from finagent.bootstrap import build_application
    from finagent.domain.decision import DecisionOutcome
    from finagent.domain.gap import GapCandidate
    from finagent.domain.runs import PipelineRun
    from finagent.services.progress import Onlookers

    watch = _RunWatch()
    async with build_application(settings, observer=Onlookers([watch])) as application:
        watch.stop = application.stop
        await application.run()
        runs = [run for run in application.reads.find(PipelineRun) if run.run_id == watch.run_id]
        if not runs:
            return {"run": None}, "no run is left in the window"
        run = runs[0]
        candidates: list[dict[str, object]] = []
        for candidate in application.reads.find(GapCandidate, run_id=run.run_id):
            outcome = application.reads.get(DecisionOutcome, candidate.decision_id)
            candidates.append(
                {
                    "decision_id": candidate.decision_id,
                    "symbol": candidate.symbol,
                    "gap": candidate.facts.gap,
                    "outcome": outcome.outcome.value if outcome else None,
                    "reason": outcome.reason if outcome else "order at the broker",
                }
            )
    about = {"run_id": run.run_id, "entry": run.entry, "session_date": run.session_date.isoformat(), "state": run.state.value}
    document: dict[str, object] = {
        "run": {**about, "symbols": run.symbols, "reasons": run.reasons, "failed": run.failed},
        "candidates": candidates,
    }
    lines = [f"run {run.run_id} ({run.entry}, {run.session_date}): {run.state.value}, {run.candidates} candidates {run.reasons}"]
    lines += [f"  {c['symbol']:<6} {c['gap']:+.2%}  {c['outcome'] or 'WORKING'}: {c['reason']}" for c in candidates]
    return document, "\n".join(lines)


class _RunWatch:
    """Asks for the stop when the first run of this process is terminal."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.stop: Callable[[], None] = lambda: None

    def committed(self, effect: "Effect") -> None:
        """See whether a run ended."""
        from finagent.domain.effect import Set
        from finagent.domain.runs import PipelineRun, RunState

        for record in effect.records:
            ended = isinstance(record, PipelineRun) and record.state is not RunState.RUNNING
            ended |= isinstance(record, Set) and record.record_type is PipelineRun
            if ended and self.run_id is None:
                self.run_id = record.run_id if isinstance(record, PipelineRun) else record.key[0]
                self.stop()

    def started(self, info: object) -> None:
        """Nothing to do."""

    def recovered(self, info: object) -> None:
        """Nothing to do."""

    def instant(self, at: object, session: object, done: int, total: int) -> None:
        """Nothing to do."""

    def finished(self, summary: object) -> None:
        """Nothing to do."""
