"""What a running agent does with each order, as the words of the model: an observer around its broker and its queue."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.bootstrap import Wraps
from finagent.domain.effect import Effect, Set
from finagent.domain.jobs import Job
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, OrderState, SendOutcome
from finagent.domain.ports.order_execution import LookUp, Objection, OrderExecutionPort, OrderRequest, SendResult, no_objection
from finagent.domain.ports.store import JobQueue
from finagent.domain.trading_state import TradingState, TradingStateRecord

ORDER_JOBS = ("send", "resolve")
ORDER_WORKERS = ("sender", "execution")  # the tasks that look orders up to settle them; the reconciler only compares
TRADED = (OrderState.PARTIALLY_FILLED, OrderState.FILLED)
ENDED_UNFILLED = (OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED)


class Crash(BaseException):
    """The process ends here: no handler sees it."""


@dataclass(slots=True)
class Observer:
    """The traces of all orders, over as many processes as there were."""

    traces: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    passages: Counter[str] = field(default_factory=Counter)
    crash_at: tuple[str, int] = ("", 0)  # the place, and which of its passages in this process
    entries: set[str] = field(default_factory=set)
    halted: bool = False

    def wraps(self) -> Wraps:
        """What `build_application` is given."""
        return Wraps(
            broker=lambda broker: cast(OrderExecutionPort, ObservedBroker(broker, self)),
            queue=self._watched,
        )

    def _watched(self, queue: JobQueue) -> JobQueue:
        """Every commit is told in the order of the commits, before anybody who waited for it goes on."""
        assert isinstance(queue, SqlJobQueue)
        queue.on_commit.append(self._committed)
        return cast(JobQueue, BreakableQueue(queue, self))

    def passed(self, place: str) -> None:
        """Ends the process if it is to end here."""
        self.passages[place] += 1
        if self.crash_at == (place, self.passages[place]):
            raise Crash(place)

    def crashed(self) -> None:
        """The process is gone; whatever comes is of the next one."""
        for trace in self.traces.values():
            trace.append("crashes and starts again")

    def _committed(self, effects: Sequence[Effect], jobs: Sequence[Job | None]) -> None:
        for effect, job in zip(effects, jobs, strict=True):
            self._told(effect, job)

    def _told(self, effect: Effect, job: Job | None) -> None:
        for record in effect.records:
            if isinstance(record, OrderIntent) and record.parent_client_order_id is None:
                self._begun(record)
            elif _halts(record) and not self.halted:
                self.halted = True
                for name in self.entries:
                    self.traces[name].append("person halts")
        changes = _changes(effect)
        if job is not None and job.type in ORDER_JOBS:
            name = job.payload["client_order_id"]
            self.traces[name].append(f"commits: {_of_job(changes.pop(name, {}), effect)}")
        for name, values in changes.items():
            if name in self.traces and "state" in values:
                self._observed(name, values["state"])

    def _begun(self, intent: OrderIntent) -> None:
        """A halt binds entries only: exits go on."""
        trace = self.traces[intent.client_order_id]
        if intent.leg is Leg.ENTRY:
            self.entries.add(intent.client_order_id)
            trace += ["person halts"] if self.halted else []
        trace.append("commits: intent")

    def _observed(self, name: str, state: OrderState) -> None:
        traded = any(before.endswith("observes: FILLED") for before in self.traces[name])
        if not traded:  # more fills and the end of the rest change no outcome
            self.traces[name].append(f"observes: {_reported(state)}")


def _halts(record: Any) -> bool:
    return (
        isinstance(record, Set) and record.record_type is TradingStateRecord and record.values.get("state") is TradingState.HALTED
    )


def _changes(effect: Effect) -> dict[str, dict[str, Any]]:
    """What becomes of each order's row."""
    changes: dict[str, dict[str, Any]] = defaultdict(dict)
    for record in effect.records:
        if isinstance(record, Set) and record.record_type is BrokerOrder:
            changes[record.key[0]] |= record.values
    return changes


def _of_job(values: dict[str, Any], effect: Effect) -> str:
    outcome, state = values.get("outcome"), values.get("state")
    if outcome is SendOutcome.CONFIRMED:
        return _reported(values["state"])
    if outcome is SendOutcome.REFUSED:
        return "REJECTED"
    if outcome is SendOutcome.UNRESOLVED:
        return "UNRESOLVED"
    if state is not None:
        return str(state.value)
    published = {following.type for following in effect.next}
    return "sent again" if "send" in published else "again" if "resolve" in published else "nothing"


def _reported(state: OrderState) -> str:
    return "FILLED" if state in TRADED else "CANCELLED" if state in ENDED_UNFILLED else "ACCEPTED"


class ObservedBroker:
    """Tells what is asked of the broker and what it answers."""

    def __init__(self, broker: OrderExecutionPort, observer: Observer) -> None:
        self._broker, self._observer = broker, observer

    async def look_up(self, client_order_id: str) -> LookUp:
        task = asyncio.current_task()
        ours = task is not None and task.get_name() in ORDER_WORKERS
        answer = await self._broker.look_up(client_order_id)
        if ours:
            self._observer.traces[client_order_id] += ["barrier", f"look-up: {answer.found.value}"]
            self._observer.passed("looked up")
        return answer

    async def submit(self, request: OrderRequest, objection: Objection = no_objection) -> SendResult:
        trace = self._observer.traces[request.client_order_id]
        self._observer.passed("before a send")
        trace.append("hands over")
        result = await self._broker.submit(request, objection)
        self._observer.passed("before an answer")
        trace.append(f"answer: {result.outcome.value}")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


class BreakableQueue:
    """Ends the process before or after the commit of an order's job."""

    def __init__(self, queue: JobQueue, observer: Observer) -> None:
        self._queue, self._observer = queue, observer

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        if job is None or job.type not in ("execute", *ORDER_JOBS):
            return self._queue.submit(effect, job)
        self._observer.passed(f"before the commit of {job.type}")
        return asyncio.ensure_future(self._committed(self._queue.submit(effect, job), job.type))

    async def _committed(self, submitted: Awaitable[list[Job]], job_type: str) -> list[Job]:
        published = await submitted
        self._observer.passed(f"after the commit of {job_type}")
        return published

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)
