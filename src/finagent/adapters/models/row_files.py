"""Rows to learn from as columns in a folder: written once, and mapped by every process that learns from them."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from finagent.adapters.durable_files import sync_file, sync_folder, temporary_name
from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.specialists.training_rows import TrainingRows

ABOUT = "rows.json"
_LONG_RETURN = "long_return"
_COLUMNS = tuple(each.name for each in fields(TrainingRows))


@dataclass(frozen=True, slots=True)
class RowFile:
    """`long_return` [rows] of a trade that buys, as a fraction. `hash` depends on every byte of it; `dates` of the sessions that
    `rows.days` counts."""

    rows: TrainingRows
    long_return: Floats
    hash: str
    features: tuple[str, ...]
    data_spec_hash: str
    source_id: str
    dates: tuple[date, ...]


def write_rows(
    folder: Path, rows: TrainingRows, long_return: Floats, spec: DataSpec, source_id: str, dates: tuple[date, ...]
) -> None:
    """Write a new folder, whole or not at all. BadInput where it is there already."""
    if folder.exists():
        raise BadInput(f"{folder} is there already: name another place, or remove it")
    making = temporary_name(folder)
    making.mkdir(parents=True)
    columns = {name: getattr(rows, name) for name in _COLUMNS} | {_LONG_RETURN: long_return}
    try:
        about = {
            "features": list(spec.names),
            "data_spec_hash": spec.hash,
            "source_id": source_id,
            "dates": [each.isoformat() for each in dates],
            "sha256": {name: _written(making / f"{name}.npy", column) for name, column in columns.items()},
        }
        (making / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        sync_file(making / ABOUT)
        sync_folder(making)
        making.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def open_rows(folder: Path, *, verify: bool = True) -> RowFile:
    """Map them, read-only. BadInput where they are not there or damaged. Without `verify` digests are not computed: for a process
    whose parent has done so."""
    try:
        raw = (folder / ABOUT).read_bytes()
        about: Mapping[str, Any] = json.loads(raw)
        names = (*_COLUMNS, _LONG_RETURN)
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
        dates, digests = tuple(date.fromisoformat(each) for each in about["dates"]), about["sha256"]
        features, spec_hash, source_id = tuple(about["features"]), str(about["data_spec_hash"]), str(about["source_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no rows to learn from: {error}") from error
    damaged = [name for name in columns if verify and _digest(folder / f"{name}.npy") != digests.get(name)]
    if damaged:
        raise BadInput(f"{folder}: {', '.join(damaged)} damaged: digests are not those of {ABOUT}; remove it and make it again")
    long_return = columns.pop(_LONG_RETURN)
    told = hashlib.sha256(raw).hexdigest()[:16]
    return RowFile(TrainingRows(**columns), long_return, told, features, spec_hash, source_id, dates)


def _written(file: Path, column: np.ndarray[Any, Any]) -> str:
    np.save(file, np.ascontiguousarray(column), allow_pickle=False)
    sync_file(file)
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
