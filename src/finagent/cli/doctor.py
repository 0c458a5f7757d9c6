"""`finagent doctor`: what is ready and exactly what is missing."""

from typing import TYPE_CHECKING

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile

if TYPE_CHECKING:
    from finagent.cli.finding import Finding

FOUND_SOMETHING_WRONG = 3


def doctor(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Examine settings, folder, disk, database, broker, SQLite, clock, calendar, data, model, tools; nothing is changed.

    At Alpaca the broker is asked for its account, its clock and its assets. In a replay "paper trading" says what a paper account
    would need.

    Exit 0: everything that this mode needs is there. Exit 3: something is missing or broken; it is named with its cure. What
    only other modes or commands need is listed as optional.
    """
    from finagent.cli.examination import examine
    from finagent.cli.finding import Verdict
    from finagent.cli.output import print_json

    findings = examine(settings_file, overrides or [])
    wrong = [one for one in findings if one.verdict is Verdict.MISSING]
    if as_json:
        print_json({"ready": not wrong, "findings": findings})
    else:
        typer.echo("\n".join(_line(one) for one in findings))
        typer.echo("ready" if not wrong else f"{len(wrong)} missing: {', '.join(one.name for one in wrong)}")
    if wrong:
        raise typer.Exit(FOUND_SOMETHING_WRONG)


def _line(one: "Finding") -> str:
    return f"{one.verdict.value:<9} {one.name:<14} {one.text}" + (f"\n{'':<24} -> {one.cure}" if one.cure else "")
