"""No answer is taken for no order: the same order goes out again under a new id."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

from finagent.bootstrap import Application, Wraps, build_application
from finagent.domain.orders import SendOutcome
from finagent.domain.ports.order_execution import Objection, OrderExecutionPort, OrderRequest, SendResult, no_objection
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, broker=lambda broker: cast(OrderExecutionPort, ImpatientBroker(wraps.broker(broker))))
    return build_application(settings, **overrides, wraps=wrapped)


class ImpatientBroker:
    """Tries once more, as somebody else."""

    def __init__(self, broker: OrderExecutionPort) -> None:
        self._broker = broker

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        result = await self._broker.submit(request, objection)
        if result.outcome is not SendOutcome.UNRESOLVED:
            return result
        await self._broker.submit(replace(request, client_order_id=f"{request.client_order_id}-r"))
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)
