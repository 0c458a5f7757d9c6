"""`finagent orchestrate`: the whole agent."""

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from finagent.services.progress import ReplaySummary
    from finagent.services.reporting.day_report import DayReport
    from finagent.settings import Settings

INTERRUPTED = 130


def orchestrate(
    fresh: Annotated[bool, typer.Option("--fresh", help="Archive what the folder holds to runs/ and start anew.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole agent: scan, score, plan, risk, execute, flat before the close, report.

    On a replayed source it ends after the last session with the result and an HTML report. Killed in the middle and started
    again it goes on where it was; found finished, it prints its report again. With orchestrate.after_end=serve it then keeps
    health, metrics and report up until SIGTERM.
    """
    settings = settings_in_force(settings_file, overrides)
    if fresh:
        if settings.storage.url is not None:
            raise BadInput("--fresh archives a folder: for a database on a server name another one in storage.url")
        from finagent.adapters.run_archive import archive

        archived = archive(settings.database_path, settings.anchor_path)
        if archived is not None:
            sys.stderr.write(f"the earlier replay is archived in {archived}\n")
    if not asyncio.run(_orchestrate(settings, as_json=as_json)):
        raise typer.Exit(INTERRUPTED)


async def _orchestrate(settings: "Settings", *, as_json: bool) -> bool:
    """True when the replay reached its end."""
    from contextlib import ExitStack

    from finagent.api.resident import on_signals, resident
    from finagent.cli.live_view import LiveView, PlainLines
    from finagent.cli.narration import Narrator
    from finagent.cli.result_table import terminal
    from finagent.services.progress import Onlookers, ProgressObserver

    console, narrator = terminal(), Narrator()
    with ExitStack() as faces:
        observer: ProgressObserver = Onlookers()
        if not as_json:
            observer = faces.enter_context(LiveView(console, narrator)) if console.is_terminal else PlainLines(console, narrator)
            _quieter_log()
        interrupted = asyncio.Event()
        with on_signals(interrupted.set):
            async with resident(settings, observer, interrupted, serve_http=True) as agent:
                narrator.reads = agent.application.reads
                if agent.address:
                    _say(f"health and metrics: {agent.address}")
                summary = await agent.run()
                if summary is None:
                    _say("stopped before the end; start it again and it goes on from here")
                    return False
                faces.close()
                _show(console, agent.publisher().figures(), summary, as_json=as_json)
                if settings.orchestrate.after_end == "serve":
                    _say("serving until SIGTERM")
                    await interrupted.wait()
    return True


def _quieter_log() -> None:
    """On a terminal the view tells the events; the log keeps what is out of the ordinary."""
    if sys.__stderr__ is not None and sys.__stderr__.isatty():  # sys.stderr may be the live view's own by now
        logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))


def _say(text: str) -> None:
    sys.stderr.write(f"finagent: {text}\n")
    sys.stderr.flush()


def _show(console: "Console", figures: "DayReport", summary: "ReplaySummary", *, as_json: bool) -> None:
    from finagent.cli.output import print_json, summary_document
    from finagent.cli.result_table import print_ending, print_result

    if as_json:
        print_json(summary_document(summary))
        return
    print_result(console, figures)
    print_ending(console, summary)
