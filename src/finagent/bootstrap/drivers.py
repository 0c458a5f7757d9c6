"""Who moves market time on: the driver that the settings ask for."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from finagent.adapters.clock import PacedTime
from finagent.bootstrap.live import Live
from finagent.bootstrap.parts import Parts
from finagent.policies import cron_entries
from finagent.services.driver import Driver, DriverParts
from finagent.services.execution.activity import BrokerActivity
from finagent.services.execution.trade_updates import TradeUpdateInbox
from finagent.services.live import BrokerWatch, LiveDriver
from finagent.services.lock_step import LockStepDriver
from finagent.services.market_data.feed import Feed
from finagent.services.paced import PacedDriver
from finagent.services.portfolio import ledger
from finagent.services.queue.processor import JobProcessor
from finagent.services.scheduling.trading_day import scan_minutes


def build_driver(
    parts: Parts,
    feed: Feed,
    activity: BrokerActivity,
    processor: JobProcessor,
    stopping: Callable[[], bool],
    reconcile_start: Callable[[], Awaitable[None]],
    visit: Callable[[datetime], Awaitable[None]],
    notice_halt: Callable[[], Awaitable[None]],
    inbox: TradeUpdateInbox,
) -> Driver:
    """Lock-step, at the pace that the settings name, or on wall time; a scan that lock-step finds due is never too late."""
    settings, outside = parts.settings, parts.outside
    misfire_minutes = 0 if settings.lock_step else int(settings.scan.misfire_seconds // 60)
    shared = DriverParts(
        feed=feed,
        activity=activity,
        processor=processor,
        queue=parts.queue,
        reads=parts.reads,
        sessions=parts.sessions,
        minutes=lambda session: scan_minutes(cron_entries(settings), session, misfire_minutes),
        observer=parts.observer,
        stopping=stopping,
        tidy_up=parts.tidy_up,
        reconcile_start=reconcile_start,
    )
    if isinstance(outside, Live):
        watch = BrokerWatch(activity, outside.clock, outside.policy, ledger(parts.reads).started_at)
        outside.reservations.silent_seconds = watch.silent_seconds
        return LiveDriver(
            parts=shared,
            clock=outside.clock,
            market=outside.market,
            watch=watch,
            reservations=outside.reservations,
            broker_time=outside.broker_time,
            calendar_objection=outside.calendar_objection,
            listeners=(outside.trade_updates(inbox.receive, watch.sign),),
            notice_halt=notice_halt,
            policy=outside.policy,
        )
    if settings.lock_step:
        return LockStepDriver(shared, outside.clock, outside.venue, parts.failpoints, visit)
    time = PacedTime(parts.sessions, ledger(parts.reads).started_at, settings.replay.pace)
    return PacedDriver(shared, outside.clock, outside.venue, time, settings.queue.poll_seconds)
