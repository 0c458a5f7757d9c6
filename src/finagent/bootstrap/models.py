"""The model that scores, as the settings name it: the formula, or the champion of the registry."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial

import numpy as np
import structlog

from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.onnx_predictor import CudaShare, OnnxPredictor, Unending
from finagent.adapters.models.package import SHIPPED, ModelPackage, open_package
from finagent.adapters.models.registry_files import RegistryFiles
from finagent.adapters.models.registry_mlflow import RegistryMlflow
from finagent.adapters.models.training_command import TrainingCommand, commands_ended
from finagent.adapters.models.warm_copy import WarmCopy
from finagent.bootstrap.live import open_market
from finagent.domain.bars import Floats
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.model_registry import Alias, ModelRegistry
from finagent.domain.ports.predictor import Forecasts, Predictor
from finagent.domain.ports.store import JobQueue, Reads
from finagent.policies import follow_policy, guard_policy, review_policy, serving_policy
from finagent.quant.evaluation.head_to_head import Burden, Search, health
from finagent.quant.evaluation.promotion import Health
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.gap_and_go import GapAndGoFormula
from finagent.services.metering import InferenceMeter
from finagent.services.models.champion_guard import ChampionGuard
from finagent.services.models.following import CANARY_STOPPED, SERVING, ModelFollower, ModelJournal, ModelSource
from finagent.services.models.history import CHAMPION, champion_since, demoted
from finagent.services.models.review import Contender, Review, decided_since, forecasts_of, review
from finagent.services.models.serving import Handle, ModelServer, Serving
from finagent.services.scheduling.scheduled_training import success_ratio
from finagent.settings import Settings, environment_without_settings, quiet_mlflow
from finagent.telemetry.metrics import Metrics

TRAINING_FOLDER = "training"
_LATENCY_CALLS = 200
log = structlog.get_logger(__name__)


def open_registry(settings: Settings) -> ModelRegistry:
    """It takes in and promotes only what could serve here."""

    def admit(package: ModelPackage) -> OnnxPredictor:
        return OnnxPredictor(package, CANDIDATE)

    if settings.model.registry == "mlflow":
        return RegistryMlflow(open_mlflow(settings), admit)
    return RegistryFiles(settings.models_path, admit)


def open_mlflow(settings: Settings) -> MlflowStore:
    """MLflow is not imported before it is asked."""
    quiet_mlflow()
    return MlflowStore(settings.storage.directory, settings.model.mlflow_url)


def opened(registry: ModelRegistry, version: str) -> ModelPackage:
    """The very package that the registry vouches for under that name. BadInput, naming it, for anything else."""
    vouched, package = registry.facts(version), open_package(registry.fetch(version))
    if (package.version, package.digest) != (version, vouched.digest):
        raise BadInput(
            f"{version} is being exchanged for {package.version} ({package.digest[:16]}): it is not what was registered"
        )
    return package


async def review_challenger(settings: Settings, reads: Reads, version: str) -> Review:
    """The version against who scores now, on what the store holds of sessions that neither was trained on. BadInput for a
    version that the registry does not have, or that could not serve."""
    registry, policy = open_registry(settings), review_policy(settings)
    package = opened(registry, version)
    challenger = OnnxPredictor(package, CANDIDATE)
    champion = _who_scores(registry)
    seen = [day for day in (registry.facts(version).trained_until, champion.trained_until) if day is not None]
    async with open_market(settings) as market:
        decided = await decided_since(reads, market.sessions(), market.session_bars, max(seen), policy)
    told = package.manifest.metrics
    search = Search(*(told.get(name, math.nan) for name in ("trials", "trial_sharpe_deviation", "overfitting_probability")))
    burden = Burden(_latency_p95_ms(challenger, decided.rows.features), len(package.model))
    return review(champion, Contender(challenger, registry.facts(version).trained_until), decided, search, burden, policy)


def _who_scores(registry: ModelRegistry) -> Contender:
    version = registry.aliases().get(Alias.CHAMPION)
    if version is None:
        return Contender(GapAndGoFormula(), None)
    return Contender(OnnxPredictor(opened(registry, version), CANDIDATE), registry.facts(version).trained_until)


def _latency_p95_ms(predictor: Predictor, rows: Floats) -> float:
    """Of one row at a time, as an impatient request has it."""
    columns = [CANDIDATE.columns[name] for name in predictor.spec.names]
    row = rows[:1, columns] if len(rows) else np.zeros((1, len(columns)))
    taken = []
    for _ in range(_LATENCY_CALLS):
        began = time.perf_counter()
        predictor.predict(row)
        taken.append(time.perf_counter() - began)
    return float(np.quantile(taken, 0.95)) * 1000.0


def build_predictor(settings: Settings, *, keep: bool = True) -> Predictor:
    """BadInput, with the cure, where the champion is missing or refused: another model than the one that was chosen must not
    trade in its place. Where the registry is away, the package that served last does; `keep` makes this one that."""
    if settings.model.serve == "formula":
        return GapAndGoFormula()
    if settings.model.serve == "shipped":
        return _loaded(settings, open_package(SHIPPED))
    warm = WarmCopy(settings.storage.directory / "warm-model")
    try:
        package = _champion(open_registry(settings))
    except Transient as away:
        package = _kept(warm, away)
        predictor = _loaded(settings, package)
        log.warning("model_registry_away", reason=str(away), model=package.version, digest=package.digest[:16])
        return predictor
    predictor = _loaded(settings, package)
    if not keep:
        return predictor
    try:
        warm.keep(package)
    except Transient as error:
        log.warning("warm_model_not_kept", reason=str(error), model=package.version)
    log.info("model_served", model=package.version, digest=package.digest[:16])
    return predictor


def build_serving(settings: Settings) -> Serving:
    """Who serves from the start on. BadInput as `build_predictor`, and for the canary of a replay, which serves to its end what
    it began with; on wall time the canary comes as soon as the registry is followed."""
    champion, model = Handle.of(build_predictor(settings), CANDIDATE), settings.model
    if settings.on_wall_time or model.serve != "registry" or not model.canary_share:
        return Serving(champion)
    registry = open_registry(settings)
    try:
        version = registry.aliases().get(Alias.CANARY)
        canary = None if version in (None, champion.version) else _load(settings, registry, version)
    except (BadInput, Transient) as refusal:
        raise BadInput(f"model.canary_share is {model.canary_share}, and {refusal}; or --set model.canary_share=0") from refusal
    return Serving(champion, canary, model.canary_share if canary else 0.0)


def build_server(settings: Settings, serving: Serving, metrics: Metrics) -> ModelServer:
    """It serves these once it runs."""
    server = ModelServer(CANDIDATE, serving_policy(settings), [InferenceMeter(metrics)], time.perf_counter)
    server.serve(serving)
    return server


def build_follower(
    settings: Settings,
    server: ModelServer,
    queue: JobQueue,
    reads: Reads,
    now: Callable[[], datetime],
    market: MarketDataPort | None,
) -> ModelFollower | None:
    """None where nothing is to be followed: no registry serves, or a replay, which wall time must not decide. With a `market`
    it also guards the champion: one process of an agent does."""
    if not settings.on_wall_time or settings.model.serve != "registry":
        return None
    registry, warm = open_registry(settings), WarmCopy(settings.storage.directory / "warm-model")
    source = ModelSource(
        registry,
        partial(_load, settings, registry),
        lambda version: warm.keep(opened(registry, version)),
        asyncio.to_thread,
    )

    def stopped() -> frozenset[str]:
        told = reads.find(DecisionEvent, subject_type=SubjectType.MODEL, subject_id=SERVING)
        return frozenset(str(event.body["version"]) for event in told if event.kind == CANARY_STOPPED)

    def barred() -> frozenset[str]:
        return demoted(reads.find(DecisionEvent, subject_type=SubjectType.MODEL, subject_id=CHAMPION))

    guard = None
    if market is not None and settings.model.guards.enabled:
        judged = partial(_decided_health, settings, registry, reads, market, now)
        guard = ChampionGuard(guard_policy(settings), judged, now)
    journal = ModelJournal(lambda event: queue.submit(Effect(events=(event,))), stopped, barred, now)
    return ModelFollower(server, source, journal, follow_policy(settings), guard)


async def _decided_health(
    settings: Settings,
    registry: ModelRegistry,
    reads: Reads,
    market: MarketDataPort,
    now: Callable[[], datetime],
    champion: str,
    previous: str | None,
) -> Health:
    """Of the sessions that it was champion in, that are over and that neither was trained on; no figure before there is as much
    as a promotion needs."""
    policy = review_policy(settings)
    package = await asyncio.to_thread(opened, registry, champion)
    before = await asyncio.to_thread(_sound, registry, previous)
    trained = [each.manifest.trained_until for each in (package, before) if each is not None]
    story = reads.find(DecisionEvent, subject_type=SubjectType.MODEL, subject_id=CHAMPION)
    if (since := champion_since(story, champion)) is not None:
        trained.append(since.date())
    over = [session for session in market.sessions() if session.closes_at <= now()]
    rows = (await decided_since(reads, over, market.session_bars, max(trained), policy)).rows
    if len(rows.won) < policy.gate.predictions_min or len(np.unique(rows.days)) < policy.gate.days_min:
        return Health()

    def weighed() -> Health:
        told = _forecasts(settings, package, rows.features)
        if told is None:
            return Health(failed_fraction=1.0)
        other = None
        if before is not None:
            with suppress(BadInput):  # who could not serve is no reason to keep who does
                other = _forecasts(settings, before, rows.features)
        return health(rows, told, other, policy.score_min)

    return await asyncio.to_thread(weighed)


def _sound(registry: ModelRegistry, version: str | None) -> ModelPackage | None:
    """None of one that is damaged, too: the champion is weighed without it."""
    with suppress(BadInput):
        return opened(registry, version) if version else None
    return None


def _forecasts(settings: Settings, package: ModelPackage, rows: Floats) -> Forecasts | None:
    """None of a model that does not come to an end."""
    try:
        return forecasts_of(OnnxPredictor(package, CANDIDATE, call_seconds_max=settings.model.serving.call_seconds_max), rows)
    except Unending:
        return None


def build_training_command(settings: Settings) -> TrainingCommand:
    """Trainings as the agent's schedule wants them, with its settings."""
    training = settings.model.training
    return TrainingCommand(
        settings.storage.directory / TRAINING_FOLDER,
        settings.model_dump_json(),
        {entry.name: entry.overrides for entry in training.schedule},
        environment_without_settings(),
        training.processes.nice,
    )


def training_success(settings: Settings) -> float:
    """Of the trainings of the last commands in this folder; NaN where there was none."""
    folder = settings.storage.directory / TRAINING_FOLDER
    return success_ratio(commands_ended(folder, settings.model.training.processes.judged_max))


def _load(settings: Settings, registry: ModelRegistry, version: str) -> Handle:
    return Handle.of(_loaded(settings, opened(registry, version)), CANDIDATE)


def _loaded(settings: Settings, package: ModelPackage) -> OnnxPredictor:
    """On the device that serves."""
    serving, reserve = settings.model.serving, settings.model.training.processes.inference_reserve_bytes
    cuda = CudaShare(reserve // serving.warm_max, serving.batch_max) if serving.device == "cuda" else None
    bound = serving.call_seconds_max if settings.on_wall_time else None  # wall time decides nothing in a replay
    return OnnxPredictor(package, CANDIDATE, cuda=cuda, call_seconds_max=bound)


def _champion(registry: ModelRegistry) -> ModelPackage:
    version = registry.aliases().get(Alias.CHAMPION)
    if version is None:
        raise BadInput(
            "model.serve is registry, and it has no champion: `finagent models promote VERSION --reason R` names one, or "
            "--set model.serve=formula"
        )
    try:
        return opened(registry, version)
    except BadInput as refusal:
        raise BadInput(
            f"the champion {version} cannot serve: {refusal}; `finagent models rollback --reason R` goes back, `finagent models "
            "promote VERSION --reason R` names another one"
        ) from refusal


def _kept(warm: WarmCopy, away: Transient) -> ModelPackage:
    try:
        package = warm.read()
    except (BadInput, Transient) as refusal:
        raise BadInput(f"model.serve is registry, and {away}; the copy of what served last cannot serve: {refusal}") from refusal
    if package is None:
        raise BadInput(
            f"model.serve is registry, and {away}; nothing has served here yet that could instead: register and promote a "
            "package, or --set model.serve=formula"
        ) from away
    return package
