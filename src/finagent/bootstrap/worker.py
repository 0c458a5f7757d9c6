"""A process that takes part in the work of an agent elsewhere."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from finagent.adapters.clock import VirtualClock
from finagent.adapters.database.opening import open_reads
from finagent.adapters.job_queue.shared import Role
from finagent.bootstrap.handlers import shared_handlers
from finagent.bootstrap.models import build_follower, build_server, build_serving
from finagent.bootstrap.start import unless
from finagent.bootstrap.store import build_shared_queue, shared_url
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.trading_state import LedgerIdentity, MarketClock
from finagent.policies import check, queue_policy
from finagent.services.failpoints import unarmed
from finagent.services.kill_switch import KillSwitch
from finagent.services.queue.processor import JobProcessor
from finagent.services.queue.worker import Worker
from finagent.settings import Settings
from finagent.telemetry.metrics import Metrics


@asynccontextmanager
async def build_worker(settings: Settings, services: frozenset[str], stop: asyncio.Event) -> AsyncIterator[Worker]:
    """A process that takes part in the work of an agent elsewhere, until `stop`; the tables are the agent's to make.

    Raises BadInput for a store that only one process can use, Unavailable where there is none yet, Interrupted when it is stopped
    before it takes part.
    """
    check(settings)
    async with AsyncExitStack() as stack:
        store = open_reads(shared_url(settings), settings.database.connect_seconds, settings.database.statement_seconds)
        stack.callback(store.close)
        metrics, theirs = Metrics(), store.find(LedgerIdentity)
        if theirs and theirs[0].settings_hash != settings.settings_hash:
            raise BadInput(
                f"the agent's settings decide otherwise ({theirs[0].settings_hash} there, {settings.settings_hash} here): "
                "a worker needs the same settings, `finagent config show` on both sides shows the difference"
            )
        leaders = store.get(MarketClock, 1)
        if leaders is None:
            raise Unavailable("no agent has started on this store yet: there is no market time to work in")
        clock = VirtualClock(leaders.at)
        queue = build_shared_queue(settings, store, clock, unarmed, Role(leader=False, services=services), metrics)
        stack.push_async_callback(queue.close)
        await unless(stop, queue.recover())
        server = await stack.enter_async_context(build_server(settings, build_serving(settings), metrics).running())
        kill_switch = KillSwitch(store, queue, clock, lambda: False)
        processor = JobProcessor(
            queue=queue,
            reads=store,
            clock=clock,
            handlers=shared_handlers(settings, clock, server),
            policy=queue_policy(settings),
            seed=settings.replay.seed,
            failpoints=unarmed,
            jitter=None,
            on_invariant=lambda message: kill_switch.halt(message, "invariant"),
            lock_step=False,
            observer=metrics,
            monotonic=time.monotonic,
        )
        processor.queues(tuple(services))
        done: Counter[str] = Counter()
        queue.on_commit.append(lambda _effects, jobs: done.update(job.type for job in jobs if job is not None))
        follower = build_follower(settings, server, queue, store, clock.now, None)
        yield Worker(
            clock, store, processor, tuple(services), queue.changed, stop.is_set, done, (follower.run,) if follower else ()
        )
