"""Rows to learn from as columns in a folder: written once, and mapped by every process that learns from them."""

import hashlib
import json
import shutil
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import numpy as np

from finagent.adapters.durable_files import sync_file, sync_folder, temporary_name
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.learning.learning_rows import LearningRows
from finagent.services.models.past_candidates import PastCandidates

ABOUT = "rows.json"
_COLUMNS = tuple(each.name for each in fields(LearningRows))


@dataclass(frozen=True, slots=True)
class LearningFile:
    """`hash` depends on every byte of it; `dates` of the sessions that `rows.starts` counts."""

    rows: LearningRows
    hash: str
    features: tuple[str, ...]
    data_spec_hash: str
    dates: tuple[date, ...]


def write_rows(folder: Path, past: PastCandidates, spec: DataSpec, source_id: str) -> None:
    """Write a new folder, whole or not at all. BadInput where it is there already."""
    if folder.exists():
        raise BadInput(f"{folder} is there already: name another place, or remove it")
    making = temporary_name(folder)
    making.mkdir(parents=True)
    try:
        digests = {}
        for name in _COLUMNS:
            file = making / f"{name}.npy"
            np.save(file, np.ascontiguousarray(getattr(past.rows, name)), allow_pickle=False)
            sync_file(file)
            digests[name] = _digest(file)
        about = {
            "features": list(spec.names),
            "data_spec_hash": spec.hash,
            "source_id": source_id,
            "dates": [each.isoformat() for each in past.dates],
            "sha256": digests,
        }
        (making / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        sync_file(making / ABOUT)
        sync_folder(making)
        making.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def open_rows(folder: Path, *, verify: bool = True) -> LearningFile:
    """Map them, read-only. BadInput where they are not there or damaged. Without `verify` digests are not computed: for a process
    whose parent has done so."""
    try:
        raw = (folder / ABOUT).read_bytes()
        about = json.loads(raw)
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _COLUMNS}
        dates = tuple(date.fromisoformat(each) for each in about["dates"])
        features, spec_hash, digests = tuple(about["features"]), str(about["data_spec_hash"]), about["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no rows to learn from: {error}") from error
    damaged = [name for name in _COLUMNS if verify and _digest(folder / f"{name}.npy") != digests.get(name)]
    if damaged:
        raise BadInput(f"{folder}: {', '.join(damaged)} damaged: digests are not those of {ABOUT}; remove it and make it again")
    return LearningFile(LearningRows(**columns), hashlib.sha256(raw).hexdigest()[:16], features, spec_hash, dates)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
