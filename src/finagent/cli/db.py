"""`finagent db`: the store as a person looks after it."""

import asyncio
import getpass
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.copying import backup, restore
from finagent.cli.halt import ANSWER_SECONDS, REASON_LENGTH_MAX, Reason
from finagent.cli.move import move
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Unavailable
from finagent.telemetry.redaction import without_password

if TYPE_CHECKING:
    from finagent.adapters.database.verification import Soundness
    from finagent.settings import Settings

FOUND_SOMETHING_WRONG = 3

Before = Annotated[
    str | None, typer.Option("--before", metavar="YYYY-MM", help="Up to the month before this one; default: the newest event's.")
]

app = typer.Typer(no_args_is_help=True, help="The store: check it, copy it, bring it back, move it to another database.")
app.command(epilog="Example: finagent db move --to postgresql://finagent@db.example/finagent")(move)
app.command(epilog="Example: finagent db backup /mnt/copies/monday.db")(backup)
app.command(epilog="Example: finagent db restore /mnt/copies/monday.db --replace")(restore)


@app.command(epilog="Example: finagent db check --json")
def check(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Whether the store is sound: file, references, every chain of events, every seal, and its head against the anchor.

    Changes nothing and runs beside a running agent. Exit 3 names the first bad event, exit 4: there is no store.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.adapters.database.anchor import AnchorFile
    from finagent.adapters.database.verification import verify, verify_file
    from finagent.cli.output import print_json
    from finagent.store_access import reading

    started = time.monotonic()
    anchor = AnchorFile(settings.anchor_path)
    if settings.storage.url is None:
        found = verify_file(settings.database_path, anchor)
    else:
        with reading(settings) as store:
            found = verify(store.reads, anchor, shared=True)
    document = {
        "database": without_password(str(settings.store_address)),
        **_document(found),
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        print_json(document)
    else:
        typer.echo("\n".join(_lines(found)))
    if found.faults:
        raise typer.Exit(FOUND_SOMETHING_WRONG)


@app.command(epilog="Example: finagent db upgrade --json")
def upgrade(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Bring the tables of the store to those of this program, whole or not at all; a start does the same.

    Refused while an agent runs, and for a store of a newer program.
    """
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import upgraded

    before, after = upgraded(settings)
    if as_json:
        print_json({"from": before, "to": after, "changed": before != after})
    else:
        typer.echo(f"migrated from {before} to {after}" if before != after else f"nothing to do: the tables are at {after}")


@app.command(epilog="Example: finagent db archive --before 2026-01")
def archive(
    before: Before = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write each closed month of the story to `archive/` in the folder, with its seals; verify the months that are there.

    Events, feature vectors, predictions, intents and fills, as lines of JSON that can be verified without the store. Nothing is
    deleted from it. Runs beside an agent. Exit 3 names the months that differ.
    """
    if before is not None and re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", before) is None:
        raise BadInput(f"--before {before}: must read YYYY-MM")
    settings = settings_in_force(settings_file, overrides)
    from finagent.adapters.database.monthly_archive import archive_month, closed_months
    from finagent.cli.output import print_json
    from finagent.store_access import reading

    folder = settings.storage.directory / "archive"
    with reading(settings) as store:
        done = [archive_month(store.reads, folder, month) for month in closed_months(store.reads, before)]
    if as_json:
        print_json({"folder": str(folder), "months": done})
    else:
        lines = [f"{one.month}  {one.outcome:<9} {sum(one.rows.values()):>8} rows  {one.reason}".rstrip() for one in done]
        typer.echo("\n".join(lines) or "no month is closed yet")
    if any(one.outcome == "DIFFERS" for one in done):
        raise typer.Exit(FOUND_SOMETHING_WRONG)


@app.command(epilog='Example: finagent db accept --reason "yesterday\'s backup, positions compared with the broker"')
def accept(reason: Reason, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Take a store that its anchor does not remember as it is: a person's act, recorded with name and reason.

    Until then an agent on it compares itself with the broker and takes no new risk. What the anchor knew beyond is given up.
    """
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX:
        raise BadInput(f"--reason must say why in 1 to {REASON_LENGTH_MAX} characters")
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import CONTROL_SOCKET

    order = {"reason": reason, "by": getpass.getuser()}
    permission = {**order, "good_until": time.time() + ANSWER_SECONDS}
    try:
        ask(settings.storage.directory / CONTROL_SOCKET, "POST", "/control/db/accept", permission, ANSWER_SECONDS)
        recorder = "agent"
    except NoAgent:
        asyncio.run(_accept_without_agent(settings, order))
        recorder = "command"
    except NoAnswer as silence:
        raise Unavailable(f"the agent does not answer ({silence}); `finagent status` says what is so") from silence
    if as_json:
        print_json({"accepted": True, **order, "recorded_by": recorder})
    else:
        typer.echo(f"accepted: recorded by the {recorder}; the anchor remembers this database now")


async def _accept_without_agent(settings: "Settings", order: dict[str, str]) -> None:
    from finagent.store_access import writing

    async with writing(settings) as writer:
        await writer.audit.accept(order["reason"], order["by"])


def _document(found: "Soundness") -> dict[str, Any]:
    return {
        "sound": not found.faults,
        "events": found.events,
        "seals": found.seals,
        "anchor": found.anchor,
        "first_bad_event": found.first_bad_event,
        "faults": found.faults,
    }


def _lines(found: "Soundness") -> list[str]:
    anchor = f"anchored at event {found.anchor.event_id}, {found.anchor.at[:19]}Z" if found.anchor else "not anchored"
    lines = [f"{found.events} events, {found.seals} seals, {anchor}"]
    lines += [f"{fault.part.value:<10} {fault.message}" for fault in found.faults]
    if found.first_bad_event is not None:
        lines.append(f"first bad event: {found.first_bad_event}")
    return [*lines, "sound" if not found.faults else "NOT SOUND"]
