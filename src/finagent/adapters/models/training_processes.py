"""Child processes for trainings: of low priority, one thread of arithmetic each, killed without asking."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from finagent.domain.errors import BadInput
from finagent.services.models.training import OutOfMemory, Turn, TurnReport, WorkerLost

_LINE_BYTES_MAX = 16 << 20
_THREADS = [f"{name}=1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")]


class TrainingProcess:
    """TrainingWorker in a process of its own, started when it is first asked. `nice` is added to the priority of this one."""

    def __init__(self, nice: int) -> None:
        self._nice = nice
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def run(self, turn: Turn) -> TurnReport:
        training = turn.training
        asked = {
            "factory": training.factory,
            "recipe": dict(training.recipe),
            "data": training.data,
            "data_hash": training.told.lineage.data_hash,
            "code_version": training.told.lineage.code_version,
            "folder": training.folder,
            "known": turn.known,
            "device": turn.device.value,
            "batch_divisor": turn.batch_divisor,
        }
        answer = await self._ask(json.dumps(asked, allow_nan=False).encode() + b"\n")
        if "refused" in answer:
            raise BadInput(f"training {training.key}: {answer['refused']}")
        if "out_of_memory" in answer:
            raise OutOfMemory(f"training {training.key}: {answer['out_of_memory']}")
        return TurnReport(answer["done"], answer["epochs"], answer["finished"], tuple(answer["figures"]), answer["peak_bytes"])

    async def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _ask(self, line: bytes) -> dict[str, Any]:
        process = self._process = self._process or await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            await process.stdin.drain()
            answer = await process.stdout.readline()
        except (ConnectionError, BrokenPipeError) as error:
            raise WorkerLost(f"process {process.pid} is gone: {error}") from error
        if not answer.endswith(b"\n"):
            raise WorkerLost(f"process {process.pid} ended with {await process.wait()}")
        told: dict[str, Any] = json.loads(answer)
        return told

    async def _started(self) -> Process:
        command = [
            "nice",
            "-n",
            str(self._nice),
            "env",
            *_THREADS,
            sys.executable,
            "-m",
            "finagent.adapters.models.training_child",
        ]
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES_MAX)
