"""What an application is made of, and what may be put around it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.database.audit import AuditKeeper
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.feature_store import FeatureStore
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.order_execution import OrderExecutionPort
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.sessions import Session
from finagent.services.execution.account_cache import AccountCache
from finagent.services.failpoints import Failpoints
from finagent.services.models.serving import ModelServer
from finagent.services.progress import ProgressObserver
from finagent.services.queue.processor import Handler
from finagent.settings import Settings
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.bootstrap.application import Application
    from finagent.bootstrap.live import Live
    from finagent.bootstrap.replay import Replay


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services of an application are given."""

    settings: Settings
    outside: "Replay | Live"
    broker: OrderExecutionPort
    account: AccountCache
    feature_store: FeatureStore | None
    server: ModelServer
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

    @property
    def clock(self) -> Clock:
        return self.outside.clock

    @property
    def market(self) -> MarketDataPort:
        return self.outside.market

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All that the agent may meet."""
        return self.outside.sessions


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
