"""Bugs in what the parts do with each other: each is put around a part by `Wraps`."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

from finagent.bootstrap import Application, Parts, Wraps, build_application
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job
from finagent.domain.orders import OrderIntent
from finagent.domain.ports.store import JobQueue, Reads
from finagent.services.execution.intents import request_of
from finagent.services.queue.processor import Handler
from finagent.settings import Settings

Built = AbstractAsyncContextManager[Application]


class PublishesLater:
    """What follows from an effect is published in a transaction of its own, after the effect's."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        return asyncio.ensure_future(self._in_two_steps(effect, job))

    async def _in_two_steps(self, effect: Effect, job: Job | None) -> list[Job]:
        await self._queue.submit(replace(effect, next=()), job)
        return await self._queue.submit(Effect(next=effect.next))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


def new_id_after_a_crash(parts: Parts, handlers: dict[str, Handler]) -> dict[str, Handler]:
    """A send that comes back goes out under a new id before anybody has looked for the old one."""

    async def send(jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
        for job in jobs:
            intent = reads.get(OrderIntent, job.payload["client_order_id"])
            if job.crashes and intent is not None:
                request = request_of(intent, reads)
                await parts.broker.submit(replace(request, client_order_id=f"{request.client_order_id}-r"))
        return await handlers["send"](jobs, reads)

    return {**handlers, "send": send}


def untold_intents(_parts: Parts, handlers: dict[str, Handler]) -> dict[str, Handler]:
    """Intents are committed without a word in the story of their decision."""

    async def execute(jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
        return [replace(effect, events=()) for effect in await handlers["execute"](jobs, reads)]

    return {**handlers, "execute": execute}


def publish_after_commit(settings: Settings, **overrides: Any) -> Built:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, queue=lambda queue: cast(JobQueue, PublishesLater(wraps.queue(queue))))
    return build_application(settings, **overrides, wraps=wrapped)


def new_id_on_restart(settings: Settings, **overrides: Any) -> Built:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    return build_application(settings, **overrides, wraps=replace(wraps, handlers=new_id_after_a_crash))


def intent_without_event(settings: Settings, **overrides: Any) -> Built:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    return build_application(settings, **overrides, wraps=replace(wraps, handlers=untold_intents))
