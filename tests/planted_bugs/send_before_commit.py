"""The order leaves while its intent is still on the way to the disk."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from finagent.bootstrap import Application, Parts, Wraps, build_application
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job
from finagent.domain.orders import Leg, OrderIntent
from finagent.domain.ports.order_execution import OrderRequest
from finagent.domain.ports.store import Reads
from finagent.services.queue.processor import Handler
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    return build_application(settings, **overrides, wraps=replace(wraps, handlers=hasty))


def hasty(parts: Parts, handlers: dict[str, Handler]) -> dict[str, Handler]:
    """The execution service sends at once; what it returns is committed when the broker has answered."""

    async def execute(jobs: Sequence[Job], reads: Reads) -> Sequence[Effect]:
        effects = await handlers["execute"](jobs, reads)
        for effect in effects:
            intents = [record for record in effect.records if isinstance(record, OrderIntent)]
            if intents:
                await parts.broker.submit(request_of(intents))
                if parts.jitter is not None:
                    await parts.jitter()
        return effects

    return {**handlers, "execute": execute}


def request_of(intents: list[OrderIntent]) -> OrderRequest:
    entry = next(intent for intent in intents if intent.leg is Leg.ENTRY)
    target = next(intent for intent in intents if intent.leg is Leg.TARGET)
    stop = next(intent for intent in intents if intent.leg is Leg.STOP)
    return OrderRequest(
        entry.client_order_id,
        entry.symbol,
        entry.side,
        entry.quantity,
        entry.type,
        entry.limit_price,
        entry.stop_price,
        entry.order_class,
        entry.time_in_force,
        target.limit_price,
        stop.stop_price,
    )
