"""`finagent db move`: the whole store to another database, and back."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.adapters.store_move.moving import Move, Moved

FOUND_SOMETHING_WRONG = 3
TOLD_SECONDS = 1.0  # between two lines of progress

To = Annotated[str, typer.Option("--to", metavar="URL", help="postgresql://USER@HOST/DATABASE or sqlite:///FOLDER/finagent.db.")]
From = Annotated[str | None, typer.Option("--from", metavar="URL", help="The store to move; else the one of the settings.")]


def move(
    to: To,
    source: From = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the move to that address back: this store is the one to use.")
    ] = False,
    drop_copy: Annotated[bool, typer.Option("--drop-copy", help="With --undo: also empty the store at that address.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Copy the whole store to another database, prove that both are equal, and make the copy the store to use.

    Stop the agent first. Killed or cut off, it goes on where it was when it is run again; until the proof has succeeded the old
    store stays the one to use, and afterwards no agent starts on it. Exit 3 names every table and key that differs.
    """
    if drop_copy and not undo:
        raise BadInput("--drop-copy goes with --undo")
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import moving

    started = time.monotonic()
    with moving(settings, source, to, _Progress()) as work:
        if undo:
            document = _ends(work, work.undo(drop_copy=drop_copy)) | {"undone": True, "copy_dropped": drop_copy}
        else:
            moved = work.run()
            document = _ends(work, moved.ledger_id) | _outcome(moved, work.target.where, time.monotonic() - started)
    if as_json:
        print_json(document)
    else:
        typer.echo("\n".join(_lines(document)))
    if document.get("differences"):
        raise typer.Exit(FOUND_SOMETHING_WRONG)


class _Progress:
    """Lines on stderr, as long as it lasts."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, what: str, rows: int, of: int) -> None:
        now = time.monotonic()
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            sys.stderr.write(f"finagent: {what}: {rows:,} of {of:,} rows\n")
            sys.stderr.flush()


def _ends(work: "Move", ledger_id: str) -> dict[str, Any]:
    return {"from": work.source.where, "to": work.target.where, "ledger_id": ledger_id}


def _outcome(moved: "Moved", address: str, seconds: float) -> dict[str, Any]:
    return {
        "moved": not moved.differences,
        "already": moved.already,
        "copied": moved.copied,
        "seconds": round(seconds, 3),
        "tables": {name: {"rows": table.rows, "sha256": table.sha256} for name, table in moved.tables.items()},
        "events": moved.events,
        "differences": moved.differences,
        "settings": {} if moved.differences else _settings_of(address),
    }


def _settings_of(address: str) -> dict[str, str | None]:
    """What an agent needs to find the store at that address."""
    if address.startswith("postgresql:"):
        return {"storage.url": address, "queue.backend": "postgres"}
    folder = address.removeprefix("sqlite:///").rpartition("/")[0]
    return {"storage.url": None, "queue.backend": "sqlite", "storage.directory": folder}


def _lines(document: dict[str, Any]) -> list[str]:
    if "undone" in document:
        emptied = "is empty" if document["copy_dropped"] else "is an unfinished copy, on which no agent starts"
        return [f"taken back: {document['from']} is the store to use; {document['to']} {emptied}"]
    if document["differences"]:
        wrong = [f"{each.table} {each.key}: {each.message}" for each in document["differences"]]
        return [*wrong, f"NOT MOVED: {len(wrong)} or more differences; {document['from']} is untouched and stays the one to use"]
    change = [f"  {name}: {'null' if value is None else value}" for name, value in document["settings"].items()]
    if document["already"]:
        return [f"moved before: {document['to']} is the store to use; set", *change]
    rows = sum(table["rows"] for table in document["tables"].values())
    return [
        f"{rows:,} rows in {len(document['tables'])} tables are equal, {document['copied']:,} of them copied now; "
        f"{document['events']:,} events on unbroken chains; {document['seconds']:.1f} s",
        f"moved: {document['to']} is the store to use, and no agent starts on {document['from']}; set",
        *change,
    ]
