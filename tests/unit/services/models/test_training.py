"""The orchestrator against real child processes: what an experiment may do wrong is its own affair."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finagent.adapters.models.checkpoint_files import CHECKPOINT
from finagent.adapters.models.training_processes import TrainingProcess
from finagent.domain.errors import BadInput
from finagent.domain.ports.experiment_log import Lineage, TrackedTraining, TrainingOutcome
from finagent.quant.specialists.experiment import State
from finagent.services.models.accelerator import AcceleratorLedger, AcceleratorMemory
from finagent.services.models.training import Training, TrainingOrchestrator, TrainingPolicy, TrainingResult, success_rate

MODULE = "tests.unit.services.models.test_training"
NOTHING = AcceleratorMemory(0, 0, 0)
DEVICE = AcceleratorMemory(1000, 500, 100)


@dataclass
class Counting:
    """An experiment that counts, and does what its recipe says at an epoch."""

    recipe: Mapping[str, Any]
    at: int = 0

    @property
    def epochs(self) -> int:
        return 3

    @property
    def finished(self) -> bool:
        return self.at >= 3

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        if epoch == self.recipe.get("at", 1):
            self._misbehave()
        self.at += 1
        return {"count": float(self.at), "on_cpu": float(self.recipe["device"] == "cpu"), "part": self.recipe["batch_divisor"]}

    def _misbehave(self) -> None:
        what = self.recipe.get("does", "")
        if what == "raise":
            raise RuntimeError("of its own")
        if what == "die":
            import os

            os._exit(1)
        if what == "nan":
            self.at = float("nan")  # type: ignore[assignment]  # a loss that has diverged
        if what == "memory" and (self.recipe["device"] != "cpu" or self.recipe["batch_divisor"] < self.recipe.get("fits", 1)):
            raise MemoryError("no memory")
        if what == "cuda" and self.recipe["device"] != "cpu":
            raise RuntimeError("CUDA error: device-side assert triggered")
        if what == "print":
            print('{"done": 99}', flush=True)

    def state(self) -> State:
        return {"at": np.asarray([self.at])}

    def restore(self, state: State) -> None:
        self.at = int(state["at"][0])


def counting(recipe: Mapping[str, Any], data: Path) -> Counting:
    return Counting(recipe)


@dataclass
class Heard:
    """ExperimentLog that remembers."""

    epochs: list[tuple[str, int]] = field(default_factory=list)
    ends: dict[str, TrainingOutcome] = field(default_factory=dict)

    def begin(self, training: TrackedTraining) -> None:
        pass

    def epoch(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs.append((key, epoch))

    def end(self, key: str, outcome: TrainingOutcome) -> None:
        self.ends[key] = outcome


def asked(folder: Path, key: str, **recipe: Any) -> Training:
    told = TrackedTraining(key, "tests", {}, Lineage("data", "settings", "spec", "code", "tests"))
    return Training(told, f"{MODULE}:counting", recipe, "", str(folder / key), "counting")


async def run(
    *trainings: Training, memory: AcceleratorMemory = NOTHING, workers: int = 1
) -> tuple[dict[str, TrainingResult], Heard]:
    heard, policy = Heard(), TrainingPolicy(workers, losses_max=2, shrinks_max=1)
    orchestrator = TrainingOrchestrator(lambda: TrainingProcess(1), heard, policy, AcceleratorLedger(memory))
    results = await orchestrator.run(trainings)
    assert {one.key: one.outcome for one in results} == heard.ends
    return {one.key: one for one in results}, heard


async def test_one_bad_experiment_fails_by_name_and_the_others_end(tmp_path: Path) -> None:
    found, heard = await run(
        asked(tmp_path, "sound"),
        asked(tmp_path, "raises", does="raise"),
        asked(tmp_path, "diverges", does="nan"),
        asked(tmp_path, "deadly", does="die"),
        asked(tmp_path, "talks", does="print"),
    )
    reasons = {key: one.reason for key, one in found.items() if one.outcome is TrainingOutcome.FAILED}
    assert set(reasons) == {"raises", "diverges", "deadly"}
    assert "RuntimeError: of its own" in reasons["raises"]
    assert "not finite" in reasons["diverges"]
    assert "2 processes died" in reasons["deadly"]
    assert (found["talks"].done, found["talks"].figures["count"], found["deadly"].losses) == (3, 3.0, 2)
    assert success_rate(list(found.values())) == pytest.approx(0.4)
    assert [epoch for key, epoch in heard.epochs if key == "sound"] == [1, 2, 3]


async def test_out_of_memory_halves_the_batch_then_leaves_the_accelerator(tmp_path: Path) -> None:
    found, _ = await run(
        asked(tmp_path, "moves", does="memory"),
        asked(tmp_path, "halves", does="memory", fits=2),
        asked(tmp_path, "never", does="memory", fits=99),
        memory=DEVICE,
    )
    assert found["moves"].figures == {"count": 3.0, "on_cpu": 1.0, "part": 1.0}
    assert found["halves"].figures == {"count": 3.0, "on_cpu": 1.0, "part": 2.0}
    assert (found["never"].outcome, found["never"].done) == (TrainingOutcome.FAILED, 1)
    assert "more memory than there is" in found["never"].reason


async def test_a_lost_accelerator_costs_its_process_and_the_training_goes_on_without(tmp_path: Path) -> None:
    found, heard = await run(asked(tmp_path, "loses", does="cuda"), asked(tmp_path, "sound"), memory=DEVICE)
    assert (found["loses"].outcome, found["loses"].losses) == (TrainingOutcome.FINISHED, 1)
    assert found["loses"].figures == {"count": 3.0, "on_cpu": 1.0, "part": 1.0}
    assert found["sound"].figures["on_cpu"] == 0.0
    assert sorted(heard.epochs) == [(key, epoch) for key in ("loses", "sound") for epoch in (1, 2, 3)]


async def test_what_is_finished_is_not_run_again_and_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    _, heard = await run(asked(tmp_path, "one"), asked(tmp_path, "two"))
    assert heard.epochs == [(key, epoch) for epoch in (1, 2, 3) for key in ("one", "two")], "each gets an epoch in turn"
    before = (tmp_path / "one" / CHECKPOINT).read_bytes()
    damaged = bytearray((tmp_path / "two" / CHECKPOINT).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "two" / CHECKPOINT).write_bytes(damaged)
    found, heard = await run(asked(tmp_path, "one"), asked(tmp_path, "two"))

    assert (tmp_path / "one" / CHECKPOINT).read_bytes() == before
    assert [epoch for key, epoch in heard.epochs if key == "one"] == [1, 2, 3], "the log is told again and keeps it once"
    assert found["two"].outcome is TrainingOutcome.FAILED
    assert "damaged" in found["two"].reason
    with pytest.raises(BadInput, match="same key"):
        await run(asked(tmp_path, "one"), asked(tmp_path, "one"))
