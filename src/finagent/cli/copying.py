"""`finagent db backup` and `restore`: copies of the store, and back."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.halt import ANSWER_SECONDS
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from finagent.adapters.database.copies import Copied
    from finagent.adapters.database.verification import Soundness
    from finagent.settings import Settings

FOUND_SOMETHING_WRONG = 3
COPY_SECONDS_MAX = 3600.0  # a store of a terabyte; whoever waits sees it grow
TOLD_SECONDS = 1.0  # between two lines of progress
NEVER_LOST = ("decision_event", "order_intent", "fill", "prediction", "feature_vector")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The copy.")]


def backup(file: File, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Copy the store while it is written: through the running agent, between its commits, or without one directly.

    The copy is one sound file as of the end of the copying: its chains and seals are verified before it gets its name, and a file
    that exists is never overwritten.
    """
    settings = settings_in_force(settings_file, overrides)
    _require_file_store(settings)
    from finagent.adapters.database.copies import examine, publish

    started, file = time.monotonic(), file.absolute()
    if file.exists():
        raise BadInput(f"{file} exists: a backup overwrites nothing")
    if not file.parent.is_dir():
        raise BadInput(f"{file.parent} is no folder: make it first")
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        maker = _copied(settings, partial)
        copied = examine(partial)
        if not copied.soundness.faults:
            publish(partial, file)
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    document = _copy_document(file, copied) | {"copied_by": maker, "seconds": round(time.monotonic() - started, 3)}
    _print(document, f"{file}: {copied.size_bytes} bytes, {copied.soundness.events} events, by the {maker}", as_json=as_json)
    _require_sound(copied.soundness, f"{settings.database_path} is not sound, so no backup is made of it")


def restore(
    file: File,
    replace: Annotated[bool, typer.Option("--replace", help="Move the store that is there to runs/ first.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make a copy the store of the folder, once it is verified. The anchor stays: an agent on an older store takes no new risk
    until `finagent db accept`.

    Refused while an agent runs. Says what the anchor, and the store that is moved aside, know beyond the copy.
    """
    settings = settings_in_force(settings_file, overrides)
    _require_file_store(settings)
    from finagent.adapters.database.anchor import AnchorFile
    from finagent.adapters.database.copies import put_in_place

    if not file.is_file():
        raise BadInput(f"there is no file {file}")
    copied, aside = put_in_place(file.absolute(), settings.database_path, replace=replace)
    document = _copy_document(file.absolute(), copied) | {
        "database": str(settings.database_path),
        "set_aside": aside and str(aside),
    }
    if copied.soundness.faults:
        _print(document, f"{file} is not put in place", as_json=as_json)
        _require_sound(copied.soundness, f"{file} is not sound")
    document |= _given_up(settings, AnchorFile(settings.anchor_path), aside)
    _print(document, "\n".join(_restored_lines(document)), as_json=as_json)


def _require_file_store(settings: "Settings") -> None:
    if settings.storage.url is not None:
        raise BadInput("the store is on a server (storage.url): copy it with pg_dump, and bring it back with pg_restore")


def _copied(settings: "Settings", partial: Path) -> str:
    """Who made the copy, once it is there."""
    from finagent.adapters.database.copies import copy_unused
    from finagent.store_access import CONTROL_SOCKET

    database = settings.database_path
    order = {"file": str(partial), "good_until": time.time() + ANSWER_SECONDS}
    failures: list[Exception] = []

    def ask_agent() -> None:
        try:
            ask(settings.storage.directory / CONTROL_SOCKET, "POST", "/control/db/backup", order, COPY_SECONDS_MAX)
        except (NoAgent, NoAnswer, BadInput) as error:
            failures.append(error)

    asking = threading.Thread(target=ask_agent, daemon=True)  # an interrupt does not wait for the answer
    asking.start()
    while asking.is_alive():
        asking.join(TOLD_SECONDS)
        if asking.is_alive() and partial.exists():
            _say(f"{partial.stat().st_size / 1e6:.1f} of {database.stat().st_size / 1e6:.1f} MB")
    try:
        if failures:
            raise failures[0]
    except NoAgent:
        told = time.monotonic()

        def say(left: int, of: int) -> None:
            nonlocal told
            if time.monotonic() - told >= TOLD_SECONDS:
                told = time.monotonic()
                _say(f"{of - left} of {of} pages")

        copy_unused(database, partial, settings.database.backup_step_pages, say)
        return "command"
    except NoAnswer as silence:
        raise Unavailable(f"no backup is made: {silence}") from silence
    return "agent"


def _say(text: str) -> None:
    sys.stderr.write(f"finagent: {text}\n")
    sys.stderr.flush()


def _copy_document(file: Path, copied: "Copied") -> dict[str, Any]:
    found = copied.soundness
    return {
        "file": str(file),
        "bytes": copied.size_bytes,
        "sound": not found.faults,
        "events": found.events,
        "seals": found.seals,
        "faults": found.faults,
    }


def _given_up(settings: "Settings", anchor_file: Any, aside: Path | None) -> dict[str, Any]:
    """What is known of, and not in the restored store."""
    from finagent.adapters.database.anchor import objection
    from finagent.store_access import reading

    with reading(settings) as store:
        try:
            anchor = anchor_file.read()
            held_back = objection(anchor, store.reads)
        except (BadInput, Unavailable) as error:
            anchor, held_back = None, str(error)
        here = _counts(store.reads.rows)
    there = _counts_in(aside / settings.database_path.name) if aside else None
    return {
        "held_back": held_back,
        "anchor": anchor,
        "rows_only_in_what_was_set_aside": there and {name: there[name] - here[name] for name in NEVER_LOST},
    }


def _counts(rows: Any) -> dict[str, int]:
    return {name: rows(f"SELECT count(*) FROM {name}")[0][0] for name in NEVER_LOST}  # noqa: S608  constant names


def _counts_in(database: Path) -> dict[str, int] | None:
    """None where what was set aside cannot be read."""
    import sqlite3

    from finagent.adapters.database.reader import SqliteReads

    try:
        reads = SqliteReads(database)
    except Unavailable:
        return None
    try:
        return _counts(reads.rows)
    except (Unavailable, sqlite3.Error):
        return None
    finally:
        reads.close()


def _restored_lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['database']} is now {document['file']}: {document['events']} events"]
    if document["set_aside"]:
        lines.append(f"what was there is in {document['set_aside']}")
    for name, rows in (document["rows_only_in_what_was_set_aside"] or {}).items():
        if rows:
            lines.append(f"  {rows:+d} rows of {name} there")
    if document["held_back"]:
        lines.append(f"{document['held_back']}: no new risk until `finagent db accept`")
    return lines


def _print(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    from finagent.cli.output import print_json

    if as_json:
        print_json(document)
    else:
        typer.echo(text)


def _require_sound(found: "Soundness", otherwise: str) -> None:
    if found.faults:
        _say(f"{otherwise}: {found.faults[0].message}")
        raise typer.Exit(FOUND_SOMETHING_WRONG)
