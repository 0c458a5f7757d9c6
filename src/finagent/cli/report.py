"""`finagent report`: the result again, with and without a running agent."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force

if TYPE_CHECKING:
    from finagent.services.progress import ReplaySummary
    from finagent.services.reporting.day_report import DayReport
    from finagent.settings import Settings
    from finagent.store_access import Store


def report(
    canonical: Annotated[
        bool, typer.Option("--canonical", help="The ordered rows behind outcome_hash, one JSON object a line.")
    ] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The result table, the figures and the HTML report of what the folder holds now.

    --canonical prints candidate facts, prediction, plan, verdict, intent, order state, fills, outcome and exit without wall
    times, host, attempts or database ids; the sha256 of exactly that text is outcome_hash.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.store_access import reading

    with reading(settings) as store:
        if store.moved:
            typer.echo(f"finagent: {store.moved}", err=True)
        if canonical:
            _print_canonical(store, as_json=as_json)
        else:
            _print_report(settings, store, as_json=as_json)


def _print_canonical(store: "Store", *, as_json: bool) -> None:
    from finagent.cli.output import print_json
    from finagent.services.reporting.canonical import canonical_rows, canonical_text, hash_of

    rows = canonical_rows(store.reads)
    if as_json:
        print_json({"outcome_hash": hash_of(rows), "rows": rows})
    else:
        sys.stdout.write(canonical_text(rows))


def _print_report(settings: "Settings", store: "Store", *, as_json: bool) -> None:
    from finagent.adapters.report_files import ReportFiles
    from finagent.api.policies import report_policy
    from finagent.bootstrap import open_market
    from finagent.cli.output import print_json, summary_document
    from finagent.services.reporting.publisher import ReportPublisher

    started_at = time.monotonic()
    write = ReportFiles(settings.storage.directory / "reports").write

    async def published() -> "tuple[ReplaySummary, DayReport]":
        async with open_market(settings) as market:
            publisher = ReportPublisher(
                store.reads,
                market.sessions(),
                market.session_bars,
                market.source_id,
                market.notice,
                write,
                report_policy(settings),
            )
            return await publisher.publish(None, time.monotonic() - started_at), publisher.figures()

    summary, figures = asyncio.run(published())
    if as_json:
        print_json({**summary_document(summary), "figures": figures, "moved": store.moved})
        return
    from finagent.cli.result_table import print_ending, print_result, terminal

    console = terminal()
    print_result(console, figures)
    print_ending(console, summary)
