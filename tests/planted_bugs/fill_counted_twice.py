"""The money of a fill is booked a second time."""

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, cast

from finagent.bootstrap import Application, Wraps, build_application
from finagent.domain.effect import Effect, Set
from finagent.domain.jobs import Job
from finagent.domain.orders import Fill
from finagent.domain.portfolio import Position
from finagent.domain.ports.store import JobQueue
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    wraps: Wraps = overrides.pop("wraps", Wraps())
    wrapped = replace(wraps, queue=lambda queue: cast(JobQueue, DoubleBooking(wraps.queue(queue))))
    return build_application(settings, **overrides, wraps=wrapped)


class DoubleBooking:
    """Adds the cash of the first fill of an effect to its position once more."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        fills = [record for record in effect.records if isinstance(record, Fill)]
        if fills:
            effect = replace(effect, records=tuple(self._booked(record, fills[0]) for record in effect.records))
        return self._queue.submit(effect, job)

    def _booked(self, record: Any, fill: Fill) -> Any:
        again = -fill.side.sign * fill.quantity * fill.price
        if isinstance(record, Position):
            return replace(record, cash_flow=record.cash_flow + again)
        if isinstance(record, Set) and record.record_type is Position:
            return replace(record, values={**record.values, "cash_flow": record.values["cash_flow"] + again})
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)
