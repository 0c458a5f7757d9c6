"""What the settings mean to each part: the frozen policies that services and adapters declare, built from the settings."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from finagent.adapters.broker.alpaca.policy import (
    DATA_URL,
    LIVE_URL,
    PAPER_URL,
    STREAM_URL,
    AlpacaPolicy,
    HttpPolicy,
    RestPolicy,
    is_loopback,
)
from finagent.adapters.broker.simulated.client import BrokerClientPolicy
from finagent.adapters.broker.simulated.policy import BrokerPolicy, FaultRates
from finagent.adapters.database.audit import AuditPolicy
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.job_queue.operations import DurableQueuePolicy
from finagent.adapters.market_data.alpaca.policy import AlpacaMarketPolicy
from finagent.adapters.market_data.bar_repair import GapPolicy
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.files import FilesPolicy
from finagent.adapters.market_data.simulated import SimulatedPolicy
from finagent.adapters.market_data.simulated_daily import DailyProcessPolicy
from finagent.adapters.market_data.simulated_defects import DefectPolicy
from finagent.domain.circuit_breakers import BreakerLimits
from finagent.domain.errors import BadInput
from finagent.domain.jobs import RetryPolicy
from finagent.domain.risk import PortfolioLimits, RiskProfile
from finagent.quant.evaluation.labels import Barriers
from finagent.quant.evaluation.promotion import Gate, Guards
from finagent.quant.features.gap_scan import ScanRules
from finagent.quant.risk.allocation import Allocation, AllocationPolicy
from finagent.services.execution.policy import ExecutionPolicy
from finagent.services.live import LivePolicy
from finagent.services.market_data.gap_past import GapPastPolicy
from finagent.services.market_data.return_history import ReturnHistoryPolicy
from finagent.services.models.canary import CanaryPolicy
from finagent.services.models.champion_guard import GuardPolicy
from finagent.services.models.following import FollowPolicy
from finagent.services.models.review import ReviewPolicy
from finagent.services.models.serving import ServingPolicy
from finagent.services.pipeline.planner import PlanPolicy
from finagent.services.queue.processor import QueuePolicy
from finagent.services.reporting.risk_measures import RiskReportPolicy
from finagent.services.risk_watch import WatchPolicy
from finagent.services.scheduling.cron import CronEntry
from finagent.settings import Settings
from finagent.telemetry.redaction import without_password


def check(settings: Settings) -> None:
    """Everything that the parts themselves demand of their policies, all errors at once; before any file is made."""
    errors = []
    names = [entry.name for entry in settings.schedule]
    if len(set(names)) != len(names):
        errors.append(f"schedule: the names {names} are not unique")
    builders: tuple[Callable[[Settings], object], ...] = (
        writer_policy,
        queue_policy,
        scan_rules,
        cron_entries,
        plan_policy,
        allocation_policy,
        risk_profile,
        partial(return_history_policy, index=None, sessions=0),
        execution_policy,
        files_policy,
        simulated_policy,
        broker_policy,
        broker_client_policy,
        *((alpaca_policies,) if settings.broker.kind == "alpaca" else ()),
        durable_queue_policy,
        serving_policy,
        require_backend,
        require_mode,
    )
    for build in builders:
        try:
            build(settings)
        except BadInput as error:
            errors.append(str(error))
    if errors:
        raise BadInput("settings are refused:\n  " + "\n  ".join(errors))


def require_backend(settings: Settings) -> None:
    """The queue and the store fit each other, and a lease outlives a send that began under it."""
    queue, url = settings.queue, settings.storage.url
    if (queue.backend == "postgres" and url is None) or (queue.backend == "sqlite" and url is not None):
        raise BadInput(f"queue.backend is {queue.backend} and storage.url is {url and without_password(url)}: they go together")
    shortest = settings.broker.call_seconds + queue.heartbeat_seconds
    if url is not None and queue.lease_seconds <= shortest:
        raise BadInput(
            f"queue.lease_seconds is {queue.lease_seconds:g}: it must exceed broker.call_seconds plus "
            f"queue.heartbeat_seconds, {shortest:g}"
        )


def durable_queue_policy(settings: Settings) -> DurableQueuePolicy:
    """Bounds of the durable queue."""
    queue = settings.queue
    return DurableQueuePolicy(
        memory_limit=queue.memory_limit,
        max_solo_crashes=queue.max_solo_crashes,
        attempts_max=queue.attempts_max,
        id_block_size=queue.id_block_size,
        done_retention_days=queue.done_days,
        dead_retention_days=queue.dead_days,
        prune_batch_rows=queue.prune_batch,
        error_length_max=queue.error_length_max,
        errors_kept=queue.errors_kept,
        bulk_rows_max=queue.bulk_rows_max,
    )


def serving_policy(settings: Settings) -> ServingPolicy:
    """How models are asked."""
    serving, batch_max = settings.model.serving, settings.queue.batch_max
    if serving.queue_max < batch_max:
        raise BadInput(
            f"model.serving.queue_max is {serving.queue_max}: it must hold the {batch_max} candidates (queue.batch_max) that are "
            "scored at once"
        )
    return ServingPolicy(serving.batch_max, serving.queue_max, serving.deadline_seconds, settings.on_wall_time)


def follow_policy(settings: Settings) -> FollowPolicy:
    """How a running agent follows the registry."""
    model = settings.model
    canary = CanaryPolicy(**model.canary.model_dump())
    return FollowPolicy(model.serving.poll_seconds, model.serving.warm_max, model.canary_share, canary)


def guard_policy(settings: Settings) -> GuardPolicy:
    """When a champion goes."""
    limits = settings.model.guards.model_dump(exclude={"enabled"})
    return GuardPolicy(calls_rows_min=limits.pop("calls_rows_min"), guards=Guards(**limits))


def broker_policy(settings: Settings) -> BrokerPolicy:
    """The terms of the simulated broker."""
    broker = settings.broker
    return BrokerPolicy(
        account_id=broker.account_id,
        start_cash_usd=settings.replay.start_cash_usd,
        leverage=broker.leverage,
        market_order_buffer_bps=broker.market_order_buffer_bps,
        spread_bps=broker.spread_bps,
        slippage_bps=broker.slippage_bps,
        commission_usd_per_share=broker.commission_usd_per_share,
        volume_fraction=broker.volume_fraction,
        partial_fill_rate=broker.partial_fill_rate,
        deduplicates_forever=broker.deduplicates_forever,
        short_selling=settings.plan.short_selling,
        stop_entry_brackets=broker.stop_entry_brackets,
        faults=FaultRates(**broker.faults.model_dump()),
    )


def broker_client_policy(settings: Settings) -> BrokerClientPolicy:
    """Deadlines of calls to the simulated broker."""
    broker = settings.broker
    return BrokerClientPolicy(
        broker.call_seconds, broker.advance_seconds, broker.deduplicates_forever, broker.stop_entry_brackets
    )


def alpaca_policies(settings: Settings) -> tuple[AlpacaPolicy, RestPolicy]:
    """How Alpaca is asked. Raises BadInput where account, host and mode do not go together."""
    broker, alpaca, live = settings.broker, settings.alpaca, settings.orchestrate.mode == "live"
    if alpaca.settle_seconds >= settings.execution.lookup_window_seconds:
        raise BadInput(
            f"alpaca.settle_seconds is {alpaca.settle_seconds:g}: it must be less than execution.lookup_window_seconds, "
            f"{settings.execution.lookup_window_seconds}"
        )
    official_url = LIVE_URL if live else PAPER_URL
    http = HttpPolicy(alpaca.connect_seconds, alpaca.read_seconds, broker.call_seconds, alpaca.answer_bytes_max)
    rest = RestPolicy(
        url=alpaca.url or official_url,
        live=live,
        official_url=official_url,
        http=http,
        threads=alpaca.threads,
        reserved_threads=alpaca.reserved_threads,
        requests_per_minute=alpaca.requests_per_minute,
        share=alpaca.share,
        reserved_requests=alpaca.reserved_requests,
        read_attempts=alpaca.read_attempts,
        retry_wait_seconds=alpaca.retry_wait_seconds,
        breaker_failures=alpaca.breaker_failures,
        breaker_seconds=alpaca.breaker_seconds,
    )
    return (
        AlpacaPolicy(
            account_id=broker.account_id,
            live=live,
            deduplicates_forever=broker.deduplicates_forever,
            settle_seconds=alpaca.settle_seconds,
            lookback_hours=alpaca.lookback_hours,
        ),
        rest,
    )


def alpaca_market_policies(settings: Settings) -> tuple[AlpacaMarketPolicy, RestPolicy]:
    """How Alpaca's market data are read: at Alpaca, or at the simulator that the broker is."""
    data, (_, broker) = settings.market_data, alpaca_policies(settings)
    alpaca, simulated = data.alpaca, is_loopback(broker.url)
    stream_url = broker.url.replace("http", "ws", 1) if simulated else STREAM_URL
    rest = replace(
        broker,
        url=alpaca.url or (broker.url if simulated else DATA_URL),
        official_url=DATA_URL,
        threads=alpaca.threads,
        reserved_threads=0,
        requests_per_minute=alpaca.requests_per_minute,
        reserved_requests=0,
    )
    policy = AlpacaMarketPolicy(
        feed=alpaca.feed,
        history_feed=alpaca.history_feed,
        stream_url=alpaca.stream_url or stream_url,
        symbols=data.symbols,
        history=HistoryPolicy(data.mean_sessions, data.hole_sessions_max),
        symbols_per_request=alpaca.symbols_per_request,
        reconnect_seconds=alpaca.reconnect_seconds,
    )
    return policy, rest


def live_policy(settings: Settings) -> LivePolicy:
    """How a real market is followed."""
    wall, url = settings.wall_time, alpaca_policies(settings)[1].url
    if wall.pace != 1 and not is_loopback(url):
        raise BadInput(f"wall_time.pace is {wall.pace:g}: at {url} a second takes a second")
    return LivePolicy(
        bar_grace_seconds=wall.bar_grace_seconds,
        prepare_seconds=wall.prepare_seconds,
        activity_seconds=wall.activity_seconds,
        spacing_seconds=wall.spacing_seconds,
        overlap_seconds=wall.overlap_seconds,
        lookback_seconds=settings.alpaca.lookback_hours * 3600,
        clock_seconds=wall.clock_seconds,
        skew_seconds_max=wall.skew_seconds_max,
        stale_seconds_max=wall.stale_seconds_max,
        silence_seconds_max=wall.silence_seconds_max,
        retry_seconds=wall.retry_seconds,
        poll_seconds=settings.queue.poll_seconds,
        follows_broker_clock=is_loopback(url),
    )


def require_mode(settings: Settings) -> None:
    """Wall time is Alpaca's alone, and a replay has another source."""
    mode, kind, source = settings.orchestrate.mode, settings.broker.kind, settings.market_data.source
    if settings.on_wall_time and (kind, source) != ("alpaca", "alpaca"):
        raise BadInput(
            f"orchestrate.mode is {mode}, broker.kind {kind} and market_data.source {source}: on wall time both are alpaca"
        )
    if not settings.on_wall_time and source == "alpaca":
        raise BadInput("market_data.source is alpaca: only orchestrate.mode paper and live have it")
    if settings.on_wall_time:
        live_policy(settings)
        alpaca_market_policies(settings)


def bridged_market_policy(settings: Settings) -> BridgedMarketPolicy:
    """How much history and memory a bridged market has."""
    data = settings.market_data
    return BridgedMarketPolicy(HistoryPolicy(data.mean_sessions, data.hole_sessions_max), data.cached_sessions_max)


def writer_policy(settings: Settings) -> WriterPolicy:
    """Bounds of the one writer."""
    database = settings.database
    return WriterPolicy(
        database.busy_timeout_seconds,
        database.wal_autocheckpoint_pages,
        database.group_operations_max,
        database.database_bytes_max,
        database.probe_bytes,
    )


def audit_policy(settings: Settings) -> AuditPolicy:
    """How often the story is sealed and anchored."""
    return AuditPolicy(settings.storage.anchor_seconds, settings.storage.seal_events)


def queue_policy(settings: Settings) -> QueuePolicy:
    """Bounds of the hand-off and of retries."""
    queue = settings.queue
    retry = RetryPolicy(queue.attempts_max, queue.backoff_base_seconds, queue.backoff_cap_seconds)
    return QueuePolicy(
        queue.capacity,
        queue.claim_limit,
        queue.batch_max,
        queue.conflict_retries_max,
        queue.poll_seconds,
        queue.handler_seconds,
        retry,
    )


def scan_rules(settings: Settings) -> ScanRules:
    """The thresholds in force: those of the source, where `scan` does not name its own."""
    scan, source = settings.scan, settings.market_data.rules
    return ScanRules(
        gap_fraction_min=source.gap_fraction_min if scan.gap_fraction_min is None else scan.gap_fraction_min,
        price_usd_min=scan.price_usd_min,
        dollar_volume_usd_min=scan.dollar_volume_usd_min,
        relative_volume_min=source.relative_volume_min if scan.relative_volume_min is None else scan.relative_volume_min,
        price_age_minutes_max=scan.price_age_minutes_max,
        bad_bars_max=scan.bad_bars_max,
        candidates_max=scan.candidates_max,
    )


def cron_entries(settings: Settings) -> tuple[CronEntry, ...]:
    """The schedule."""
    return tuple(CronEntry(entry.name, entry.expression) for entry in settings.schedule)


def training_entries(settings: Settings) -> tuple[CronEntry, ...]:
    """When models are trained; a replay trains none."""
    entries = settings.model.training.schedule if settings.on_wall_time else ()
    return tuple(CronEntry(entry.name, entry.expression) for entry in entries)


def plan_policy(settings: Settings) -> PlanPolicy:
    """How a plan is drawn up."""
    plan = settings.plan
    return PlanPolicy(plan.risk_fraction, plan.entry_limit_fraction, plan.target_multiple, plan.valid_minutes, plan.short_selling)


def allocation_policy(settings: Settings) -> AllocationPolicy:
    """How the risk of a scan is split over its trades."""
    return AllocationPolicy(Allocation(settings.risk.allocation), **settings.risk.allocation_rules.model_dump())


def gap_past_policy(settings: Settings) -> GapPastPolicy:
    """Which past gaps are learned from, and what counts as a win: as in a review."""
    training, scan, review = settings.model.training, scan_rules(settings), settings.model.review
    barriers = Barriers(review.target_natr, review.target_natr, review.cost_fraction)
    return GapPastPolicy(
        training.gap_fraction_min, training.gap_natr_min, scan.price_usd_min, scan.dollar_volume_usd_min, barriers
    )


def review_policy(settings: Settings) -> ReviewPolicy:
    """How a challenger is judged."""
    limits = settings.model.review.model_dump()
    target, cost = limits.pop("target_natr"), limits.pop("cost_fraction")
    barriers = Barriers(target, target, cost)
    return ReviewPolicy(Gate(**limits), barriers, settings.model.score_min, settings.plan.flat_minutes)


def risk_profile(settings: Settings) -> RiskProfile:
    """The limits in force."""
    risk = settings.risk
    return RiskProfile(
        position_fraction_max=risk.position_fraction_max,
        sector_fraction_max=risk.sector_fraction_max,
        gross_leverage_max=risk.gross_leverage_max,
        daily_loss_fraction_max=risk.daily_loss_fraction_max,
        positions_max=risk.positions_max,
        orders_per_day_max=risk.orders_per_day_max,
        messages_per_minute_max=risk.messages_per_minute_max,
        price_collar_fraction=risk.price_collar_fraction,
        price_age_seconds_max=risk.price_age_seconds_max,
        short_selling=settings.plan.short_selling,
        portfolio=PortfolioLimits(**risk.portfolio.model_dump(exclude={"history_days", "history_days_min"})),
    )


SESSIONS_PER_YEAR = 250  # a few less than there are


def return_history_policy(settings: Settings, index: int | None, sessions: int) -> ReturnHistoryPolicy:
    """What a book is measured on; `index` is the column of the market index, so many `sessions` are read at least. BadInput where
    no symbol could ever have history enough."""
    chosen, years = settings.risk.portfolio, max(1, -(-sessions // SESSIONS_PER_YEAR))
    holes = settings.market_data.hole_sessions_max
    if chosen.history_days_min > chosen.history_days:
        raise BadInput(
            f"risk.portfolio: history_days_min {chosen.history_days_min} must be at most history_days {chosen.history_days}"
        )
    return ReturnHistoryPolicy(chosen.history_days, chosen.history_days_min, holes, index, years)


def risk_report_policy(settings: Settings) -> RiskReportPolicy:
    """What the risk report measures on."""
    shown = settings.report
    return RiskReportPolicy(
        history_sessions=shown.risk_history_sessions,
        window_sessions=shown.risk_window_sessions,
        symbols_max=shown.risk_symbols_max,
        weight_max=settings.risk.allocation_rules.fraction_max,
        bad_bars_max=settings.scan.bad_bars_max,
    )


def watch_policy(settings: Settings) -> WatchPolicy:
    """What stops new risk by itself."""
    risk, breakers = settings.risk, settings.risk.breakers
    limits = BreakerLimits(
        risk.daily_loss_fraction_max,
        breakers.drawdown_fraction_max,
        breakers.slippage_bps_max,
        breakers.slippage_fills_min,
        breakers.refusals_max,
        breakers.unusable_fraction_max,
    )
    return WatchPolicy(breakers.interval_seconds, limits)


def execution_policy(settings: Settings) -> ExecutionPolicy:
    """Limits of the order protocol."""
    execution = settings.execution
    return ExecutionPolicy(
        execution.send_timeout_seconds,
        execution.lookup_window_seconds,
        execution.sends_max,
        execution.protect_seconds,
        execution.step_seconds,
    )


def files_policy(settings: Settings) -> FilesPolicy:
    """How bar files are read."""
    data = settings.market_data
    return FilesPolicy(
        bridged_market_policy(settings),
        GapPolicy(data.files.hole_minutes_max),
        float(data.files.unenclosed_fraction_max),
    )


def simulated_policy(settings: Settings) -> SimulatedPolicy:
    """The process of the simulated market and what goes wrong with its bars."""
    simulated = settings.market_data.simulated
    daily = DailyProcessPolicy(
        splits_per_symbol_year=simulated.splits_per_symbol_year,
        bad_ticks_per_bar=simulated.bad_ticks_per_bar,
        null_bars_per_bar=simulated.null_bars_per_bar,
        clustered_gap_date=simulated.clustered_gap_date,
        clustered_gap_fraction=simulated.clustered_gap_fraction,
    )
    defects = DefectPolicy(
        missing_per_minute=simulated.missing_per_minute,
        null_bars_per_minute=simulated.null_bars_per_minute,
        bad_ticks_per_minute=simulated.bad_ticks_per_minute,
        halts_per_symbol_session=simulated.halts_per_symbol_session,
        halt_move_fraction=simulated.halt_move_fraction,
        halt_minutes=simulated.halt_minutes,
    )
    gaps = GapPolicy(settings.market_data.files.hole_minutes_max)
    return SimulatedPolicy(simulated.origin, simulated.history_sessions, bridged_market_policy(settings), gaps, daily, defects)
