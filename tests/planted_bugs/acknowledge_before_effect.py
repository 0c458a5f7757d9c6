"""The job is acknowledged in one transaction, what it did is stored in the next."""

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

from finagent.bootstrap import Application, Wraps, build_application
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job
from finagent.domain.ports.store import JobQueue
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, queue=lambda queue: cast(JobQueue, EagerQueue(wraps.queue(queue))))
    return build_application(settings, **overrides, wraps=wrapped)


class EagerQueue:
    """Strikes a job off its list before the work is in the books."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        return asyncio.ensure_future(self._in_two_steps(effect, job))

    async def _in_two_steps(self, effect: Effect, job: Job | None) -> list[Job]:
        if job is not None:
            await self._queue.submit(Effect(), job)
        return await self._queue.submit(effect)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)
