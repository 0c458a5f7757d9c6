"""Copies of a SQLite store: made while it is written, and put in the place of one.

A copy is one sound file, without a log beside it. It is made page by page through SQLite's own backup, on the connection that
writes, so that what is committed meanwhile is in it and nothing has to be copied twice.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from finagent.adapters.database.engine import open_read_only
from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.verification import Soundness, verify_file
from finagent.adapters.durable_files import sync_file, sync_folder
from finagent.adapters.run_archive import set_aside
from finagent.domain.errors import BadInput, Unavailable
from finagent.services.failpoints import Failpoints, around, unarmed

Between = Callable[[int, int], None]
_TABLES = ("audit_seal", "decision_event", "ledger_identity", "meta")


def copy_pages(source: sqlite3.Connection, target: Path, step_pages: int, between: Between, failpoints: Failpoints) -> None:
    """Copy the store of an open connection into a new file; `between` is told after each step how many pages are left of how
    many. Raises BadInput for a target that is there, Unavailable for one that cannot be written, and what `between` raises; the
    file is then of no use."""
    if target.exists():
        raise BadInput(f"{target} exists: a backup overwrites nothing")

    def stepped(_status: int, left: int, of: int) -> None:
        with around(failpoints, "backup_step"):
            between(left, of)

    try:
        with around(failpoints, "backup"), closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous=OFF")  # whoever asked for the copy syncs it when it is whole
            source.backup(copy, pages=step_pages, progress=stepped, sleep=0)
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.Error as error:
        raise Unavailable(f"the copy {target} cannot be written: {error}") from error


def copy_unused(database: Path, target: Path, step_pages: int, between: Between) -> None:
    """The same where no agent runs. Raises BadInput while one does, Unavailable where there is no store."""
    with DatabaseLock(database):
        source = open_read_only(database)
        try:
            copy_pages(source, target, step_pages, between, unarmed)
        finally:
            source.close()


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was looked at: `soundness` of its chains and seals, and its size."""

    soundness: Soundness
    size_bytes: int


def examine(copy: Path) -> Copied:
    """Whether the file is a sound store of its own. Raises BadInput for one that is none of ours."""
    try:
        connection = open_read_only(copy)
    except Unavailable as error:
        raise BadInput(f"{copy} is not a database: {error}") from error
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    finally:
        connection.close()
    missing = sorted(set(_TABLES) - set(names))
    if missing:
        raise BadInput(f"{copy} is not a copy of finagent's database: it has no table {missing[0]}")
    return Copied(verify_file(copy, None), copy.stat().st_size)


def publish(partial: Path, file: Path) -> None:
    """Give a whole copy its name, durably; never over a file that has it."""
    sync_file(partial)
    if file.exists():
        raise BadInput(f"{file} exists: a backup overwrites nothing")
    partial.rename(file)
    sync_folder(file.parent)


def put_in_place(copy: Path, database: Path, *, replace: bool, failpoints: Failpoints = unarmed) -> tuple[Copied, Path | None]:
    """Make a copy the store of the folder, and say where the one that was there is now. Raises BadInput while an agent runs, and
    for a folder that has a store unless it is to be replaced. A copy that is not sound is not put in place."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with DatabaseLock(database):
        if database.exists() and not replace:
            raise BadInput(f"{database} exists: with --replace it is moved to runs/ first")
        restored = database.with_name(f".{database.name}.restored")
        try:
            shutil.copyfile(copy, restored)
            sync_file(restored)
            copied = examine(restored)
            if copied.soundness.faults:
                return copied, None
            with around(failpoints, "restore"):
                aside = set_aside(database)
                restored.rename(database)
                sync_folder(database.parent)
        except OSError as error:
            raise Unavailable(f"{database} cannot be restored: {error.strerror or error}") from error
        finally:
            restored.unlink(missing_ok=True)
    return copied, aside
