"""A process beside the leader: it takes the jobs of a few services as they come, in the leader's market time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import MarketClock
from finagent.services.driver import SettableClock
from finagent.services.queue.processor import JobProcessor


@dataclass(frozen=True, slots=True)
class Worker:
    """`changed` waits until another process may have left work; `stopping`: an orderly end was asked for; `done` counts
    jobs; `beside` runs as long as it works."""

    clock: SettableClock
    reads: Reads
    processor: JobProcessor
    services: Sequence[str]
    changed: Callable[[], Awaitable[None]]
    stopping: Callable[[], bool]
    done: Counter[str]
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()

    async def run(self) -> dict[str, int]:
        """Until stopped; what was claimed is finished first. Answers with the jobs done by type."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.processor.work(name), name=name) for name in self.services]
            running += [tasks.create_task(each()) for each in self.beside]
            while not self.stopping():
                self._follow()
                await self.processor.poll()
                await self.changed()
            await self.processor.quiet.wait()
            for task in running:
                task.cancel()
        return dict(self.done)

    def _follow(self) -> None:
        """The commit that published a job carried the instant in which it is due."""
        leaders = self.reads.get(MarketClock, 1)
        if leaders is not None and leaders.at > self.clock.now():
            self.clock.set(leaders.at)
