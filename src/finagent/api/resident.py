"""The agent with everything around it: signals, health, metrics, control socket, watchdog, and the report at its end."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from finagent.adapters.database.lock import DatabaseLock
from finagent.adapters.halt_file import write_halt_file
from finagent.adapters.heap import settled_heap
from finagent.adapters.report_files import ReportFiles
from finagent.api.app import add_halt_route, control_app, public_app
from finagent.api.policies import readiness_policy, report_policy, watchdog_policy
from finagent.api.server import bind_control, bind_port, serving
from finagent.bootstrap import Application, build_application
from finagent.bootstrap.models import training_success
from finagent.domain.errors import Unavailable
from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
from finagent.services.health import HealthFacts, WorkProgress
from finagent.services.journal import Journal
from finagent.services.metering import MetricsObserver
from finagent.services.progress import Onlookers, ProgressObserver, ReplaySummary
from finagent.services.reporting.publisher import ReportPublisher
from finagent.settings import Settings, api_token
from finagent.store_access import CONTROL_SOCKET, HALT_FILE
from finagent.telemetry.logging import CurrentStderr
from finagent.telemetry.loop_watchdog import LoopWatchdog
from finagent.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)
INTERRUPTED = 130
LIVE = [state for state in OrderState if state.live]


@dataclass(slots=True)
class Resident:
    """A started agent and what watches it. Once `interrupted` is set, the instant at hand is finished and `run` returns."""

    settings: Settings
    application: Application
    work: WorkProgress
    watchdog: LoopWatchdog
    metrics: Metrics
    started_at: float
    interrupted: asyncio.Event
    address: str = ""

    async def run(self) -> ReplaySummary | None:
        """To the end of the window, then the report; None when interrupted before, at the latest `drain_seconds` after that."""
        running = asyncio.ensure_future(self.application.run())
        stopped = asyncio.ensure_future(self.interrupted.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self.application.stop()
                await asyncio.wait({running}, timeout=self.settings.orchestrate.drain_seconds)
            if not running.done():
                log.warning("stop_forced", drain_seconds=self.settings.orchestrate.drain_seconds)
                return None
            if not running.result():
                return None
        finally:
            for task in (running, stopped):
                task.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)
        summary = await self.publisher().publish(self.application.recovered, time.monotonic() - self.started_at)
        self.application.parts.observer.finished(summary)
        return summary

    def publisher(self) -> ReportPublisher:
        """The report of what the store holds now."""
        market = self.application.market_data
        return ReportPublisher(
            self.application.reads,
            market.sessions(),
            market.session_bars,
            market.source_id,
            market.notice,
            ReportFiles(self.settings.storage.directory / "reports").write,
            report_policy(self.settings),
        )

    def health(self) -> HealthFacts:
        """What readiness is judged on, as of now."""
        agent = self.application
        due = agent.queue.next_due()
        queue_age = None if due is None or self.work.finished_replay else max(0.0, (agent.clock.now() - due).total_seconds())
        return HealthFacts(
            start_gate=agent.kill_switch.gate,
            trading_state=agent.kill_switch.state().state,
            disk_full=bool(getattr(agent.queue, "disk_full", False)),  # a queue that is wrapped may not say
            finished=agent.finished,
            pass_age_seconds=self.work.pass_age_seconds,
            bar_age_seconds=self.bar_age_seconds(),
            queue_age_seconds=queue_age,
            loop_lag_seconds=max(self.watchdog.lag_seconds, 0.0),
            held_back=agent.kill_switch.held_back(),
        )

    def bar_age_seconds(self) -> float | None:
        """Since there was a bar: of the market on wall time, of market time in a replay."""
        heard = self.application.market_age_seconds
        return self.work.bar_age_seconds if heard is None else heard

    def refresh_gauges(self) -> None:
        """Before a scrape: what is cheaper to read then than to follow."""
        agent, metrics = self.application, self.metrics
        metrics.set_jobs(agent.queue.counts())
        metrics.orders_unresolved.set(agent.reads.count(BrokerOrder, outcome=SendOutcome.UNRESOLVED, state=LIVE))
        metrics.set_trading_state(agent.kill_switch.state().state)
        metrics.set_start_gate(agent.kill_switch.gate)
        metrics.bar_age.set(self.bar_age_seconds() or 0.0)
        metrics.last_pass_age.set(self.work.pass_age_seconds or 0.0)
        metrics.training_success.set(training_success(self.settings))
        metrics.log_lines_lost.set(CurrentStderr.lost)
        log_file = self.settings.database_path.with_name(self.settings.database_path.name + "-wal")
        metrics.wal_bytes.set(log_file.stat().st_size if log_file.exists() else 0)


@asynccontextmanager
async def resident(
    settings: Settings, observer: ProgressObserver, interrupted: asyncio.Event, *, serve_http: bool
) -> AsyncIterator[Resident]:
    """Build the agent and what surrounds it. `serve_http` False where another server offers the public routes."""
    token = api_token(settings)
    metrics, work, journal = Metrics(), WorkProgress(time.monotonic), Journal()
    started_at = time.monotonic()
    async with AsyncExitStack() as stack:
        listening = _bind(settings) if serve_http and settings.http.enabled else None
        if listening is not None:
            stack.callback(listening.close)
        onlookers = Onlookers([observer, MetricsObserver(metrics), work, journal])
        application = await stack.enter_async_context(
            build_application(settings, observer=onlookers, metrics=metrics, interrupted=interrupted)
        )
        journal.reads = application.reads
        watchdog = LoopWatchdog(watchdog_policy(settings), metrics.loop_turned)
        agent = Resident(settings, application, work, watchdog, metrics, started_at, interrupted)
        metrics.before_scrape(agent.refresh_gauges)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        watching = tasks.create_task(watchdog.run(), name="loop-watchdog")
        stack.callback(watching.cancel)
        if listening is not None:
            host, port = listening.getsockname()[:2]
            agent.address = f"http://{host}:{port}"
            app = public_app(agent.health, readiness_policy(settings), metrics)
            add_halt_route(app, application.kill_switch, token)
            await stack.enter_async_context(serving(app, listening))
        control = bind_control(settings.storage.directory / CONTROL_SOCKET)
        await stack.enter_async_context(
            serving(control_app(application.kill_switch, application.queue, application, time.time), control)
        )
        stack.enter_context(halting_on_signal(settings.storage.directory / HALT_FILE, tasks, application))
        stack.enter_context(settled_heap())
        yield agent


def _bind(settings: Settings) -> socket.socket:
    """The public port, before anything is started. Where a second instance on the folder finds it taken by the first, the folder
    is what it is told of (BadInput)."""
    try:
        return bind_port(settings.http.host, settings.http.port)
    except Unavailable:
        if settings.database_path.is_file():
            with DatabaseLock(settings.database_path):
                pass
        raise


@contextmanager
def halting_on_signal(file: Path, tasks: asyncio.TaskGroup, application: Application) -> Iterator[None]:
    """SIGUSR1 makes the HALT file at once, whatever the loop is doing, and has the halt committed when the loop comes to it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    loop = asyncio.get_running_loop()

    def receive(_number: int, _frame: FrameType | None) -> None:
        write_halt_file(file, json.dumps({"reason": "SIGUSR1", "by": "signal"}) + "\n")
        loop.call_soon_threadsafe(lambda: tasks.create_task(application.kill_switch.halt("SIGUSR1", "signal"), name="halt"))

    before = signal.signal(signal.SIGUSR1, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop in order; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def receive(number: int) -> None:
        if seen:
            sys.stderr.write("finagent: second signal, leaving at once; the next start recovers\n")
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        seen.append(number)
        log.info("stop_requested", signal=signal.Signals(number).name)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receive, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
