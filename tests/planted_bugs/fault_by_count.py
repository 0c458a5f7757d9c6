"""Chance as a running stream: every third request of the process never leaves, whichever it is."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

from finagent.bootstrap import Application, Wraps, build_application
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.order_execution import Objection, OrderExecutionPort, OrderRequest, SendResult, no_objection
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, broker=lambda broker: cast(OrderExecutionPort, CountingNetwork(wraps.broker(broker))))
    return build_application(settings, **overrides, wraps=wrapped)


class CountingNetwork:
    """Loses by count what it should lose by (id, instant): a process that starts again counts from nothing."""

    def __init__(self, broker: OrderExecutionPort) -> None:
        self._broker = broker
        self._requests = 0

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        self._requests += 1
        if self._requests % 3 == 0:
            return SendResult(SendOutcome.UNRESOLVED, message="lost on the way")
        return await self._broker.submit(request, objection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)
