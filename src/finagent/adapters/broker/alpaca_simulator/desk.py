"""The simulated broker on a thread of its own: the loop never waits for its disk or its market."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.changes import Changes
from finagent.adapters.broker.simulated.wire import Json
from finagent.domain.time import to_text

T = TypeVar("T")


class Withheld(Exception):
    """The broker's own fault draw says that nobody hears an answer."""


class Refused(Exception):
    """The broker's no: HTTP status and body."""

    def __init__(self, status: int, code: int | None, message: str, **details: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {**({} if code is None else {"code": code}), "message": message, **details}


class Desk:
    """Requests reach the broker one after the other. `watchers` make updates of each commit on its thread, `listeners` are told
    them on the loop before whoever asked gets the answer; `clocks` hear of market time that moved, from and to. Owns the
    broker; market time starts at `opens_at` on a new ledger."""

    def __init__(self, broker: SimulatedBroker, opens_at: datetime) -> None:
        self._broker = broker
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="alpaca-simulator")
        self._updates: list[Json] = []
        self.watchers: list[Callable[[SimulatedBroker, Changes], list[Json]]] = []
        self.listeners: list[Callable[[list[Json]], None]] = []
        self.clocks: list[Callable[[datetime, datetime], Awaitable[None]]] = []
        broker.on_commit.append(self._watch)
        if broker.now is None:
            broker.handle({"method": "advance", "at": to_text(opens_at)})
        self._now = broker.now or opens_at

    @property
    def now(self) -> datetime:
        """Market time."""
        return self._now

    async def ask(self, question: Callable[[SimulatedBroker], T]) -> T:
        """Run on the broker's thread. A caller that goes away does not stop what it asked for."""
        return await asyncio.shield(self._run(question))

    async def advance(self, at: datetime) -> None:
        """Move market time on; an instant that it has seen changes nothing."""
        before = self._now
        await self.ask(lambda broker: told(broker, {"method": "advance"}, at))
        for moved in self.clocks:
            await moved(before, self._now)

    async def close(self) -> None:
        """End the thread after what it is doing, then the broker."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._broker.close)
        self._thread.shutdown()

    def _watch(self, changes: Changes) -> None:
        for watcher in self.watchers:
            self._updates += watcher(self._broker, changes)

    async def _run(self, question: Callable[[SimulatedBroker], T]) -> T:
        answer, updates = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        self._now = self._broker.now or self._now
        for listener in self.listeners if updates else ():
            listener(updates)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer(self, question: Callable[[SimulatedBroker], T]) -> tuple[T | Exception, list[Json]]:
        answer: T | Exception
        try:
            answer = question(self._broker)
        except Exception as error:  # noqa: BLE001 - what was committed before it is told nevertheless
            answer = error
        updates, self._updates = self._updates, []
        return answer, updates


def told(broker: SimulatedBroker, frame: Json, at: datetime | None = None) -> Json:
    """The body of the broker's answer to a frame at its present time. Raises Refused for a no and Withheld for silence."""
    answer = broker.handle({**frame, "at": to_text(at or present(broker))})
    if answer.get("withheld"):
        raise Withheld
    if answer["status"] not in (200, 204):
        body = dict(answer["body"])
        raise Refused(answer["status"], body.pop("code"), body.pop("message"), **body)
    body = answer["body"]
    return body if body is not None else {}


def present(broker: SimulatedBroker) -> datetime:
    """The broker's market time, which the desk set when it opened."""
    assert broker.now is not None
    return broker.now
