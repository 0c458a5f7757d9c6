"""A history of features as columns in one file: read once into the memory of the machine, shared by all that map it."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.features.contract import require_sound

VALUES, ABOUT = "values.npy", "history.json"


@dataclass(frozen=True, slots=True)
class FeatureHistory:
    """`values` [sessions, symbols, features] as of the close before each session, a read-only view of the mapped file, in which
    each feature is one run of bytes."""

    spec: DataSpec
    sessions: tuple[date, ...]
    symbols: tuple[str, ...]
    source_id: str
    values: Floats


def write_history(
    folder: Path, values: Floats, spec: DataSpec, sessions: Sequence[date], symbols: Sequence[str], source_id: str
) -> None:
    """Write a new folder, whole or not at all. BadInput where it is there already, or for values that are not sound."""
    require_sound(values, spec, sessions, symbols, str(folder))
    if folder.exists():
        raise BadInput(f"{folder} is there already: name another place, or remove it")
    making = folder.with_name(f".{folder.name}.{os.getpid()}")
    making.mkdir(parents=True)
    try:
        np.save(making / VALUES, np.ascontiguousarray(values.transpose(2, 0, 1)), allow_pickle=False)
        about = {
            "data_spec": spec.name,
            "hash": spec.hash,
            "features": list(spec.names),
            "sessions": [each.isoformat() for each in sessions],
            "symbols": list(symbols),
            "source_id": source_id,
            "sha256": _digest(making / VALUES),
        }
        (making / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def open_history(folder: Path, spec: DataSpec, *, verify: bool = True) -> FeatureHistory:
    """Map a history. BadInput where it is not there, damaged, or of another data spec, by name. Without `verify` its bytes are
    not read: for a process whose parent has done so."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        columns = np.load(folder / VALUES, mmap_mode="r", allow_pickle=False)
        sessions = tuple(date.fromisoformat(each) for each in about["sessions"])
        symbols, names, found = tuple(about["symbols"]), tuple(about["features"]), about["hash"]
        source_id, digest = about["source_id"], about["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no history of features: {error}") from error
    if found != spec.hash:
        other = [name for name in names if name not in spec.columns] or [name for name in spec.names if name not in names]
        named = f"; {', '.join(other[:5])} differ" if other else ""
        raise BadInput(f"{folder} is of data spec {found}, wanted is {spec.hash}{named}: make it again")
    if columns.shape != (len(spec.features), len(sessions), len(symbols)) or columns.dtype != np.float64:
        raise BadInput(f"{folder / VALUES} is {columns.dtype}{list(columns.shape)}: it is not what {ABOUT} beside it tells of")
    if verify and _digest(folder / VALUES) != digest:
        raise BadInput(f"{folder / VALUES} is damaged: its digest is not the one in {ABOUT}; make it again")
    return FeatureHistory(spec, sessions, symbols, source_id, columns.transpose(1, 2, 0))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
