"""What goes first: orders before everything else, a bulk load last and in pieces."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job, Next
from finagent.domain.portfolio import Position
from finagent.domain.trading_state import TradingState, TradingStateRecord

OpenQueue = Callable[..., Awaitable[SqliteJobQueue]]
START = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
POLICY = DurableQueuePolicy(1000, 10, 5, 1000, 30, 500, 2000, bulk_rows_max=4)


def rows(name: str, count: int = 1, *, bulk: bool = False) -> Effect:
    return Effect(tuple(Position(f"{name}-{number}", 0, Decimal(0), Decimal(0), START) for number in range(count)), bulk=bulk)


class HeldWriter:
    """A queue whose writer stands before a COMMIT until it is let go; `groups` are the effects of each later commit."""

    def __init__(self) -> None:
        self.stands, self.go = threading.Event(), threading.Event()
        self.groups: list[list[Effect]] = []
        self.holding = False

    def failpoint(self, label: str) -> None:
        if self.holding and label == "effect_commit.before":
            self.holding = False
            self.stands.set()
            assert self.go.wait(30)

    async def hold(self, queue: SqliteJobQueue) -> asyncio.Future[list[Job]]:
        """Until the writer is in the middle of a group."""
        queue.on_commit.append(lambda effects, _jobs: self.groups.append(list(effects)))
        self.holding = True
        first = queue.submit(rows("in-flight"))
        await asyncio.to_thread(self.stands.wait, 30)
        return first


async def test_a_bulk_load_in_flight_holds_an_order_up_for_one_commit_at_most(open_queue: OpenQueue) -> None:
    writer = HeldWriter()
    queue = await open_queue(failpoints=writer.failpoint, policy=POLICY)
    (protect,) = await queue.submit(Effect(next=(Next("protect", "p"),)))
    first = await writer.hold(queue)

    load = [queue.submit(rows(f"bar-{number}", bulk=True)) for number in range(40)]
    await asyncio.sleep(0)  # the load is with the writer before the order comes
    normal = queue.submit(rows("normal"))
    halt = Effect((TradingStateRecord(1, TradingState.HALTED, "stop", "test", START),))
    orders = [queue.submit(halt), queue.submit(rows("protected"), protect)]
    writer.go.set()
    await asyncio.gather(first, *orders, normal, *load)

    committed = [[effect.records for effect in group] for group in writer.groups]
    assert committed[0] == [rows("in-flight").records]
    assert committed[1] == [halt.records, rows("protected").records, rows("normal").records]
    assert [len(group) for group in committed[2:]] == [4] * 10


async def test_a_load_keeps_its_order_and_its_pieces_their_bound(open_queue: OpenQueue) -> None:
    writer = HeldWriter()
    queue = await open_queue(failpoints=writer.failpoint, policy=POLICY)
    first = await writer.hold(queue)

    sizes = [3, 1, 2, 9, 4, 1]
    load = [queue.submit(rows(f"piece-{number}", size, bulk=True)) for number, size in enumerate(sizes)]
    normal = queue.submit(rows("normal"))
    writer.go.set()
    await asyncio.gather(first, normal, *load)

    committed = [[len(effect.records) for effect in group] for group in writer.groups]
    assert committed == [[1], [1, 3, 1], [2], [9], [4], [1]]


async def test_pruning_waits_for_everybody_else(open_queue: OpenQueue) -> None:
    writer = HeldWriter()
    queue = await open_queue(failpoints=writer.failpoint, policy=replace(POLICY, bulk_rows_max=500))
    first = await writer.hold(queue)
    ended: list[str] = []

    operations: dict[str, asyncio.Future[Any]] = {"prune": queue.prune(), "normal": queue.submit(rows("normal"))}
    for name, operation in operations.items():
        operation.add_done_callback(lambda _done, name=name: ended.append(name))  # type: ignore[misc] # mypy cannot infer a lambda's default
    writer.go.set()
    await asyncio.gather(first, *operations.values())

    assert ended == ["normal", "prune"]


async def test_closing_commits_every_lane(open_queue: OpenQueue) -> None:
    queue = await open_queue(policy=POLICY)
    load = [queue.submit(rows(f"bar-{number}", 3, bulk=True)) for number in range(5)]
    normal = queue.submit(rows("normal"))

    await queue.close()

    assert [future.result() for future in (normal, *load)] == [[]] * 6
