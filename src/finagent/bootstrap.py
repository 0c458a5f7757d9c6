"""The one composition root: settings in, an application out; every part can be replaced by a keyword."""

import asyncio
import hashlib
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from finagent.adapters.broker.alpaca.policy import Keys, is_loopback
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.client import SimulatedBrokerClient
from finagent.adapters.broker.simulated.transport import BrokerSocket, InProcessBroker, Transport
from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.clock import PacedTime, VirtualClock, seconds_since_boot, wall_now
from finagent.adapters.database.anchor import AnchorFile
from finagent.adapters.database.audit import AuditKeeper
from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.database.migrate import upgrade, upgrade_postgres
from finagent.adapters.database.opening import open_reads, postgres_policy
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.job_queue.shared import Role, store_identity
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.adapters.market_data.files import FilesHistory, files_history, files_market
from finagent.adapters.market_data.sample import sample_market
from finagent.adapters.market_data.simulated import simulated_market
from finagent.domain.bars import Floats
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, Interrupted, Transient, Unavailable
from finagent.domain.identity import digest
from finagent.domain.jobs import Job
from finagent.domain.money import plain
from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
from finagent.domain.portfolio import Position
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.order_execution import OrderExecutionPort, SimulatedVenue
from finagent.domain.ports.predictor import Predictor
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.trading_state import LedgerIdentity, MarketClock, StartGate, TradingState, TradingStateRecord
from finagent.policies import (
    alpaca_policies,
    audit_policy,
    bridged_market_policy,
    broker_client_policy,
    broker_policy,
    check,
    cron_entries,
    durable_queue_policy,
    execution_policy,
    files_policy,
    plan_policy,
    queue_policy,
    risk_profile,
    scan_rules,
    simulated_policy,
    writer_policy,
)
from finagent.quant.specialists.gap_and_go import GapAndGoFormula, features
from finagent.services.execution.activity import BrokerActivity
from finagent.services.execution.broker_calls import BrokerCalls
from finagent.services.execution.exits import ExitService
from finagent.services.execution.gateway import ExecutionGateway
from finagent.services.execution.reconciliation import Reconciler, ReconciliationPolicy
from finagent.services.failpoints import Failpoints, around, unarmed
from finagent.services.kill_switch import KillSwitch
from finagent.services.lock_step import LockStepDriver
from finagent.services.market_data.feed import Feed
from finagent.services.paced import PacedDriver
from finagent.services.past_scan import PastScanPolicy, PastScanReport, VolumeBasis, scan_past_sessions
from finagent.services.pipeline.execution import ExecutionService
from finagent.services.pipeline.planner import PlannerService
from finagent.services.pipeline.risk import RiskService
from finagent.services.pipeline.scanner import ScannerPolicy, ScannerService
from finagent.services.pipeline.scoring import ScoringPolicy, ScoringService
from finagent.services.portfolio import ledger
from finagent.services.progress import Onlookers, ProgressObserver, RecoveryInfo, StartInfo
from finagent.services.queue.processor import Handler, JobProcessor, one_by_one
from finagent.services.queue.worker import Worker
from finagent.services.scheduling.trading_day import DayPolicy, TradingDay, scan_minutes, session_job
from finagent.settings import Settings, alpaca_keys
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.adapters.broker.alpaca.client import AlpacaVenue
    from finagent.adapters.job_queue.postgres import PostgresJobQueue

FINISHED, RUNNING = "FINISHED", "RUNNING"
GUEST = Role(leader=False, services=frozenset())  # a command on a shared store: it writes, and takes no jobs
QUEUES = ("scheduler", "reconciler", "execution", "scanner", "scoring", "planner", "risk", "sender")


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside of an application: what its services are given."""

    settings: Settings
    clock: VirtualClock
    market: MarketDataPort
    broker: OrderExecutionPort
    venue: SimulatedVenue
    queue: JobQueue
    reads: Reads
    failpoints: Failpoints
    jitter: Callable[[], Awaitable[None]] | None
    observer: ProgressObserver
    metrics: Metrics
    audit: AuditKeeper
    copy_store: Callable[[Path], Awaitable[None]]
    tidy_up: Callable[[], Awaitable[None]]
    lease_left_seconds: Callable[[], float]


async def _nobody_comes(_application: "Application", _at: datetime) -> None:
    """No person is at work."""


@dataclass(frozen=True, slots=True)
class Wraps:
    """What may be put around a part; identities by default. A wrap sees the real part and may not be armed from settings.
    `visit` is what a person does to the agent at an instant of lock-step time, before its work; nothing by default."""

    broker: Callable[[OrderExecutionPort], OrderExecutionPort] = lambda broker: broker
    queue: Callable[[JobQueue], JobQueue] = lambda queue: queue
    reads: Callable[[Reads], Reads] = lambda reads: reads
    handlers: Callable[[Parts, dict[str, Handler]], dict[str, Handler]] = lambda _parts, handlers: handlers
    visit: Callable[["Application", datetime], Awaitable[None]] = _nobody_comes


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
        _make_folder(settings.storage.directory)
        with around(failpoints, "lock"):
            stack.enter_context(DatabaseLock(settings.database_path))
        upgrade_store(settings, failpoints)
        with around(failpoints, "store_open"):
            store = open_reads(settings.store_address, settings.database.connect_seconds, settings.database.statement_seconds)
        stack.callback(store.close)
        market = market or build_market(settings)
        stored = store.get(MarketClock, 1)
        clock = VirtualClock(stored.at if stored is not None else market.sessions()[0].opens_at)
        durable = build_job_queue(settings, store, clock, failpoints, metrics)
        audit = build_audit(settings, store, durable, clock, failpoints)
        stack.push_async_callback(durable.close)
        durable.on_commit.append(lambda effects, _jobs: _tell(observer, effects))
        durable.on_group += [metrics.committed, audit.committed]
        rescued = await _begin(durable, audit, interrupted, shared=settings.storage.url is not None)
        stack.push_async_callback(_end, durable, audit)
        stored = store.get(MarketClock, 1)  # again: until now another process may have led
        if stored is not None:
            clock.set(stored.at)
        if stored is None:
            with around(failpoints, "first_effect"):
                await durable.release(await durable.submit(_first_effect(settings, market)))
        else:
            _require_same_replay(settings, market, store)
        await audit.begin()
        await stack.enter_async_context(audit.running())
        venue = build_broker_client(settings, market, clock, metrics)
        stack.push_async_callback(venue.close)
        calls = BrokerCalls(venue, venue, failpoints)
        parts = Parts(
            settings,
            clock,
            market,
            wraps.broker(calls),
            calls,
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
        yield Application(parts, wraps, _recovery(store, rescued, stored))


class Application:
    """A started agent: everything is open, nothing runs before `run`."""

    def __init__(self, parts: Parts, wraps: Wraps, recovered: RecoveryInfo | None) -> None:
        settings, clock, queue, reads = parts.settings, parts.clock, parts.queue, parts.reads
        self.parts, self.recovered = parts, recovered
        self.reads, self.queue, self.clock, self.market_data = reads, queue, clock, parts.market
        self._stop = asyncio.Event()
        halt_file = settings.storage.directory / "HALT"
        self.kill_switch = KillSwitch(
            reads, queue, clock, halt_file.exists, failpoints=parts.failpoints, held_back=parts.audit.held_back
        )
        self.feed = Feed(parts.market, clock, scan_rules(settings), parts.metrics.scan_duration.time)
        self.reconciler = Reconciler(
            parts.broker, clock, ReconciliationPolicy(settings.reconciliation.interval_seconds), self.kill_switch
        )
        self.processor = JobProcessor(
            queue=queue,
            reads=reads,
            clock=clock,
            handlers=wraps.handlers(parts, self._handlers()),
            policy=queue_policy(settings),
            seed=settings.replay.seed,
            failpoints=parts.failpoints,
            jitter=parts.jitter,
            on_invariant=self._halt_on_invariant,
            lock_step=not settings.replay.pace,
            observer=parts.metrics,
            monotonic=time.monotonic,
            stopping=self._stop.is_set,
        )
        self.processor.queues(QUEUES)
        activity = BrokerActivity(
            parts.broker, reads, queue, self.processor, clock, execution_policy(settings), settings.queue.conflict_retries_max
        )
        self.driver: LockStepDriver | PacedDriver
        if settings.replay.pace:
            self.driver = PacedDriver(
                clock=clock,
                time=PacedTime(parts.market.sessions(), ledger(reads).started_at, settings.replay.pace),
                venue=parts.venue,
                feed=self.feed,
                activity=activity,
                processor=self.processor,
                queue=queue,
                reads=reads,
                sessions=parts.market.sessions(),
                minutes=lambda session: scan_minutes(cron_entries(settings), session, int(settings.scan.misfire_seconds // 60)),
                observer=parts.observer,
                stopping=self._stop.is_set,
                tidy_up=parts.tidy_up,
                reconcile_start=self._reconcile_start,
                poll_seconds=settings.queue.poll_seconds,
            )
        else:
            self.driver = LockStepDriver(
                clock=clock,
                venue=parts.venue,
                feed=self.feed,
                activity=activity,
                processor=self.processor,
                queue=queue,
                reads=reads,
                sessions=parts.market.sessions(),
                minutes=lambda session: scan_minutes(cron_entries(settings), session),
                failpoints=parts.failpoints,
                observer=parts.observer,
                stopping=self._stop.is_set,
                tidy_up=parts.tidy_up,
                reconcile_start=self._reconcile_start,
                visit=partial(wraps.visit, self),
            )

    @property
    def finished(self) -> bool:
        """The replay in this folder has reached its end."""
        clock = self.reads.get(MarketClock, 1)
        return clock is not None and clock.state == FINISHED

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
            return await self._run()
        except* Transient as errors:
            raise Unavailable(f"the store or the broker is not there: {_first(errors)}") from errors

    async def _run(self) -> bool:
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self.processor.work(name), name=name) for name in QUEUES]
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

    async def copy_store(self, target: Path) -> None:
        """A copy of the store in a new file. Raises BadInput for one on a server, or a file that is there, Unavailable where it
        cannot be written."""
        await self.parts.copy_store(target)

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
            if audit.objection and not self.parts.settings.replay.pace:
                await _first_of(audit.accepted, self._stop)

    async def _halt_on_invariant(self, message: str) -> None:
        await self.kill_switch.halt(message, "invariant")

    def _handlers(self) -> dict[str, Handler]:
        settings, clock, kill_switch = self.parts.settings, self.clock, self.kill_switch
        scanner = ScannerService(
            self.feed,
            clock,
            ScannerPolicy(settings.scan.misfire_seconds, settings.scan.gather_seconds),
            features,
            GapAndGoFormula().data_spec_hash,
        )
        risk = RiskService(self.feed, clock, risk_profile(settings), settings.risk.sectors, kill_switch)

        def may_send() -> bool:
            return self.parts.lease_left_seconds() > settings.broker.call_seconds

        gateway = ExecutionGateway(
            self.parts.broker,
            clock,
            execution_policy(settings),
            kill_switch,
            lambda: self.feed.session.closes_at,
            may_send,
        )
        exits = ExitService(self.parts.broker, clock, execution_policy(settings), may_send)
        sessions = {session.date: session for session in self.market_data.sessions()}
        order = list(sessions)
        day = TradingDay(
            clock,
            self.feed,
            DayPolicy(cron_entries(settings), settings.plan.flat_minutes, settings.reconciliation.interval_seconds),
            sessions.__getitem__,
            lambda after: next((sessions[day] for day in order if day > after), None),
        )
        single = {
            "session": day.open,
            "report": day.close,
            "reconcile": self.reconciler.reconcile,
            "resolve": gateway.resolve,
            "expire": exits.expire,
            "protect": exits.protect,
            "flatten": exits.flatten,
            "close_out": exits.close_out,
            "scan": scanner.scan,
            "gather": risk.gather,
            "risk": risk.check,
            "execute": ExecutionService(clock).execute,
            "send": gateway.send,
        }
        alone = {name: one_by_one(handle) for name, handle in single.items()}
        return alone | _shared_handlers(settings, clock, self.parts.metrics)

    def _start_info(self) -> StartInfo:
        settings, sessions = self.parts.settings, self.market_data.sessions()
        return StartInfo(
            mode=settings.orchestrate.mode,
            source_id=self.market_data.source_id,
            notice=self.market_data.notice,
            symbols=len(self.market_data.symbols),
            first_session=sessions[0].date,
            last_session=sessions[-1].date,
            sessions=len(sessions),
            instants=sum(session.minutes for session in sessions),
            start_equity=settings.replay.start_cash_usd,
            seed=settings.replay.seed,
            ledger_id=ledger(self.reads).ledger_id,
        )


@asynccontextmanager
async def build_worker(settings: Settings, services: frozenset[str], stop: asyncio.Event) -> AsyncIterator[Worker]:
    """A process that takes part in the work of an agent elsewhere, until `stop`; the tables are the agent's to make.

    Raises BadInput for a store that only one process can use, Unavailable where there is none yet, Interrupted when it is stopped
    before it takes part.
    """
    check(settings)
    async with AsyncExitStack() as stack:
        store = open_reads(_shared_url(settings), settings.database.connect_seconds, settings.database.statement_seconds)
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
        await _unless(stop, queue.recover())
        kill_switch = KillSwitch(store, queue, clock, lambda: False)
        processor = JobProcessor(
            queue=queue,
            reads=store,
            clock=clock,
            handlers=_shared_handlers(settings, clock, metrics),
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
        yield Worker(clock, store, processor, tuple(services), queue.changed, stop.is_set, done)


# -- parts from settings -----------------------------------------------------------------------------------------------------


def build_market(settings: Settings) -> MarketDataPort:
    """The source that the settings name."""
    data, seed = settings.market_data, settings.replay.seed
    policy = bridged_market_policy(settings)
    if data.source == "sample":
        return sample_market(
            NewYorkCalendar(), seed=seed, first=data.first_session, last=data.last_session, policy=policy, symbols=data.symbols
        )
    if data.source == "simulated":
        if data.symbols:
            raise BadInput(
                "market_data.symbols: a simulated market names its own symbols; market_data.simulated.symbols counts them"
            )
        return simulated_market(
            NewYorkCalendar(),
            symbols_count=data.simulated.symbols,
            seed=seed,
            first=data.first_session,
            last=data.last_session,
            policy=simulated_policy(settings),
        )
    return files_market(
        Path(data.source.removeprefix("files:")),
        NewYorkCalendar(),
        seed=seed,
        first=data.first_session,
        last=data.last_session,
        policy=files_policy(settings),
        symbols=data.symbols,
    )


def scan_past(
    settings: Settings, location: Path, first: date, last: date, volume: VolumeBasis
) -> tuple[PastScanReport, FilesHistory]:
    """Scan the past sessions of a folder of daily bars with the rules of trading."""
    history = files_history(location, NewYorkCalendar(), first=first, last=last, policy=files_policy(settings))
    past = settings.past_scan
    policy = PastScanPolicy(past.top_gaps, past.full_day_relative_volume_min)
    return scan_past_sessions(history.sessions, scan_rules(settings), volume, policy), history


def build_simulated_broker(settings: Settings, market: MarketDataPort, failpoints: Failpoints = unarmed) -> SimulatedBroker:
    """The simulated broker on its own ledger; for this process or for one of its own (see adapters.broker.simulated.server)."""
    path = settings.storage.directory / "broker-simulator.db"
    return SimulatedBroker(path, market, broker_policy(settings), settings.replay.seed, failpoints)


def build_alpaca_simulator(
    settings: Settings, market: MarketDataPort, failpoints: Failpoints = unarmed
) -> AbstractAsyncContextManager[str]:
    """Alpaca's interface before a simulated broker on a ledger of its own; serves while it is entered and gives its URL. Raises
    BadInput where the extra with its websockets is not installed."""
    try:
        import websockets  # noqa: F401 - uvicorn serves websockets with it

        from finagent.adapters.broker.alpaca_simulator.faults import FaultKind
        from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy, paper_number
        from finagent.adapters.broker.alpaca_simulator.server import alpaca_simulator
    except ModuleNotFoundError as error:
        raise BadInput(f"the simulated Alpaca needs {error.name}: pip install 'finagent[alpaca]'") from error
    simulator = settings.alpaca_simulator
    policy = AlpacaSimulatorPolicy(
        host=simulator.host,
        port=simulator.port,
        key_id=simulator.key_id,
        secret=simulator.secret,
        pace=simulator.pace,
        requests_per_minute=simulator.requests_per_minute,
        requests_by=simulator.requests_by,
        corrected_bars=simulator.corrected_bars,
        fault_rates={FaultKind(name): rate for name, rate in simulator.faults.model_dump().items()},
        seed=settings.replay.seed,
    )
    try:
        simulator.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"alpaca_simulator.directory {simulator.directory} cannot be made: {error.strerror}") from error
    terms = replace(broker_policy(settings), account_id=paper_number(settings.broker.account_id))
    broker = SimulatedBroker(simulator.directory / "broker-simulator.db", market, terms, settings.replay.seed, failpoints)
    return alpaca_simulator(broker, terms, market, policy)


def build_broker_client(
    settings: Settings, market: MarketDataPort, clock: Clock, metrics: Metrics
) -> "SimulatedBrokerClient | AlpacaVenue":
    """The broker as the agent sees it: Alpaca, or the simulated one at its address, or in this process when it has none."""
    broker = settings.broker
    if broker.kind == "alpaca":
        return _build_alpaca(settings, clock, metrics)
    transport: Transport = (
        InProcessBroker(build_simulated_broker(settings, market)) if broker.address is None else BrokerSocket(broker.address)
    )
    return SimulatedBrokerClient(clock, transport, broker_client_policy(settings), metrics.api_request)


def _build_alpaca(settings: Settings, clock: Clock, metrics: Metrics) -> "AlpacaVenue":
    """A replay moves the market of the Alpaca simulator. Raises BadInput where the SDK or the keys are missing."""
    try:
        from finagent.adapters.broker.alpaca.client import AlpacaVenue
        from finagent.adapters.broker.alpaca.rest import AlpacaRest
    except ModuleNotFoundError as error:
        raise BadInput("broker.kind is alpaca, and its client is missing: pip install 'finagent[alpaca]'") from error
    policy, rest_policy = alpaca_policies(settings)
    if not is_loopback(rest_policy.url):
        raise BadInput(f"orchestrate.mode is replay, and nobody moves the market of {rest_policy.url}: set alpaca.url")
    rest = AlpacaRest(rest_policy, Keys(*alpaca_keys(settings)), time.monotonic, metrics.api_request)
    return AlpacaVenue(rest, clock, policy, settings.broker.advance_seconds)


def build_hash() -> str:
    """Names the code that runs: the hash of its own source files."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _shared_handlers(settings: Settings, clock: Clock, metrics: Metrics) -> dict[str, Handler]:
    """What needs neither market, broker nor gate, and so can run in any process."""
    formula = GapAndGoFormula()
    policy = ScoringPolicy(settings.model.score_decimals, settings.model.score_min)
    scoring = ScoringService(formula, clock, policy, _infer(formula, metrics))
    return {"score": scoring.score, "plan": one_by_one(PlannerService(clock, plan_policy(settings)).plan)}


def _infer(predictor: Predictor, metrics: Metrics) -> Callable[[Floats], Awaitable[Floats]]:
    async def infer(rows: Floats) -> Floats:
        with metrics.inference_duration.time():
            return await asyncio.to_thread(predictor.predict, rows)

    return infer


def upgrade_store(settings: Settings, failpoints: Failpoints) -> None:
    """The tables of this program, in the store that the settings name."""
    if settings.storage.url is None:
        upgrade(settings.database_path, writer_policy(settings), failpoints)
    else:
        upgrade_postgres(settings.storage.url, failpoints)


def build_job_queue(
    settings: Settings, store: StoreReads, clock: VirtualClock, failpoints: Failpoints, metrics: Metrics
) -> SqlJobQueue:
    """The durable queue of an agent on its store; `recover` starts it."""
    if settings.storage.url is not None:
        return build_shared_queue(settings, store, clock, failpoints, Role(leader=True, services=frozenset(QUEUES)), metrics)
    queue = SqliteJobQueue(
        settings.database_path,
        reads=store,
        clock=clock,
        policy=durable_queue_policy(settings),
        writer_policy=writer_policy(settings),
        failpoints=failpoints,
        build_hash=build_hash(),
        settings_hash=settings.settings_hash,
        worker_id=_worker_id(),
        carries_market_clock=True,
    )
    _put_carrier(queue, str(settings.database_path.resolve()), settings, metrics, alone=True)
    return queue


def build_shared_queue(
    settings: Settings, store: StoreReads, clock: VirtualClock, failpoints: Failpoints, role: Role, metrics: Metrics
) -> "PostgresJobQueue":
    """The durable queue of one of several processes. Raises BadInput for a store that only one can use."""
    url, database, queue = _shared_url(settings), settings.database, settings.queue
    policy = postgres_policy(database.connect_seconds, database.statement_seconds, database.group_operations_max)
    from finagent.adapters.job_queue.postgres import LeasePolicy, PostgresJobQueue  # its driver is an extra

    shared = PostgresJobQueue(
        url,
        reads=store,
        clock=clock,
        policy=durable_queue_policy(settings),
        postgres_policy=policy,
        lease_policy=LeasePolicy(queue.lease_seconds, queue.heartbeat_seconds, settings.broker.call_seconds, queue.poll_seconds),
        role=role,
        failpoints=failpoints,
        build_hash=build_hash(),
        settings_hash=settings.settings_hash,
        worker_id=_worker_id(),
        carries_market_clock=role.leader,
        monotonic=seconds_since_boot,
    )
    _put_carrier(shared, store_identity(store), settings, metrics, alone=role.leader)
    return shared


def _put_carrier(queue: SqlJobQueue, store: str, settings: Settings, metrics: Metrics, *, alone: bool) -> None:
    """Redis, where the settings want it, with streams named by the `store`. Raises BadInput where its client is not installed."""
    redis = settings.queue.redis
    if settings.queue.backend != "redis":
        return
    try:
        from finagent.adapters.job_queue.carrier import CarrierPolicy, RedisCarrier
        from finagent.adapters.job_queue.streams import JobStreams, StreamPolicy
    except ModuleNotFoundError as error:
        raise BadInput("queue.backend is redis, and its client is missing: pip install 'finagent[redis]'") from error
    streams = JobStreams(
        redis.url,
        digest(store, length=16),
        f"{_worker_id()}-{os.urandom(4).hex()}",
        StreamPolicy(
            call_seconds=redis.call_seconds,
            wait_seconds=redis.sweep_seconds,
            entries_max=redis.stream_entries_max,
            dead_letters_max=redis.dead_letters_max,
            min_idle_seconds=redis.min_idle_seconds,
        ),
    )
    policy = CarrierPolicy(redis.sweep_seconds, settings.queue.claim_limit, redis.dead_letters_max)
    queue.carrier = RedisCarrier(queue, streams, policy, alone=alone, observer=metrics, monotonic=time.monotonic)


def _shared_url(settings: Settings) -> str:
    if settings.storage.url is None:
        raise BadInput("a file has one process: a worker needs queue.backend postgres or redis, and storage.url")
    return settings.storage.url


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def build_audit(settings: Settings, store: StoreReads, queue: SqlJobQueue, clock: Clock, failpoints: Failpoints) -> AuditKeeper:
    """Seals and anchor of the store of the folder."""
    return AuditKeeper(
        AnchorFile(settings.anchor_path),
        store,
        queue,
        clock=clock,
        policy=audit_policy(settings),
        wall_now=wall_now,
        failpoints=failpoints,
        shared=settings.storage.url is not None,
    )


# -- first start and recovery ------------------------------------------------------------------------------------------------


def _make_folder(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"storage.directory {directory} cannot be made: {error.strerror}") from error


def _replay_key(settings: Settings, market: MarketDataPort) -> dict[str, Any]:
    return {"source_id": market.source_id, "notice": market.notice, "settings": settings.decisive()}


def _first_effect(settings: Settings, market: MarketDataPort) -> Effect:
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


def _require_same_replay(settings: Settings, market: MarketDataPort, store: Reads) -> None:
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


def _recovery(store: Reads, rescued: list[Job], stored: MarketClock | None) -> RecoveryInfo | None:
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


async def _begin(queue: SqlJobQueue, audit: AuditKeeper, interrupted: asyncio.Event | None, *, shared: bool) -> list[Job]:
    """The jobs that an earlier process left. On a shared store only whoever leads may say that it is not the one it knew."""
    if not shared:
        await audit.prepare()
        return await queue.recover()
    audit.require_ledger()
    rescued = await _unless(interrupted, queue.recover())
    await audit.prepare()
    return rescued


async def _unless(interrupted: asyncio.Event | None, recovering: asyncio.Future[list[Job]]) -> list[Job]:
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


async def _end(queue: SqlJobQueue, audit: AuditKeeper) -> None:
    """Whoever began a life seals its story, and leaves an anchor of what it committed last."""
    await audit.seal()
    await queue.close()
    await audit.write_anchor()


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
