"""Where a training stands, on the disk: arrays in one safetensors file, replaced whole after each epoch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finagent.adapters.durable_files import replace_file
from finagent.domain.errors import BadInput

Arrays = dict[str, NDArray[np.generic]]


class Checkpoint:
    """`identity` says what is trained on what: a file of something else is refused by name."""

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self._path, self._identity = path, dict(identity)

    def write(self, state: Arrays) -> None:
        """On the disk when this returns; whoever is killed meanwhile has the one before."""
        from safetensors.numpy import save

        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, save(state, metadata={"identity": json.dumps(self._identity, sort_keys=True)}))

    def read(self) -> Arrays | None:
        """None where nothing was written yet. BadInput for a damaged file, or another training's."""
        from safetensors import SafetensorError, safe_open

        if not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="numpy") as file:
                told = json.loads((file.metadata() or {}).get("identity", "{}"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, ValueError) as error:
            raise BadInput(f"{self._path} is damaged: {error}; remove it to begin again") from error
        changed = sorted(name for name in {*told, *self._identity} if told.get(name) != self._identity.get(name))
        if changed:
            raise BadInput(f"{self._path} is of another training ({', '.join(changed)} differ): remove it to begin again")
        return state

    def remove(self) -> None:
        """Nothing is left to go on with."""
        self._path.unlink(missing_ok=True)
