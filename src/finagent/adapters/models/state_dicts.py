"""State dicts that torch has saved as pickles (`.pth`), as networks: for an offline command, nothing that trades imports this.

Needs torch (`pip install "finagent[models]"`).
"""

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from finagent.adapters.models.package import MODEL_BYTES_MAX, regular_file
from finagent.domain.errors import BadInput
from finagent.quant.specialists.networks import NETWORKS, Specialist

# The rest of what torch says is how to load it all the same.
_TOLD = re.compile(r"(?:Unsupported |Trying to load )\S[^\n]*?(?=\.?\n| was not an allowed)")
_WIDTH_OF = "classes.weight"


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """`kind` is one of NETWORKS, found by the names of the weights; `digest` of the file."""

    kind: str
    network: Specialist
    digest: str


def open_state_dict(path: Path, features: int) -> SavedNetwork:
    """A network over one row of so many features, in evaluation mode. BadInput, naming what is wrong, for what is not exactly the
    weights of one of NETWORKS; Transient where the file cannot be read just now.

    Torch reads it with `weights_only`, which builds tensors and calls nothing that the file names."""
    if not path.exists():
        raise BadInput(f"{path}: there is no such file")
    data = regular_file(path, MODEL_BYTES_MAX)
    try:
        state = _tensors(_unpickled(data))
        kind, network = _empty(state, features)
        _require_same(state, network, kind)
        network.load_state_dict(state, assign=True)
    except BadInput as refusal:
        raise BadInput(f"{path} is refused: {refusal}") from refusal
    return SavedNetwork(kind, network.requires_grad_(requires_grad=False).eval(), hashlib.sha256(data).hexdigest())


def _unpickled(data: bytes) -> object:
    _require_small(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no state dict make the reader raise anything
        told = _TOLD.search(str(error))
        reason = told.group() if told else f"{type(error).__name__}: {error}".partition(". ")[0].partition("\n")[0]
        raise BadInput(f"it is no state dict ({reason[:300]}); nothing that it names was called") from error


def _require_small(data: bytes) -> None:
    """An archive may be small and unpack to more than there is memory."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise BadInput(f"it is a damaged archive: {error}") from error
    if unpacked > MODEL_BYTES_MAX:
        raise BadInput(f"it unpacks to {unpacked} bytes, more than {MODEL_BYTES_MAX}")


def _tensors(found: object) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise BadInput(f"it is no state dict but {type(found).__name__}")
    state = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BadInput(f"it is no state dict: {name!r} is {type(value).__name__}, not a tensor")
        if value.dtype != torch.float32 or value.layout != torch.strided or value.device.type != "cpu":
            raise BadInput(f"{name} is {value.dtype} ({value.layout}, {value.device}): weights are torch.float32 in memory")
        if not value.is_contiguous():  # a tensor of any size may be one number, told again and again
            raise BadInput(f"{name} of shape {list(value.shape)} is not contiguous")
        if not torch.isfinite(value).all():
            raise BadInput(f"{name} has weights that are not finite")
        state[name] = value.detach()
    return state


def _empty(state: Mapping[str, Tensor], features: int) -> tuple[str, Specialist]:
    """The network that has most names in common with it, without memory yet."""
    if _WIDTH_OF not in state or state[_WIDTH_OF].ndim != 2 or not state[_WIDTH_OF].shape[1]:
        raise BadInput(f"there is no matrix {_WIDTH_OF} in it, so it is no specialist")
    width = state[_WIDTH_OF].shape[1]
    with torch.device("meta"):
        known = {kind: Specialist(make(features, 1, width, 0.0), width) for kind, make in NETWORKS.items()}
    kind = max(known, key=lambda each: len(known[each].state_dict().keys() & state.keys()))
    return kind, known[kind]


def _require_same(state: Mapping[str, Tensor], network: Specialist, kind: str) -> None:
    """Names and shapes, all of them."""
    wanted = network.state_dict()
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - state.keys())]
    faults += [f"{name} is none of its weights" for name in sorted(state.keys() - wanted.keys())]
    faults += [
        f"{name} is {list(state[name].shape)}, not {list(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if faults:
        more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise BadInput(f"it is not the {kind} network over one row of those features: {'; '.join(faults[:5])}{more}")
