"""The store that the settings name: its tables, its queue, its seals."""

import hashlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.clock import seconds_since_boot, wall_now
from finagent.adapters.database.anchor import AnchorFile
from finagent.adapters.database.audit import AuditKeeper
from finagent.adapters.database.migrate import upgrade, upgrade_postgres
from finagent.adapters.database.opening import postgres_policy
from finagent.adapters.database.reader import StoreReads
from finagent.adapters.job_queue.shared import Role, store_identity
from finagent.adapters.job_queue.sql import SqlJobQueue
from finagent.adapters.job_queue.sqlite import SqliteJobQueue
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.identity import digest
from finagent.domain.ports.clock import Clock
from finagent.policies import audit_policy, durable_queue_policy, writer_policy
from finagent.services.failpoints import Failpoints
from finagent.settings import Settings
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.adapters.job_queue.postgres import PostgresJobQueue


GUEST = Role(leader=False, services=frozenset())  # a command on a shared store: it writes, and takes no jobs
QUEUES = ("scheduler", "reconciler", "execution", "scanner", "scoring", "planner", "risk", "sender")


def make_folder(setting: str, directory: Path) -> None:
    """The folder that a setting names. Raises Unavailable where it cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{setting} {directory} cannot be made: {error.strerror}") from error


def upgrade_store(settings: Settings, failpoints: Failpoints) -> None:
    """The tables of this program, in the store that the settings name."""
    if settings.storage.url is None:
        upgrade(settings.database_path, writer_policy(settings), failpoints)
    else:
        upgrade_postgres(settings.storage.url, failpoints)


def build_job_queue(settings: Settings, store: StoreReads, clock: Clock, failpoints: Failpoints, metrics: Metrics) -> SqlJobQueue:
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
    settings: Settings, store: StoreReads, clock: Clock, failpoints: Failpoints, role: Role, metrics: Metrics
) -> "PostgresJobQueue":
    """The durable queue of one of several processes. Raises BadInput for a store that only one can use."""
    url, database, queue = shared_url(settings), settings.database, settings.queue
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


def shared_url(settings: Settings) -> str:
    """The address of a store that several processes share. Raises BadInput where one alone has it."""
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


def build_hash() -> str:
    """Names the code that runs: the hash of its own source files."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
