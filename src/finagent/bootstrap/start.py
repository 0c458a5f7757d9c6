"""The bounds of a life: what a start finds in the store, and what the end leaves."""

import asyncio
from collections import Counter
from typing import Any

from finagent.adapters.database.audit import AuditKeeper
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.domain.errors import Interrupted
from finagent.domain.jobs import Job
from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
from finagent.domain.portfolio import Position
from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import MarketClock
from finagent.services.progress import RecoveryInfo

FINISHED, RUNNING = "FINISHED", "RUNNING"
ON_WALL_TIME = ""  # the replay key of a store that holds no replay


def recovery_info(store: Reads, rescued: list[Job], stored: MarketClock | None) -> RecoveryInfo | None:
    """What an earlier process left; None on a first start."""
    if stored is None:
        return None
    live = store.find(BrokerOrder, state=[state for state in OrderState if state.live])
    return RecoveryInfo(
        market_clock=stored.at,
        jobs_rescued=len(rescued),
        jobs_by_type=dict(sorted(Counter(job.type for job in rescued).items())),
        orders_open=len(live),
        orders_unresolved=sum(1 for order in live if order.outcome is SendOutcome.UNRESOLVED),
        positions=sum(1 for position in store.find(Position) if position.quantity),
        finished=stored.state == FINISHED,
    )


async def begin(queue: SqlJobQueue, audit: AuditKeeper, interrupted: asyncio.Event | None, *, shared: bool) -> list[Job]:
    """The jobs that an earlier process left. On a shared store only whoever leads may say that it is not the one it knew."""
    if not shared:
        await audit.prepare()
        return await queue.recover()
    audit.require_ledger()
    rescued = await unless(interrupted, queue.recover())
    await audit.prepare()
    return rescued


async def unless(interrupted: asyncio.Event | None, recovering: asyncio.Future[list[Job]]) -> list[Job]:
    """The jobs that an earlier process left. Raises Interrupted where an end is asked for first; the queue then is closed."""
    if interrupted is None:
        return await recovering
    asked: asyncio.Future[Any] = asyncio.ensure_future(interrupted.wait())
    try:
        await asyncio.wait([recovering, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        await asyncio.wait([asked])
    if not recovering.done():
        raise Interrupted("stopped before another process gave its place up")
    return recovering.result()


async def end(queue: SqlJobQueue, audit: AuditKeeper) -> None:
    """Whoever began a life seals its story, and leaves an anchor of what it committed last."""
    await audit.seal()
    await queue.close()
    await audit.write_anchor()
