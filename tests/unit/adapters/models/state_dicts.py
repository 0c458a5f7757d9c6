"""State dicts as torch saves them, and what somebody who means harm would put in their place."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finagent.quant.specialists.networks import specialist


class Bomb:
    """Whoever unpickles this runs a command that leaves a file behind."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.sentinel}",)


def weights(network: str, features: int = 4, width: int = 16, seed: int = 1) -> dict[str, Tensor]:
    return specialist(network, features, 1, width, 0.3, seed).state_dict()


def saved(what: Any, *, archive: bool = True) -> bytes:
    """As torch writes it; `archive` False is its format of before 2020."""
    buffer = io.BytesIO()
    torch.save(what, buffer, _use_new_zipfile_serialization=archive)
    return buffer.getvalue()


def rezipped(whole: bytes, *, compress: bool = False, **replaced: bytes) -> bytes:
    """The archive with those pickles in the place of its own, or more in it."""
    out, names = io.BytesIO(), {f"{name}.pkl": data for name, data in replaced.items()}
    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w", how) as new:
        for entry in old.namelist():
            new.writestr(entry, names.pop(entry.rpartition("/")[2], old.read(entry)))
        for name, data in names.items():
            new.writestr(f"archive/{name}", data)
    return out.getvalue()


def tarred(pickled: bytes) -> bytes:
    """Torch's oldest format, whose reader once forgot to look."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(pickled)
            tar.addfile(entry, io.BytesIO(pickled))
    return out.getvalue()


def bombs(sentinel: Path) -> dict[str, bytes]:
    """Every way that torch reads a pickle, each with a payload; `sentinel` is what they would make."""
    bomb, sound = Bomb(sentinel), saved(weights("flat"))
    among = OrderedDict([*weights("flat").items(), ("classes.bias", bomb)])
    return {
        "pickle": pickle.dumps(bomb),
        "old pickle": pickle.dumps(bomb, 0),
        "archive": saved(bomb),
        "archive of before 2020": saved(bomb, archive=False),
        "one weight of an archive": saved(among),
        "one weight of before 2020": saved(among, archive=False),
        "archive whose pickle was exchanged": rezipped(sound, data=pickle.dumps(bomb)),
        "compressed archive": rezipped(sound, data=pickle.dumps(bomb), compress=True),
        "script": rezipped(sound, constants=pickle.dumps(bomb)),
        "tar": tarred(pickle.dumps(bomb)),
        "whole module": saved(_Module(sentinel)),
    }


class _Module(torch.nn.Module):
    """A module that is saved as code and not as weights."""

    def __init__(self, sentinel: Path) -> None:
        super().__init__()
        self.bomb = Bomb(sentinel)


def repeated(shape: Sequence[int]) -> Tensor:
    """A tensor of any size that takes four bytes in a file."""
    return torch.zeros(1).expand(*shape)
