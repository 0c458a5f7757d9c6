"""How far a training is: its state and the figures of all its epochs, in one file of safetensors that is whole or not there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finagent.adapters.durable_files import replace_file
from finagent.domain.errors import BadInput
from finagent.quant.specialists.experiment import State

CHECKPOINT = "checkpoint.safetensors"
_ABOUT = "finagent"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`identity` names recipe, data and code it belongs to; `figures` one of each epoch that ran."""

    identity: str
    finished: bool
    figures: tuple[Mapping[str, float], ...]
    state: State


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """In place of the one before; on the disk when this returns."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.state.items()}
    about = {
        "identity": checkpoint.identity,
        "finished": checkpoint.finished,
        "figures": [dict(each) for each in checkpoint.figures],
        "sha256": _digest(arrays),
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / CHECKPOINT, save(arrays, metadata={_ABOUT: json.dumps(about, allow_nan=False)}))


def read_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """None where there is none of that identity. BadInput for one that is damaged: no pickle is ever read, and each byte of the
    state counts."""
    path = folder / CHECKPOINT
    found = open_checkpoint(path) if path.is_file() else None
    return found if found is not None and found.identity == identity else None


def open_checkpoint(path: Path) -> Checkpoint:
    """Of whatever training it is. BadInput where it is not there, or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_ABOUT])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        found = Checkpoint(about["identity"], bool(about["finished"]), tuple(about["figures"]), arrays)
        digest = about["sha256"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged: {error}; remove it, and the training begins anew") from error
    if digest != _digest(arrays):
        raise BadInput(f"{path} is damaged: its SHA-256 is another one; remove it, and the training begins anew")
    return found


def _digest(arrays: State) -> str:
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
