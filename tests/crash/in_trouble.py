"""Applications whose process gets into trouble: a poison job of three kinds, and no memory from the start on."""

import asyncio
import os
import resource
import signal
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from finagent.bootstrap import Application, Parts, Wraps, build_application
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job
from finagent.domain.ports.store import Reads
from finagent.services.queue.processor import Handler
from finagent.settings import Settings

STUCK_SECONDS, SOLO_CRASHES = 0.3, 2
BLOCK_BYTES, BLOCKS_LEFT = 1 << 16, 8
BALLAST: list[bytearray] = []


def _raise(_job: Job) -> NoReturn:
    raise ValueError("poison")


def _kill(_job: Job) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Poison:
    """The application with one poisoned job: the first planning that it ever meets, whose key is kept in the folder."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def __call__(self, settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
        queue = settings.queue.model_copy(update={"handler_seconds": STUCK_SECONDS, "max_solo_crashes": SOLO_CRASHES})
        wraps: Wraps = overrides.pop("wraps", Wraps())
        wrapped = replace(wraps, handlers=self._poisoned)
        return build_application(settings.model_copy(update={"queue": queue}), **overrides, wraps=wrapped)

    def _poisoned(self, parts: Parts, handlers: dict[str, Handler]) -> dict[str, Handler]:
        marked = parts.settings.storage.directory / "poisoned"

        async def plan(jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
            if not marked.exists():
                marked.write_text(jobs[0].dedup_key)
            for job in jobs:
                if job.dedup_key == marked.read_text():
                    await self._drink(job)
            return await handlers["plan"](jobs, reads)

        return {**handlers, "plan": plan}

    async def _drink(self, job: Job) -> None:
        if self._act is None:
            await asyncio.Event().wait()
        self._act(job)


def starved(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    """The address space may not grow, and of what is free inside it hardly anything is left."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        while True:
            BALLAST.append(bytearray(BLOCK_BYTES))
    except MemoryError:
        del BALLAST[-BLOCKS_LEFT:]
    return build_application(settings, **overrides)


raises, kills, hangs = Poison(_raise), Poison(_kill), Poison(None)
