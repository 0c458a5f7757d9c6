"""A folder made free for another replay or another store: what it held moves to `runs/`, nothing is deleted."""

import shutil
from pathlib import Path

from finagent.adapters.database.lock import DatabaseLock
from finagent.domain.errors import Unavailable

_OF_MODELS = {"models", "warm-model", "packages", "training", "spool", "mlflow.db", "artifacts", "fetched-models"}
_KEPT_IN_PLACE = frozenset({"runs", "HALT", *_OF_MODELS})
_LOG_FIRST = ("-wal", "-shm", "")  # a log beside a store that it does not belong to would be read into it


def archive(database: Path, anchor: Path) -> Path | None:
    """Move the files of the folder of `database`, and the anchor wherever it lies, to the next free `runs/NNNN` beside it and
    return that; None where there is neither. Raises BadInput while a process holds the folder, Unavailable where it cannot be
    written."""
    folder = database.parent
    if not database.is_file() and not anchor.is_file():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with DatabaseLock(database) as lock:
        try:
            target = _next_place(folder / "runs")
            if anchor.is_file():
                shutil.move(anchor, target / "anchor")
            # The store goes last: a kill on the way leaves it in place, and the next `--fresh` moves the rest.
            moving = [one for one in folder.iterdir() if one.name not in _KEPT_IN_PLACE and one != lock.path]
            for one in sorted(moving, key=lambda path: (path == database, path.name)):
                one.rename(target / one.name)
        except OSError as error:
            raise Unavailable(f"{folder} cannot be archived: {error.strerror or error}") from error
    return target


def set_aside(database: Path) -> Path | None:
    """Move the store of a folder that the caller has locked, with its log, to the next free place in `runs/` and return that;
    None where there is none. The anchor and everything else stays."""
    present = [path for suffix in _LOG_FIRST if (path := database.with_name(database.name + suffix)).exists()]
    if not present:
        return None
    target = _next_place(database.parent / "runs")
    for path in present:
        path.rename(target / path.name)
    return target


def _next_place(runs: Path) -> Path:
    taken = [int(one.name) for one in runs.iterdir() if one.name.isdigit()] if runs.is_dir() else []
    place = runs / f"{max(taken, default=0) + 1:04d}"
    place.mkdir(parents=True)
    return place
