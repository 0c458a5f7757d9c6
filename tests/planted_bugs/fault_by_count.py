"""Chance as a running stream: every third request of a process or so never leaves, whichever it is."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

import numpy as np

from finagent.bootstrap import Application, Wraps, build_application
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.order_execution import Objection, OrderExecutionPort, OrderRequest, SendResult, no_objection
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, broker=lambda broker: cast(OrderExecutionPort, CountingNetwork(wraps.broker(broker))))
    return build_application(settings, **overrides, wraps=wrapped)


class CountingNetwork:
    """Loses by its place in a stream what it should lose by (id, instant): a process that starts again begins the stream anew."""

    def __init__(self, broker: OrderExecutionPort) -> None:
        self._broker = broker
        self._chance = np.random.Generator(np.random.Philox(key=3))

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        if self._chance.random() < 1 / 3:
            return SendResult(SendOutcome.UNRESOLVED, message="lost on the way")
        return await self._broker.submit(request, objection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)
