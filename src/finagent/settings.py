"""Settings: YAML, environment and `--set` become frozen values, all errors at once; the one place that reads the environment."""

import hashlib
import os
import stat
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from finagent.domain.errors import BadInput
from finagent.telemetry.redaction import without_password

PREFIX = "FINAGENT__"
PACKAGED = Path(__file__).with_name("settings.yaml")
SOURCE_TREE = Path(__file__).parents[2] / "settings.yaml"
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Fraction = Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Chance = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the settings: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(Section):
    directory: Path
    url: str | None
    anchor: Path | None
    anchor_seconds: Annotated[float, Field(gt=0, le=60)]
    seal_events: AtLeastOne

    @field_validator("url")
    @classmethod
    def _known_store(cls, url: str | None) -> str | None:
        if url is None or url.startswith("postgresql://"):
            return url
        raise ValueError("must be null or postgresql://USER@HOST/DATABASE")


class OrchestrateSettings(Section):
    mode: Literal["replay", "paper", "live"]
    after_end: Literal["exit", "serve"]
    drain_seconds: Annotated[float, Field(ge=0, le=18)]


class ReplaySettings(Section):
    seed: int
    pace: Ratio
    start_cash_usd: Positive


class WallTimeSettings(Section):
    pace: Annotated[float, Field(gt=0, le=3600)]
    bar_grace_seconds: Annotated[float, Field(ge=0, lt=60)]
    bar_wait_seconds: Seconds
    prepare_seconds: Seconds
    activity_seconds: Annotated[float, Field(gt=0, le=60)]
    spacing_seconds: Annotated[float, Field(ge=0, le=60)]
    overlap_seconds: Annotated[float, Field(ge=1, le=3600)]
    clock_seconds: Annotated[float, Field(gt=0, le=600)]
    reconcile_seconds: Annotated[int, Field(ge=1, le=3600)]
    skew_seconds_max: Annotated[float, Field(gt=0, le=60)]
    stale_seconds_max: Annotated[float, Field(gt=0, le=3600)]
    silence_seconds_max: Annotated[float, Field(gt=0, le=3600)]
    account_cache_seconds: Annotated[float, Field(ge=0, le=600)]
    retry_seconds: Annotated[float, Field(gt=0, le=600)]


class SourceSettings(Section):
    gap_fraction_min: Ratio
    relative_volume_min: Ratio


class SimulatedMarketSettings(SourceSettings):
    symbols: AtLeastOne
    origin: date
    history_sessions: AtLeastOne
    splits_per_symbol_year: Chance
    clustered_gap_date: date | None
    clustered_gap_fraction: Ratio
    bad_ticks_per_bar: Chance
    null_bars_per_bar: Chance
    missing_per_minute: Chance
    null_bars_per_minute: Chance
    bad_ticks_per_minute: Chance
    halts_per_symbol_session: Chance
    halt_move_fraction: Ratio
    halt_minutes: AtLeastOne


class FilesSettings(SourceSettings):
    hole_minutes_max: Count
    unenclosed_fraction_max: Fraction


class AlpacaMarketSettings(SourceSettings):
    url: str | None
    stream_url: str | None
    feed: Literal["iex", "sip"]
    history_feed: Literal["iex", "sip"]
    symbols_per_request: Annotated[int, Field(ge=1, le=1000)]
    threads: Annotated[int, Field(ge=1, le=16)]
    requests_per_minute: AtLeastOne
    reconnect_seconds: Annotated[float, Field(ge=1, le=3600)]


class MarketDataSettings(Section):
    source: str
    first_session: date
    last_session: date
    symbols: tuple[str, ...]
    mean_sessions: AtLeastOne
    hole_sessions_max: Count
    cached_sessions_max: AtLeastOne
    sample: SourceSettings
    files: FilesSettings
    simulated: SimulatedMarketSettings
    alpaca: AlpacaMarketSettings

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source in ("sample", "simulated", "alpaca") or source.startswith("files:"):
            return source
        raise ValueError("must be sample, simulated, files:FOLDER or alpaca")

    @property
    def rules(self) -> SourceSettings:
        """The thresholds of the source in use."""
        return {"sample": self.sample, "simulated": self.simulated, "alpaca": self.alpaca}.get(self.source, self.files)


class FeatureSettings(Section):
    index_symbol: str | None
    store: Literal["files", "redis", "none"]
    cache_seconds: Annotated[float, Field(gt=0)]
    cached_sessions_max: AtLeastOne
    stored_sessions_max: AtLeastOne


class PastScanSettings(Section):
    top_gaps: Count
    full_day_relative_volume_min: Ratio


class ScanSettings(Section):
    gap_fraction_min: Ratio | None
    relative_volume_min: Ratio | None
    price_usd_min: Ratio
    dollar_volume_usd_min: Ratio
    price_age_minutes_max: Count
    bad_bars_max: Count
    candidates_max: AtLeastOne
    misfire_seconds: Seconds
    gather_seconds: Seconds


class ScheduleEntry(Section):
    name: str
    expression: str


class ReviewSettings(Section):
    target_natr: Annotated[float, Field(gt=0, le=10)]
    cost_fraction: Annotated[float, Field(ge=0, le=0.1)]
    predictions_min: AtLeastOne
    days_min: AtLeastOne
    loss_evidence_above: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    sharpe_difference_lower_above: Annotated[float, Field(allow_inf_nan=False)]
    benchmark_ratio_above: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    deflated_sharpe_above: Chance
    overfitting_probability_below: Chance
    calibration_error_worse_max: Chance
    latency_p95_ms_max: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    size_bytes_max: AtLeastOne
    drawdown_ratio_max: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    drawdown_fraction_free: Chance


class TrainingEntry(Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,40}$")]
    expression: str
    overrides: tuple[str, ...] = ()


class TrainingProcessSettings(Section):
    workers: AtLeastOne
    nice: Annotated[int, Field(ge=0, le=19)]
    losses_max: AtLeastOne
    shrinks_max: Count
    retry_seconds: Annotated[float, Field(gt=0, le=3600)]
    accelerator_headroom_bytes: Count
    inference_reserve_bytes: Count
    cpu_meanwhile: bool
    look_seconds: Annotated[float, Field(ge=1, le=3600)]
    judged_max: AtLeastOne


class TrainingSettings(Section):
    schedule: tuple[TrainingEntry, ...]
    processes: TrainingProcessSettings
    gap_fraction_min: Annotated[float, Field(ge=0, le=1)]
    gap_natr_min: Annotated[float, Field(ge=0, le=10)]
    specialist: Literal["generalist", "bull", "bear", "sideways"]
    regime_floor: Annotated[float, Field(gt=0, le=1)]
    network: Literal["flat", "recurrent", "convolutional"]
    seeds: Annotated[int, Field(ge=1, le=50)]
    width: Annotated[int, Field(ge=1, le=1024)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    pinball_weight: Annotated[float, Field(ge=0, le=10)]
    batch_rows: AtLeastOne
    epochs: AtLeastOne
    patience: AtLeastOne
    embargo_days: Count
    miss_fraction: Annotated[float, Field(gt=0, lt=1)]
    first_test_days: AtLeastOne
    test_days: AtLeastOne


class RetentionSettings(Section):
    champions: AtLeastOne
    best: Count
    days: Count
    bytes_a_day: Count


class GuardSettings(Section):
    enabled: bool
    calibration_error_max: Chance
    latency_p95_ms_max: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    drawdown_fraction_max: Chance
    failed_fraction_max: Chance
    evidence_against_max: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    calls_rows_min: AtLeastOne


class ServingSettings(Section):
    device: Literal["cpu", "cuda"]
    batch_max: Annotated[int, Field(ge=1, le=4096)]
    queue_max: AtLeastOne
    deadline_seconds: Annotated[float, Field(gt=0, le=60)]
    call_seconds_max: Annotated[float, Field(gt=0, le=600)]
    poll_seconds: Annotated[float, Field(gt=0, le=3600)]
    warm_max: AtLeastOne


class CanarySettings(Section):
    predictions_min: AtLeastOne
    error_rate_max: Chance
    nan_rate_max: Chance
    p95_seconds_max: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ModelSettings(Section):
    serve: Literal["formula", "shipped", "registry"]
    registry: Literal["files", "mlflow"]
    directory: Path | None
    mlflow_url: str | None
    score_decimals: Annotated[int, Field(ge=0, le=12)]
    score_min: Annotated[float, Field(ge=0, le=1)]
    training: TrainingSettings
    retention: RetentionSettings
    review: ReviewSettings
    guards: GuardSettings
    serving: ServingSettings
    canary_share: Chance
    canary: CanarySettings


class PlanSettings(Section):
    risk_fraction: Fraction
    entry_limit_fraction: Fraction
    target_multiple: Positive
    valid_minutes: AtLeastOne
    flat_minutes: Annotated[int, Field(ge=1, le=180)]
    short_selling: bool


class BreakerSettings(Section):
    interval_seconds: Annotated[int, Field(ge=1, le=3600)]
    drawdown_fraction_max: Fraction
    slippage_bps_max: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
    slippage_fills_min: AtLeastOne
    refusals_max: AtLeastOne
    unusable_fraction_max: Fraction


FIRST_BREAKERS = BreakerSettings(
    interval_seconds=300,
    drawdown_fraction_max=Decimal("0.10"),
    slippage_bps_max=Decimal(50),
    slippage_fills_min=5,
    refusals_max=5,
    unusable_fraction_max=Decimal("0.5"),
)


class AllocationSettings(Section):
    days: Annotated[int, Field(ge=2, le=2500)]
    days_min: Annotated[int, Field(ge=2, le=2500)]
    fraction_max: Annotated[float, Field(gt=0, le=1)]
    multiple_max: Annotated[float, Field(ge=1, le=10)]
    unknown_multiple: Annotated[float, Field(ge=0, le=1)]


class PortfolioSettings(Section):
    drawdown_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(0)
    order_notional_max: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] = Decimal(0)
    entries_per_symbol_max: Count = 0
    participation_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(0)
    day_trades_max: Count = 0
    day_trade_equity_min: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
    value_at_risk_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(0)
    beta_max: Annotated[Decimal, Field(ge=0, le=10)] = Decimal(0)
    correlation_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(0)
    history_days: Annotated[int, Field(ge=20, le=2000)]
    history_days_min: Annotated[int, Field(ge=20, le=2000)]
    position_warning_fraction: Annotated[Decimal, Field(ge=0, le=10)]
    utilisation_warning: Annotated[Decimal, Field(ge=0, le=1)]


FIRST_PORTFOLIO = PortfolioSettings(
    drawdown_fraction_max=Decimal("0.10"),
    order_notional_max=Decimal(100_000),
    entries_per_symbol_max=3,
    participation_fraction_max=Decimal("0.01"),
    day_trades_max=3,
    day_trade_equity_min=Decimal(25_000),
    value_at_risk_fraction_max=Decimal("0.05"),
    beta_max=Decimal("1.5"),
    correlation_max=Decimal("0.95"),
    history_days=500,
    history_days_min=40,
    position_warning_fraction=Decimal("0.23"),
    utilisation_warning=Decimal("0.9"),
)


class RiskSettings(Section):
    position_fraction_max: Annotated[Decimal, Field(ge=0, le=10)]
    sector_fraction_max: Annotated[Decimal, Field(ge=0, le=10)]
    gross_leverage_max: Annotated[Decimal, Field(ge=0, le=10)]
    daily_loss_fraction_max: Fraction
    positions_max: Count
    orders_per_day_max: Count
    messages_per_minute_max: Count
    price_collar_fraction: Fraction
    price_age_seconds_max: Seconds
    portfolio: PortfolioSettings
    breakers: BreakerSettings
    allocation: Literal["equal_risk", "hrp", "inverse_variance"]
    allocation_rules: AllocationSettings
    sectors: dict[str, str]


class ExecutionSettings(Section):
    send_timeout_seconds: AtLeastOne
    lookup_window_seconds: AtLeastOne
    sends_max: AtLeastOne
    protect_seconds: Count
    step_seconds: AtLeastOne


class ReconciliationSettings(Section):
    interval_seconds: AtLeastOne


class RedisSettings(Section):
    url: str
    call_seconds: Annotated[float, Field(gt=0, le=60)]
    sweep_seconds: Annotated[float, Field(gt=0, le=60)]
    min_idle_seconds: Annotated[float, Field(gt=0, le=86400)]
    stream_entries_max: Annotated[int, Field(ge=100)]  # Redis trims by nodes of 100
    dead_letters_max: Annotated[int, Field(ge=100)]

    @field_validator("url")
    @classmethod
    def _known_server(cls, url: str) -> str:
        if url.startswith(("redis://", "rediss://", "unix://")):
            return url
        raise ValueError("must be redis://HOST:PORT/DATABASE, rediss:// or unix://PATH")


class QueueSettings(Section):
    backend: Literal["sqlite", "postgres", "redis"]
    lease_seconds: Annotated[float, Field(gt=0, le=3600)]
    heartbeat_seconds: Annotated[float, Field(gt=0, le=600)]
    capacity: AtLeastOne
    claim_limit: AtLeastOne
    batch_max: AtLeastOne
    memory_limit: Count
    poll_seconds: Annotated[float, Field(gt=0, le=60)]
    handler_seconds: Annotated[float, Field(gt=0, le=3600)]
    conflict_retries_max: Count
    attempts_max: AtLeastOne
    backoff_base_seconds: Seconds
    backoff_cap_seconds: Seconds
    max_solo_crashes: AtLeastOne
    done_days: Count
    dead_days: Count
    prune_batch: AtLeastOne
    id_block_size: AtLeastOne
    error_length_max: AtLeastOne
    errors_kept: AtLeastOne
    bulk_rows_max: AtLeastOne
    redis: RedisSettings


class DatabaseSettings(Section):
    busy_timeout_seconds: Seconds
    wal_autocheckpoint_pages: AtLeastOne
    group_operations_max: AtLeastOne
    database_bytes_max: Count
    probe_bytes: AtLeastOne
    backup_step_pages: AtLeastOne
    connect_seconds: Annotated[float, Field(gt=0, le=300)]
    statement_seconds: Annotated[float, Field(gt=0, le=3600)]
    move_batch_rows: AtLeastOne
    move_statement_seconds: Annotated[float, Field(gt=0, le=86400)]


class FaultSettings(Section):
    dropped: Chance
    reply_lost: Chance
    late: Chance
    late_minutes_max: AtLeastOne
    refused: Chance
    look_up_withheld: Chance
    cancel_dropped: Chance
    cancel_reply_lost: Chance
    execution_repeated: Chance
    activity_shuffled: Chance


class BrokerSettings(Section):
    kind: Literal["simulated", "alpaca"]
    account_id: Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]  # that of a live account is a number
    address: str | None
    call_seconds: Seconds
    advance_seconds: Seconds
    leverage: Positive
    market_order_buffer_bps: Annotated[Decimal, Field(ge=0)]
    spread_bps: Annotated[Decimal, Field(ge=0)]
    slippage_bps: Annotated[Decimal, Field(ge=0)]
    commission_usd_per_share: Annotated[Decimal, Field(ge=0)]
    volume_fraction: Fraction
    partial_fill_rate: Chance
    deduplicates_forever: bool
    stop_entry_brackets: bool
    faults: FaultSettings


class AlpacaFaultSettings(Section):
    reset_before: Chance
    reset_after: Chance
    reset_at_byte: Chance
    truncated: Chance
    html_before: Chance
    html_after: Chance
    delay: Chance
    rate_limited: Chance
    unknown_status: Chance
    hidden: Chance
    late: Chance
    rejected: Chance
    cancel_lost: Chance
    cancel_late: Chance
    duplicate: Chance
    reordered: Chance
    missing: Chance
    null_data: Chance
    mute: Chance
    drop: Chance


class AlpacaSimulatorSettings(Section):
    directory: Path
    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    key_id: Annotated[str, Field(min_length=1)]
    secret: Annotated[str, Field(min_length=1)]
    pace: Ratio
    requests_per_minute: Count
    requests_by: Literal["wall", "market"]
    corrected_bars: Chance
    halts: Chance
    double_fills: Chance
    faults: AlpacaFaultSettings


class AlpacaSettings(Section):
    url: str | None
    secrets_directory: Path
    connect_seconds: Annotated[float, Field(gt=0, le=60)]
    read_seconds: Annotated[float, Field(gt=0, le=300)]
    answer_bytes_max: AtLeastOne
    threads: Annotated[int, Field(ge=1, le=64)]
    reserved_threads: Annotated[int, Field(ge=1, le=64)]
    requests_per_minute: AtLeastOne
    share: Chance
    reserved_requests: Count
    read_attempts: Annotated[int, Field(ge=1, le=10)]
    retry_wait_seconds: Annotated[float, Field(gt=0, le=60)]
    breaker_failures: AtLeastOne
    breaker_seconds: Seconds
    settle_seconds: Seconds
    lookback_hours: Annotated[float, Field(ge=24, le=2400)]


class TelemetrySettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    format: Literal["auto", "json", "text"]
    loop_interval_seconds: Seconds
    loop_stall_seconds: Seconds
    loop_dump_seconds: Seconds
    loop_exit_seconds: Seconds


class HealthSettings(Section):
    pass_age_seconds_max: Seconds
    bar_age_seconds_max: Seconds
    queue_age_seconds_max: Seconds
    loop_lag_seconds_max: Seconds


class ReportSettings(Section):
    trade_charts_max: Count
    risk_history_sessions: Annotated[int, Field(ge=60, le=5000)]
    risk_window_sessions: Annotated[int, Field(ge=20, le=2500)]
    risk_symbols_max: Annotated[int, Field(ge=2, le=100)]


class HttpSettings(Section):
    enabled: bool
    token_file: Path
    host: str
    port: Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """All of it. `settings_hash` names every value that may change a decision."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    storage: StorageSettings
    orchestrate: OrchestrateSettings
    replay: ReplaySettings
    wall_time: WallTimeSettings
    market_data: MarketDataSettings
    features: FeatureSettings
    past_scan: PastScanSettings
    scan: ScanSettings
    schedule: tuple[ScheduleEntry, ...]
    model: ModelSettings
    plan: PlanSettings
    risk: RiskSettings
    execution: ExecutionSettings
    reconciliation: ReconciliationSettings
    queue: QueueSettings
    database: DatabaseSettings
    broker: BrokerSettings
    alpaca_simulator: AlpacaSimulatorSettings
    alpaca: AlpacaSettings
    http: HttpSettings
    telemetry: TelemetrySettings
    health: HealthSettings
    report: ReportSettings

    @property
    def on_wall_time(self) -> bool:
        """Whether a real market is traded, for play money or for real."""
        return self.orchestrate.mode != "replay"

    @property
    def lock_step(self) -> bool:
        """Whether market time waits for the agent."""
        return not self.on_wall_time and not self.replay.pace

    @property
    def reconcile_seconds(self) -> int:
        """s between two comparisons with the broker in a session."""
        return self.wall_time.reconcile_seconds if self.on_wall_time else self.reconciliation.interval_seconds

    @property
    def database_path(self) -> Path:
        """The file of a store without an address; its lock keeps a second agent out of the folder, whatever the store."""
        return self.storage.directory / "finagent.db"

    @property
    def store_address(self) -> Path | str:
        """The file, or the URL of the database on a server."""
        return self.database_path if self.storage.url is None else self.storage.url

    @property
    def anchor_path(self) -> Path:
        return self.storage.anchor or self.storage.directory / "anchor"

    @property
    def models_path(self) -> Path:
        """Folder of the model registry."""
        return self.model.directory or self.storage.directory / "models"

    def decisive(self) -> dict[str, Any]:
        """Everything that a decision depends on: not where files lie, nor how the process is served."""
        process = ["storage", "http", "telemetry", "health", "report", "past_scan", "orchestrate", "database", "queue"]
        process += ["wall_time", "alpaca", "alpaca_simulator"]  # how another system is reached, and another system's
        connection = {"kind": True, "address": True, "call_seconds": True, "advance_seconds": True}
        # What was no choice once is not named while it is as it was: a replay keeps its name, and with it every draw.
        if self.features.index_symbol is None:
            process.append("features")
        kept = {"store": True, "cache_seconds": True, "cached_sessions_max": True, "stored_sessions_max": True}
        unnamed = {"directory", "registry", "mlflow_url", "training", "retention", "review", "guards", "serving", "canary"} | (
            {"serve"} if self.model.serve == "formula" else set()
        )
        if self.model.serve != "registry" or not self.model.canary_share:
            unnamed.add("canary_share")
        model: dict[str, Any] = dict.fromkeys(unnamed, True)
        if self.model.serving.device != "cpu":  # another device may round the last digit otherwise
            model["serving"] = dict.fromkeys(set(ServingSettings.model_fields) - {"device"}, True)
        partly = {"broker": connection, "features": kept, "model": model}
        first = {"breakers": self.risk.breakers == FIRST_BREAKERS, "portfolio": self.risk.portfolio == FIRST_PORTFOLIO}
        partly["risk"] = {name: True for name, as_first in first.items() if as_first}
        if self.risk.allocation == "equal_risk":
            partly["risk"] |= {"allocation": True, "allocation_rules": True}
        return self.model_dump(mode="json", exclude={**partly, **dict.fromkeys(process, True)})

    @property
    def settings_hash(self) -> str:
        """Hash of everything that a decision depends on."""
        return hashlib.sha256(orjson.dumps(self.decisive(), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def masked(self) -> dict[str, Any]:
        """All values for people to see."""
        values = self.model_dump(mode="json")
        if self.storage.url is not None:
            values["storage"]["url"] = without_password(self.storage.url)
        values["queue"]["redis"]["url"] = without_password(self.queue.redis.url)
        return values


def quiet_mlflow() -> None:
    """MLflow reads these from the environment, and some of them only when it is first imported: it reports to nobody, unpickles
    nothing, writes nothing between our JSON, and does not wait for minutes where a server is away."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name, value in (("LOGGING_LEVEL", "WARNING"), ("HTTP_REQUEST_MAX_RETRIES", "1"), ("HTTP_REQUEST_TIMEOUT", "10")):
        os.environ.setdefault(f"MLFLOW_{name}", value)


def environment_without_settings() -> dict[str, str]:
    """For a process that is given the settings in force by a file."""
    ours = ("FINAGENT__", "FINAGENT_SETTINGS", "FINAGENT_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def settings_files(file: Path | None) -> tuple[Path, ...]:
    """The YAML files in force, most important first; `file` is the one named on the command line."""
    chosen = file or (Path(os.environ["FINAGENT_SETTINGS"]) if "FINAGENT_SETTINGS" in os.environ else None)
    if chosen is not None and not chosen.is_file():
        raise BadInput(f"settings file {chosen} does not exist")
    base = chosen or Path("settings.yaml")
    overlay = base.with_name(f"settings.{os.environ['FINAGENT_ENV']}.yaml") if "FINAGENT_ENV" in os.environ else None
    if overlay is not None and not overlay.is_file():
        raise BadInput(f"FINAGENT_ENV={os.environ['FINAGENT_ENV']}: {overlay} does not exist")
    packaged = PACKAGED if PACKAGED.is_file() else SOURCE_TREE
    return tuple(path for path in (overlay, base if base.is_file() else None, packaged) if path is not None)


class YamlSource(YamlConfigSettingsSource):
    """A settings file, read by libyaml where PyYAML has it: Python takes ten times as long."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        loaded: dict[str, Any] | None = yaml.load(file_path.read_bytes(), YAML_LOADER)  # noqa: S506 - both are safe loaders
        return loaded or {}


def load_settings(file: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """The settings in force; `overrides` are "section.key=value". Raises BadInput that lists every error at once."""
    paths = settings_files(file)

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, *(YamlSource(settings_cls, yaml_file=path) for path in paths))

    errors = _unknown_environment()
    settings = None
    try:
        settings = Sourced(**_nested(overrides))
    except ValidationError as error:
        errors += [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
    except (yaml.YAMLError, SettingsError) as error:
        errors.append(f"a settings file or value cannot be read: {error}")
    if errors or settings is None:
        raise BadInput("settings are refused:\n  " + "\n  ".join(errors))
    return settings


ALPACA_KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
LIVE_ACCOUNT = "FINAGENT_LIVE_ACCOUNT"
API_TOKEN = "FINAGENT_API_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_LENGTH_MIN = 16


def alpaca_keys(settings: Settings) -> tuple[str, str]:
    """Key id and secret key: from the environment, else from files of these names in lower case. Raises BadInput for a missing
    one, and in live mode where the environment does not name the account; never in `Settings`, so that nothing which shows
    settings can show them."""
    account = settings.broker.account_id
    if settings.orchestrate.mode == "live" and os.environ.get(LIVE_ACCOUNT) != account:
        raise BadInput(f"orchestrate.mode is live: to trade real money set {LIVE_ACCOUNT}={account} in the environment as well")
    folder, missing = settings.alpaca.secrets_directory, missing_alpaca_keys(settings)
    if missing:
        raise BadInput(
            f"broker.kind is alpaca and {' and '.join(missing)} is not set: export it, or write it to {folder}/"
            f"{missing[0].lower()} (keys of a paper account: https://app.alpaca.markets)"
        )
    key_id, secret_key = _alpaca_secrets(settings)
    return key_id, secret_key


def missing_alpaca_keys(settings: Settings) -> list[str]:
    """The names of the keys that neither the environment nor a file has."""
    return [name for name, value in zip(ALPACA_KEYS, _alpaca_secrets(settings), strict=True) if not value]


def api_token(settings: Settings) -> str:
    """What whoever halts over HTTP must show: from the environment, else from `http.token_file`; empty where there is none, and
    nobody can. Raises BadInput for one that could be guessed."""
    token = _api_token(settings)
    if token and len(token) < TOKEN_LENGTH_MIN:
        raise BadInput(f"{API_TOKEN} has fewer than {TOKEN_LENGTH_MIN} characters: make one with `openssl rand -hex 32`")
    return token


def secrets_in_use(settings: Settings) -> tuple[str, ...]:
    """Every secret that this process may read, for what keeps them out of logs."""
    keys = _alpaca_secrets(settings) if settings.broker.kind == "alpaca" else []
    passwords = [urlsplit(url).password or "" for url in (settings.storage.url or "", settings.queue.redis.url)]
    return tuple(filter(None, (*keys, _api_token(settings), *passwords, *map(unquote, passwords))))


def _api_token(settings: Settings) -> str:
    return os.environ.get(API_TOKEN) or _secret_file(settings.http.token_file)


def _alpaca_secrets(settings: Settings) -> list[str]:
    folder, real = settings.alpaca.secrets_directory, settings.orchestrate.mode == "live"
    return [os.environ.get(name) or _secret_file(folder / name.lower(), private=real) for name in ALPACA_KEYS]


def _secret_file(path: Path, *, private: bool = False) -> str:
    try:
        if private and path.stat().st_mode & stat.S_IROTH:
            raise BadInput(f"{path} opens real money and everybody may read it: chmod 600 {path}")
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {type(error).__name__}") from None


def _nested(overrides: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise BadInput(f"--set {override!r}: must read section.key=value")
        place = values
        *parents, last = path.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(text)
    return values


def _unknown_environment() -> list[str]:
    sections = {name.upper() for name in Settings.model_fields}
    return [
        f"environment variable {name}: there is no such section"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name[len(PREFIX) :].split("__")[0] not in sections
    ]
