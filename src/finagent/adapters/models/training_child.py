"""The child process of a training: one line of JSON asks for an epoch, one answers, and what was done is on disk before that.

Run as `python -m finagent.adapters.models.training_child`. It ends at once when whoever started it is gone.
"""

import hashlib
import importlib
import json
import math
import os
import queue
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finagent.adapters.models.checkpoint_files import Checkpoint, read_checkpoint, write_checkpoint
from finagent.domain.errors import BadInput
from finagent.quant.specialists.experiment import Experiment

KEPT_MAX = 16  # experiments in memory, so that one that comes again is not read again; rows are mapped, not held
_ORPHANED, _DEVICE_LOST = 9, 10


class Trainer:
    """Runs epochs. An experiment in memory is used only where the checkpoint is its own: another process may have gone on."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Experiment, int]] = OrderedDict()

    def run(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One epoch further, if there is one left."""
        folder, known = Path(asked["folder"]), int(asked["known"])
        depends = [asked[name] for name in ("factory", "recipe", "data_hash", "code_version")]
        identity = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        before = read_checkpoint(folder, identity)
        figures: list[Mapping[str, float]] = list(before.figures) if before else []
        if before is not None and before.finished:
            return _told(figures, known, len(figures), finished=True)
        experiment = self._experiment(asked, identity, before)
        if not experiment.finished:
            found = {name: float(value) for name, value in experiment.run_epoch(len(figures)).items()}
            wrong = [name for name, value in found.items() if not math.isfinite(value)]
            if wrong:
                raise BadInput(f"{', '.join(sorted(wrong))} of epoch {len(figures) + 1} is not finite: another recipe is needed")
            figures.append(found)
        write_checkpoint(folder, Checkpoint(identity, experiment.finished, tuple(figures), experiment.state()))
        if asked["device"] == "cpu":
            self._kept[identity] = (experiment, len(figures))
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return _told(figures, known, experiment.epochs, finished=experiment.finished)

    def _experiment(self, asked: Mapping[str, Any], identity: str, before: Checkpoint | None) -> Experiment:
        kept = self._kept.pop(identity, None)
        if kept is not None and before is not None and kept[1] == len(before.figures) and asked["batch_divisor"] == 1:
            return kept[0]
        module, _, name = str(asked["factory"]).partition(":")
        recipe = {**asked["recipe"], "device": asked["device"], "batch_divisor": asked["batch_divisor"]}
        experiment: Experiment = getattr(importlib.import_module(module), name)(recipe, Path(asked["data"]))
        if before is not None:
            experiment.restore(before.state)
        return experiment


def _told(figures: list[Mapping[str, float]], known: int, epochs: int, *, finished: bool) -> dict[str, Any]:
    return {"done": len(figures), "epochs": epochs, "finished": finished, "figures": figures[known:]}


def _peak_bytes() -> int:
    """Of the accelerator since the last turn; it is given back, since the next turn may be another process's."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    peak = int(torch.cuda.max_memory_reserved())
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def _answer(trainer: Trainer, asked: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return trainer.run(asked)
    except MemoryError as error:
        return {"out_of_memory": str(error)}
    except BadInput as refusal:
        return {"refused": str(refusal)}
    except Exception as error:  # noqa: BLE001 - whatever an experiment raises, its training failed and the process is sound
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            return {"out_of_memory": str(error)}
        if asked["device"] != "cpu" and "CUDA" in str(error):
            traceback.print_exc()
            os._exit(_DEVICE_LOST)  # no call to the device works in this process any more
        return {"refused": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer until nobody asks any more."""
    asked: queue.Queue[str] = queue.Queue(maxsize=16)

    def listen() -> None:
        for line in sys.stdin:
            asked.put(line)
        os._exit(_ORPHANED)

    threading.Thread(target=listen, daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an experiment prints is no answer
    trainer = Trainer()
    while True:
        told = _answer(trainer, json.loads(asked.get()))
        answers.write(json.dumps(told | {"peak_bytes": _peak_bytes()}, allow_nan=False) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
