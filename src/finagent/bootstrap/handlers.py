"""Who handles which type of job."""

from datetime import datetime

from finagent.bootstrap.parts import Parts
from finagent.domain.ports.clock import Clock
from finagent.policies import (
    allocation_policy,
    cron_entries,
    execution_policy,
    plan_policy,
    risk_profile,
    training_entries,
    watch_policy,
)
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.risk.allocation import Allocation
from finagent.services.execution.exits import ExitService
from finagent.services.execution.gateway import ExecutionGateway
from finagent.services.execution.reconciliation import Reconciler
from finagent.services.execution.trade_updates import TradeUpdateInbox
from finagent.services.kill_switch import KillSwitch
from finagent.services.market_data.feed import Feed
from finagent.services.market_data.return_history import ReturnHistory
from finagent.services.models.serving import ModelServer
from finagent.services.pipeline.allocation import Allocator
from finagent.services.pipeline.execution import ExecutionService
from finagent.services.pipeline.planner import PlannerService
from finagent.services.pipeline.risk import RiskService
from finagent.services.pipeline.scanner import ScannerPolicy, ScannerService
from finagent.services.pipeline.scoring import ScoringPolicy, ScoringService
from finagent.services.queue.processor import Handler, one_by_one
from finagent.services.risk_watch import RiskWatch
from finagent.services.scheduling.scheduled_training import ScheduledTraining, TrainingRunner
from finagent.services.scheduling.trading_day import DayPolicy, TradingDay
from finagent.settings import Settings


def agent_handlers(
    parts: Parts,
    feed: Feed,
    returns: ReturnHistory,
    kill_switch: KillSwitch,
    reconciler: Reconciler,
    inbox: TradeUpdateInbox,
    trainer: TrainingRunner | None,
) -> dict[str, Handler]:
    """Every type of job."""
    settings, clock = parts.settings, parts.clock
    scanner = ScannerService(
        feed,
        clock,
        ScannerPolicy(settings.scan.misfire_seconds, settings.scan.gather_seconds, settings.wall_time.bar_wait_seconds),
        _allocator(settings, returns),
    )
    risk = RiskService(feed, clock, risk_profile(settings), settings.risk.sectors, kill_switch, returns)

    def may_send() -> bool:
        return parts.lease_left_seconds() > settings.broker.call_seconds

    def session_close() -> datetime:
        now = clock.now()
        return [session for session in parts.sessions if session.opens_at <= now][-1].closes_at

    gateway = ExecutionGateway(parts.broker, clock, execution_policy(settings), kill_switch, session_close, may_send)
    exits = ExitService(parts.broker, clock, execution_policy(settings), session_close, may_send, feed.last_price)
    sessions = {session.date: session for session in parts.sessions}
    order = list(sessions)
    day = TradingDay(
        clock,
        feed,
        DayPolicy(
            cron_entries(settings),
            settings.plan.flat_minutes,
            settings.reconcile_seconds,
            settings.risk.breakers.interval_seconds,
            training_entries(settings),
        ),
        kill_switch,
        sessions.__getitem__,
        lambda after: next((sessions[day] for day in order if day > after), None),
    )
    single = {
        "session": day.open,
        "report": day.close,
        "reconcile": reconciler.reconcile,
        "watch": RiskWatch(feed, clock, watch_policy(settings), kill_switch).watch,
        "trade_update": inbox.check,
        "resolve": gateway.resolve,
        "expire": exits.expire,
        "protect": exits.protect,
        "flatten": exits.flatten,
        "close_out": exits.close_out,
        "scan": scanner.scan,
        "gather": risk.gather,
        "risk": risk.check,
        "execute": ExecutionService(clock, parts.broker.stop_entry_brackets).execute,
        "train": ScheduledTraining(clock, trainer, settings.model.training.processes.look_seconds).train,
        "send": gateway.send,
    }
    alone = {name: one_by_one(handle) for name, handle in single.items()}
    return alone | shared_handlers(settings, clock, parts.server)


def shared_handlers(settings: Settings, clock: Clock, server: ModelServer) -> dict[str, Handler]:
    """What needs neither market, broker nor gate, and so can run in any process."""
    policy = ScoringPolicy(settings.model.score_decimals, settings.model.score_min)
    scoring = ScoringService(clock, policy, server.score, CANDIDATE)
    return {"score": scoring.score, "plan": one_by_one(PlannerService(clock, plan_policy(settings)).plan)}


def _allocator(settings: Settings, returns: ReturnHistory) -> Allocator | None:
    policy = allocation_policy(settings)
    if policy.method is Allocation.EQUAL_RISK:
        return None
    return Allocator(returns, policy, settings.plan.short_selling)
