"""The bounds of a life: what a new store starts from, what a later start finds in it, and what the end leaves."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from finagent.adapters.clock import wall_now
from finagent.adapters.database.audit import AuditKeeper
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Interrupted
from finagent.domain.identity import digest
from finagent.domain.jobs import Job
from finagent.domain.money import plain
from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
from finagent.domain.portfolio import Position
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import LedgerIdentity, MarketClock, TradingState, TradingStateRecord
from finagent.services.portfolio import ledger
from finagent.services.progress import RecoveryInfo
from finagent.services.scheduling.trading_day import session_job
from finagent.settings import Settings

FINISHED, RUNNING = "FINISHED", "RUNNING"


def _replay_key(settings: Settings, market: MarketDataPort) -> dict[str, Any]:
    return {"source_id": market.source_id, "notice": market.notice, "settings": settings.decisive()}


def first_effect(settings: Settings, market: MarketDataPort) -> Effect:
    """What a new store starts from: its identity, the clock at the first open, the trading state, the first session."""
    first, key = market.sessions()[0], _replay_key(settings, market)
    text = orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()
    identity = LedgerIdentity(
        1,
        "led-" + digest(settings.replay.seed, text, length=16),
        settings.broker.account_id,
        settings.replay.seed,
        text,
        plain(settings.replay.start_cash_usd),
        settings.settings_hash,
        wall_now(),
    )
    at = first.opens_at
    state = TradingStateRecord(1, TradingState.ACTIVE, "first start", "finagent", at)
    return Effect((identity, MarketClock(1, market.source_id, at, RUNNING), state), (session_job(first),))


def require_same_replay(settings: Settings, market: MarketDataPort, store: Reads) -> None:
    """A folder holds one replay: going on with another would mix two stories."""
    before, now = orjson.loads(ledger(store).replay_key), _replay_key(settings, market)
    differences = [f"{name}: {a} there, {b} here" for name, a, b in _differences(before, orjson.loads(orjson.dumps(now)))]
    if differences:
        listed = "\n  ".join(differences)
        raise BadInput(
            f"{settings.storage.directory} holds a different replay:\n  {listed}\n"
            "go on with the same settings, choose another storage.directory, or archive it with --fresh"
        )


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(before.keys() | now.keys()):
        a, b = before.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            yield f"{prefix}{name}", a, b


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
