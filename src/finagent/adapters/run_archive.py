"""A folder made free for another replay: what it held moves to `runs/`, nothing is deleted."""

from pathlib import Path

from finagent.adapters.database.lock import DatabaseLock
from finagent.domain.errors import Unavailable

_KEPT_IN_PLACE = frozenset({"runs", "HALT"})


def archive(database: Path) -> Path | None:
    """Move the files of the folder of `database` to the next free `runs/NNNN` beside it and return that; None where there is no
    store. Raises BadInput while a process holds the folder, Unavailable where it cannot be written."""
    folder = database.parent
    if not database.is_file():
        return None
    with DatabaseLock(database) as lock:
        try:
            target = _next_place(folder / "runs")
            # The store goes last: a kill on the way leaves it in place, and the next `--fresh` moves the rest.
            moving = [one for one in folder.iterdir() if one.name not in _KEPT_IN_PLACE and one != lock.path]
            for one in sorted(moving, key=lambda path: (path == database, path.name)):
                one.rename(target / one.name)
        except OSError as error:
            raise Unavailable(f"{folder} cannot be archived: {error.strerror or error}") from error
    return target


def _next_place(runs: Path) -> Path:
    taken = [int(one.name) for one in runs.iterdir() if one.name.isdigit()] if runs.is_dir() else []
    place = runs / f"{max(taken, default=0) + 1:04d}"
    place.mkdir(parents=True)
    return place
