"""The one composition root: settings in, an application out; every part can be replaced by a keyword."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.database.audit import AuditKeeper
from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.opening import open_reads
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.adapters.news.lexicon import LexiconScorer
from finagent.bootstrap.drivers import build_driver
from finagent.bootstrap.features import build_feature_cache, build_return_history, open_feature_store
from finagent.bootstrap.handlers import agent_handlers
from finagent.bootstrap.live import Live, build_live
from finagent.bootstrap.market import build_sources
from finagent.bootstrap.models import build_follower, build_server, build_serving, build_training_command
from finagent.bootstrap.parts import Parts, Wraps
from finagent.bootstrap.replay import Replay
from finagent.bootstrap.start import FINISHED, begin, end, recovery_info
from finagent.bootstrap.store import QUEUES, build_audit, build_job_queue, make_folder, upgrade_store
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.jobs import Job
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import MarketClock, StartGate, TradingState
from finagent.policies import check, execution_policy, queue_policy, scan_rules
from finagent.services.execution.account_cache import AccountCache
from finagent.services.execution.activity import BrokerActivity
from finagent.services.execution.reconciliation import Reconciler, ReconciliationPolicy
from finagent.services.execution.symbol_locks import locked_symbols
from finagent.services.execution.trade_updates import TradeUpdateInbox
from finagent.services.failpoints import Failpoints, around, unarmed
from finagent.services.kill_switch import KillSwitch
from finagent.services.live import LiveDriver
from finagent.services.market_data.feed import Feed
from finagent.services.market_data.news import NewsFeatures
from finagent.services.models.history import ChampionChange, champion_changed
from finagent.services.portfolio import ledger
from finagent.services.progress import Onlookers, ProgressObserver, RecoveryInfo, StartInfo
from finagent.services.queue.processor import JobProcessor
from finagent.services.reporting.canonical import as_plain
from finagent.settings import Settings
from finagent.telemetry.metrics import Metrics


@asynccontextmanager
async def build_application(
    settings: Settings,
    *,
    failpoints: Failpoints = unarmed,
    jitter: Callable[[], Awaitable[None]] | None = None,
    market: MarketDataPort | None = None,
    observer: ProgressObserver | None = None,
    metrics: Metrics | None = None,
    wraps: Wraps | None = None,
    interrupted: asyncio.Event | None = None,
) -> AsyncIterator["Application"]:
    """Open the folder, bring its store up to date, take over what an earlier process left, and wire the agent.

    Start and recovery are the same path. Raises BadInput (second instance, a different replay in the folder), Unavailable
    (folder, disk), or Interrupted, when that is set while it waits for another leader.
    """
    wraps, observer, metrics = wraps or Wraps(), observer or Onlookers(), metrics or Metrics()
    async with AsyncExitStack() as stack:
        check(settings)
        failpoints("recovery.before")
        make_folder("storage.directory", settings.storage.directory)
        with around(failpoints, "lock"):
            stack.enter_context(DatabaseLock(settings.database_path))
        serving = build_serving(settings)
        upgrade_store(settings, failpoints)
        with around(failpoints, "store_open"):
            store = open_reads(settings.store_address, settings.database.connect_seconds, settings.database.statement_seconds)
        stack.callback(store.close)
        outside = await _open_outside(settings, metrics, market, store, stack)
        clock = outside.clock
        durable = build_job_queue(settings, store, clock, failpoints, metrics)
        audit = build_audit(settings, store, durable, clock, failpoints)
        stack.push_async_callback(durable.close)
        durable.on_commit.append(lambda effects, _jobs: _tell(observer, effects))
        durable.on_group += [metrics.committed, audit.committed]
        rescued = await begin(durable, audit, interrupted, shared=settings.storage.url is not None)
        stack.push_async_callback(end, durable, audit)
        stored = store.get(MarketClock, 1)
        if stored is not None:
            outside.take_over(store)
        broker = await outside.open_broker(stack, failpoints, metrics)
        opening = await outside.opening(store, broker)
        if opening != Effect():
            with around(failpoints, "first_effect"):
                await durable.release(await durable.submit(opening))
        account = AccountCache(broker, clock, settings.wall_time.account_cache_seconds)
        durable.on_commit.append(lambda effects, _jobs: account.committed(effects))
        await audit.begin()
        await stack.enter_async_context(audit.running())
        parts = Parts(
            settings,
            outside,
            wraps.broker(broker),
            account,
            await stack.enter_async_context(open_feature_store(settings)),
            await stack.enter_async_context(build_server(settings, serving, metrics).running()),
            wraps.queue(durable),
            wraps.reads(store),
            failpoints,
            jitter,
            observer,
            metrics,
            audit,
            lambda target: _copy_store(durable, target, settings.database.backup_step_pages),
            lambda: _tidy_up(durable, audit, settings.queue.prune_batch),
            durable.lease_left_seconds,
        )
        yield Application(parts, wraps, recovery_info(store, rescued, stored))


class Application:
    """A started agent: everything is open, nothing runs before `run`."""

    def __init__(self, parts: Parts, wraps: Wraps, recovered: RecoveryInfo | None) -> None:
        settings, clock, queue, reads = parts.settings, parts.clock, parts.queue, parts.reads
        self.parts, self.recovered = parts, recovered
        self.reads, self.queue, self.clock, self.market_data = reads, queue, clock, parts.market
        self._stop = asyncio.Event()
        self._halt_file = halt_file = settings.storage.directory / "HALT"
        self.kill_switch = KillSwitch(
            reads, queue, clock, halt_file.exists, failpoints=parts.failpoints, held_back=self._held_back
        )
        heard = parts.metrics.features_found
        days = build_feature_cache(settings, parts.market, parts.feature_store, clock.now, lambda found: heard(found.value))
        sources = parts.outside.sources
        news = NewsFeatures(sources.news, LexiconScorer(), asyncio.to_thread) if sources.news else None
        returns = build_return_history(settings, parts.market)
        self.feed = Feed(
            sources.market, clock, scan_rules(settings), days, news, sources.quotes, returns, parts.metrics.scan_duration.time
        )
        self.follower = build_follower(settings, parts.server, queue, reads, clock.now, parts.market)
        self.reconciler = Reconciler(
            parts.broker, clock, ReconciliationPolicy(settings.reconcile_seconds), self.kill_switch, self._look
        )
        inbox = TradeUpdateInbox(
            reads,
            queue,
            clock,
            self._looked_at,
            settings.wall_time.activity_seconds,
            settings.execution.lookup_window_seconds,
        )
        self.trainer = build_training_command(settings) if settings.on_wall_time else None
        handlers = agent_handlers(parts, self.feed, returns, self.kill_switch, self.reconciler, inbox, self.trainer)
        self.processor = JobProcessor(
            queue=queue,
            reads=reads,
            clock=clock,
            handlers=wraps.handlers(parts, handlers),
            policy=queue_policy(settings),
            seed=settings.replay.seed,
            failpoints=parts.failpoints,
            jitter=parts.jitter,
            on_invariant=self._halt_on_invariant,
            lock_step=settings.lock_step,
            observer=parts.metrics,
            monotonic=time.monotonic,
            stopping=self._stop.is_set,
        )
        self.processor.queues(QUEUES)
        self.kill_switch.flat_by = lambda now: NewYorkCalendar().session_at_or_after(now).closes_at
        self.kill_switch.hand_on = self._hand_on
        activity = BrokerActivity(
            parts.broker, reads, queue, self.processor, clock, execution_policy(settings), settings.queue.conflict_retries_max
        )
        self.driver = build_driver(
            parts,
            self.feed,
            activity,
            self.processor,
            self._stop.is_set,
            self._reconcile_start,
            partial(wraps.visit, self),
            self.notice_halt_file,
            inbox,
        )

    @property
    def finished(self) -> bool:
        """The replay in this folder has reached its end."""
        clock = self.reads.get(MarketClock, 1)
        return clock is not None and clock.state == FINISHED

    async def _look(self) -> None:
        """Bring the broker's activity by now into the store; lock-step has done so when an instant began."""
        if isinstance(self.driver, LiveDriver):
            await self.driver.watch.catch_up()

    def _looked_at(self) -> datetime:
        """The last look at the broker's activity; in a replay every instant begins with one."""
        return self.driver.watch.looked_at if isinstance(self.driver, LiveDriver) else self.clock.now()

    def _held_back(self) -> str:
        """Why new risk has to wait although nobody halted; empty when it does not."""
        return self.parts.audit.held_back() or self.parts.outside.held_back()

    @property
    def market_age_seconds(self) -> float | None:
        """On wall time: since the open market was last heard of. None in a replay, where time that moves is the sign of life."""
        outside = self.parts.outside
        return outside.market.stale_seconds() if isinstance(outside, Live) else None

    def stop(self) -> None:
        """Ask for an orderly end: what is under way is finished, nothing new is begun."""
        self._stop.set()

    async def run(self) -> bool:
        """Run to the end of the window; False when stopped before it."""
        self.parts.observer.started(self._start_info())
        if self.recovered is not None:
            self.parts.observer.recovered(self.recovered)
        if self.finished:
            return True
        try:
            async with AsyncExitStack() as stack:
                if self.trainer is not None:
                    stack.push_async_callback(self.trainer.close)
                return await self._run()
        except* Transient as errors:
            raise Unavailable(f"the store or the broker is not there: {_first(errors)}") from errors

    async def _run(self) -> bool:
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self.processor.work(name), name=name) for name in QUEUES]
            if self.follower is not None:
                workers.append(tasks.create_task(self.follower.run(), name="models"))
            ended = await self.driver.run()
            if ended:
                await self.queue.submit(Effect((Set(MarketClock, (1,), {"state": FINISHED}),)))
            for worker in workers:
                worker.cancel()
        return ended

    async def accept_store(self, reason: str, by: str) -> None:
        """A person takes a store that its anchor does not remember as it is; the broker is compared with it anew."""
        await self.parts.audit.accept(reason, by)
        self.kill_switch.gate = StartGate.STARTING

    async def record_champion(self, change: ChampionChange) -> str:
        """A person made another model the champion of the registry: recorded, and on wall time served from now on. Says which
        version serves by then."""
        await self.queue.submit(Effect(events=(champion_changed(change, self.clock.now()),)))
        if self.follower is not None:
            await self.follower.look(anew=True)
        serving = self.parts.server.serving.champion
        return serving.version if serving else ""

    async def copy_store(self, target: Path) -> None:
        """A copy of the store in a new file. Raises BadInput for one on a server, or a file that is there, Unavailable where it
        cannot be written."""
        await self.parts.copy_store(target)

    async def broker_account(self) -> dict[str, Any]:
        """What the broker says the account holds. Raises Unavailable where it does not answer, BadInput in a replay, whose broker
        is at the market's instant and at no other."""
        if not isinstance(self.parts.outside, Live):
            raise BadInput("a replay's account is in its store: `finagent status`")
        try:
            held = await self.parts.account.read()
        except Transient as error:
            raise Unavailable(f"the broker does not answer: {error}") from error
        document: dict[str, Any] = as_plain(held)
        return document

    async def reconcile(self, release_by: str | None) -> dict[str, Any]:
        """Compare with the broker now. Where a person is named, they have looked: locked symbols are released with what the
        broker holds beyond ours. Raises Unavailable where the broker does not answer."""
        outside = self.parts.outside
        try:
            await self._look()
            if isinstance(outside, Replay):
                await outside.venue.advance(self.clock.now())
            released: list[str] = []
            if release_by is not None:
                released = sorted(locked_symbols(self.reads))
                await self.queue.submit(await self.reconciler.release(self.reads, release_by))
            differences = await self.reconciler.differences(self.reads)
        except Transient as error:
            raise Unavailable(f"the broker does not answer: {error}") from error
        return {
            "differences": [{"symbol": difference.symbol, "text": difference.text} for difference in differences],
            "locked": sorted(locked_symbols(self.reads)),
            "released": released,
        }

    async def _reconcile_start(self) -> None:
        """No new risk until the broker and we agree; what an earlier process left is then taken over.

        In lock-step replayed time stands still while the store waits for a person: nothing is decided that a sound one would have
        decided otherwise.
        """
        audit = self.parts.audit
        while self.kill_switch.gate is StartGate.STARTING and not self._stop.is_set():
            with around(self.parts.failpoints, "start_reconcile"):
                await self.reconciler.start(self.reads)
            self.parts.failpoints("recovery.after")
            if audit.objection and self.parts.settings.lock_step:
                await _first_of(audit.accepted, self._stop)

    async def _hand_on(self, published: list[Job]) -> None:
        """Jobs that are due go to their service at once."""
        await self.queue.release(self.processor.offer(published))

    async def notice_halt_file(self) -> None:
        """The HALT file keeps sends back by itself; what waits at the broker has to be cancelled, which a committed halt does."""
        if self._halt_file.exists() and self.kill_switch.state().state is not TradingState.HALTED:
            await self.kill_switch.halt("HALT file", "file")

    async def _halt_on_invariant(self, message: str) -> None:
        await self.kill_switch.halt(message, "invariant")

    def _start_info(self) -> StartInfo:
        settings, sessions = self.parts.settings, self.parts.outside.sessions_ahead
        return StartInfo(
            mode=settings.orchestrate.mode,
            source_id=self.market_data.source_id,
            notice=self.market_data.notice,
            symbols=len(self.market_data.symbols),
            first_session=sessions[0].date,
            last_session=sessions[-1].date,
            sessions=len(sessions),
            instants=sum(session.minutes for session in sessions),
            start_equity=Decimal(ledger(self.reads).start_cash),
            seed=settings.replay.seed,
            ledger_id=ledger(self.reads).ledger_id,
        )


async def _open_outside(
    settings: Settings, metrics: Metrics, market: MarketDataPort | None, store: Reads, stack: AsyncExitStack
) -> Replay | Live:
    if not settings.on_wall_time:
        return Replay(settings, build_sources(settings, market), store.get(MarketClock, 1))
    live = await build_live(settings, metrics)
    stack.push_async_callback(live.close)
    return live


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _copy_store(queue: SqlJobQueue, target: Path, step_pages: int) -> None:
    if not isinstance(queue, SqliteJobQueue):
        raise BadInput("the store is on a server: make the copy there, with pg_dump")
    await queue.copy(target, step_pages)


async def _tidy_up(queue: SqlJobQueue, audit: AuditKeeper, batch: int) -> None:
    """Between two sessions: seal the story so far, and forget jobs that were done long ago, a batch a commit."""
    await audit.seal()
    while await queue.prune() == batch:
        continue


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """The first error of a group, however deep."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _tell(observer: ProgressObserver, effects: Sequence[Effect]) -> None:
    for effect in effects:
        observer.committed(effect)
