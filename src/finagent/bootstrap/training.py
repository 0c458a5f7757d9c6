"""A training as the settings and a person name it: rows of the past, trials beside plain models, and a package.

Needs `pip install "finagent[models]"`; what is trained is imported by the processes that train it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from finagent.adapters.models.accelerator_memory import accelerator_memory
from finagent.adapters.models.package import ModelFacts, ModelPackage, open_package, sealed, write_package
from finagent.adapters.models.roles import known_form
from finagent.adapters.models.row_files import RowFile, open_rows, write_rows
from finagent.adapters.models.tracking import Tracking
from finagent.adapters.models.training_command import note_ended
from finagent.adapters.models.training_processes import TrainingProcess
from finagent.bootstrap.features import build_daily_features
from finagent.bootstrap.live import open_market
from finagent.bootstrap.models import TRAINING_FOLDER, open_mlflow
from finagent.bootstrap.store import build_hash
from finagent.bootstrap.training_evidence import last_checkpoint, training_evidence
from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput
from finagent.domain.identity import digest
from finagent.domain.ports.experiment_log import Lineage, TrackedTraining, TrainingOutcome
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.regime import Regime
from finagent.policies import gap_past_policy
from finagent.quant.evaluation.labels import day_weights
from finagent.quant.evaluation.walk_forward import Blocks, Split, walk_forward
from finagent.quant.regime.volatility_trend import VolatilityTrend
from finagent.quant.specialists.training_rows import TrainingRows
from finagent.quant.specialists.trials import BOOSTING, CLIMATOLOGY, LOGISTIC, TOLD, TrialReport, trial_report
from finagent.services.market_data.daily_features import anchor
from finagent.services.market_data.feature_past import sessions_between
from finagent.services.market_data.gap_past import AT_THE_OPEN, GapPast, gap_past, index_closes
from finagent.services.models.accelerator import AcceleratorLedger
from finagent.services.models.training import Training, TrainingOrchestrator, TrainingPolicy, TrainingResult
from finagent.services.scheduling.scheduled_training import TrainingsEnded
from finagent.settings import Settings

SPOOL, ROWS = "spool", "rows"
_NOT_OF_THE_RECIPE = {
    *("processes", "gap_fraction_min", "gap_natr_min", "specialist", "regime_floor", "first_test_days", "test_days"),
}
Recipe = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A kind of model: what makes its experiment of a recipe and a folder of rows and, of those that may serve, what makes a
    graph of that and its last state; both as `module:function`, for another process. `model` is what the recipe calls it."""

    factory: str
    export: str | None
    model: Mapping[str, str]


_LEARNERS, _EXPORT = "finagent.adapters.models.learners", "finagent.adapters.models.specialist_export:export_specialist"
MODEL_KINDS: dict[str, ModelKind] = {
    **{name: ModelKind(f"{_LEARNERS}:plain", None, {"model": name}) for name in (CLIMATOLOGY, LOGISTIC, BOOSTING)},
    **{name: ModelKind(f"{_LEARNERS}:specialist", _EXPORT, {"network": name}) for name in ("flat", "recurrent", "convolutional")},
}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained: `name`@`version` on the sessions from `first` to `last` (None: the window's ends), by whom; the
    package goes to `folder`."""

    name: str
    version: str
    first: date | None
    last: date | None
    by: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Watcher:
    """Is told how far it is: sessions read of so many, and epochs done of so many at most of each training of so many."""

    session: Callable[[int], None]
    epoch: Callable[[str, int, int, int], None]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """All that is run for one package: each kind over the blocks of the walk-forward, and the chosen one on all rows."""

    name: str
    file: RowFile
    splits: tuple[Split, ...]
    trials: Mapping[str, tuple[Training, ...]]
    final: Training
    kind: str

    @property
    def trainings(self) -> tuple[Training, ...]:
        return (*(each for blocks in self.trials.values() for each in blocks), self.final)


@dataclass(frozen=True, slots=True)
class Trained:
    """`package` and `trials` are None where a training failed: the best of what is left would be chosen by accident. `untracked`
    trainings wait on the disk for the store."""

    plan: TrainingPlan
    results: tuple[TrainingResult, ...]
    untracked: int
    package: ModelPackage | None = None
    trials: TrialReport | None = None


async def train(settings: Settings, order: Order, watcher: Watcher) -> Trained:
    """BadInput for a window with too few gaps or days, and for a folder that holds something else. Ended anywhere, the same
    order goes on there, to the same package."""
    known_form(f"{order.name}@{order.version}")
    with open_tracking(settings) as log:  # whoever collects what nobody needs is out while it is held
        async with open_market(settings) as market:
            name = _training_name(settings, order, market.source_id)
            folder = settings.storage.directory / TRAINING_FOLDER / name / ROWS
            if not folder.exists():
                if order.folder.exists():
                    raise _taken(order.folder)
                await gather_rows(settings, market, folder, order, watcher)
        plan = plan_trainings(settings, order, name, open_rows(folder))
        count = len(plan.trainings)
        orchestrator = build_orchestrator(settings, log, lambda key, done, most: watcher.epoch(key, done, most, count))
        results = await orchestrator.run(plan.trainings)
        failed = sum(result.outcome is TrainingOutcome.FAILED for result in results)
        trials = None if failed else _report(settings, plan)
        package = _package(settings, plan, order, trials) if trials is not None else None
        if package is not None:
            _put(order.folder, package)
    return Trained(plan, results, log.unsent(), package, trials)


def _put(folder: Path, package: ModelPackage) -> None:
    if not folder.exists():
        write_package(folder, package)
    elif open_package(folder).digest != package.digest:
        raise _taken(folder)


def _taken(folder: Path) -> BadInput:
    return BadInput(f"{folder} is there already, of another training: name another version, or another folder with --out")


def note_training(settings: Settings, order: Order, done: Trained) -> None:
    """For who asks what became of it: the agent that scheduled it, and its gauge. After this it is not asked for again."""
    failed = sum(result.outcome is TrainingOutcome.FAILED for result in done.results)
    version = f"{order.name}@{order.version}"
    ended = TrainingsEnded(version, len(done.results) - failed, failed, done.package is not None)
    note_ended(settings.storage.directory / TRAINING_FOLDER, ended)


def open_tracking(settings: Settings) -> Tracking:
    """The writer of metrics, a context."""
    retry_seconds = settings.model.training.processes.retry_seconds
    return Tracking(settings.storage.directory / SPOOL, open_mlflow(settings), retry_seconds)


def build_orchestrator(settings: Settings, log: Tracking, progress: Callable[[str, int, int], None]) -> TrainingOrchestrator:
    """With the accelerator's memory as it is now."""
    chosen = settings.model.training.processes
    memory = accelerator_memory(chosen.inference_reserve_bytes, chosen.accelerator_headroom_bytes)
    policy = TrainingPolicy(chosen.workers, chosen.losses_max, chosen.shrinks_max)
    ledger = AcceleratorLedger(memory, chosen.cpu_meanwhile)
    return TrainingOrchestrator(lambda: TrainingProcess(chosen.nice), log, policy, ledger, progress)


def plan_trainings(settings: Settings, order: Order, name: str, file: RowFile) -> TrainingPlan:
    """BadInput where there is too little to learn from before the first test."""
    training = settings.model.training
    blocks = (training.first_test_days, training.test_days, training.embargo_days)
    splits = walk_forward(file.rows.days, file.rows.days, Blocks(*blocks))
    folder = settings.storage.directory / TRAINING_FOLDER / name
    lineage = Lineage(file.hash, settings.settings_hash, file.data_spec_hash, build_hash(), order.by)

    def asked(kind: str, block: int | None) -> Training:
        part = "all" if block is None else f"block-{block + 1}"
        recipe = {**_recipe(settings), **MODEL_KINDS[kind].model, "blocks": blocks, "block": block}
        told = {key: json.dumps(value) for key, value in recipe.items()} | {"kind": kind, "part": part}
        tracked = TrackedTraining(f"{name}-{kind}-{part}", f"finagent {order.name}", told, lineage)
        architecture = digest(kind, json.dumps(_recipe(settings), sort_keys=True), length=16)
        place = str(folder / f"{kind}-{part}")
        return Training(tracked, MODEL_KINDS[kind].factory, recipe, str(folder / ROWS), place, architecture)

    trials = {kind: tuple(asked(kind, block) for block in range(len(splits))) for kind in MODEL_KINDS}
    return TrainingPlan(name, file, splits, trials, asked(training.network, None), training.network)


def _training_name(settings: Settings, order: Order, source: str) -> str:
    """The same for the same question, so that whoever is asked again goes on."""
    recipe = settings.model.training.model_dump_json(exclude={"processes"})
    depends = (source, settings.settings_hash, recipe, repr(gap_past_policy(settings)), repr((order.first, order.last)))
    return f"{order.name}-{order.version}-{digest(*depends, AT_THE_OPEN.hash, build_hash(), length=10)}"


async def gather_rows(settings: Settings, market: MarketDataPort, folder: Path, order: Order, watcher: Watcher) -> None:
    """Read the market once: whoever goes on, and every process, has the same copy."""
    sessions = sessions_between(market, order.first, order.last)
    days = build_daily_features(settings, market)
    past = await gap_past(market, sessions, days, gap_past_policy(settings), lambda: watcher.session(len(sessions) - 1))
    history = await market.daily_history(sessions[-1], anchor(sessions[0]))
    weight = day_weights(past.days) * regime_weights(past, history, days.index, settings)
    values = past.features.astype(np.float32)[:, np.newaxis, :]
    rows = TrainingRows(values, past.outcome, past.target_atr, past.days, weight)
    dates = tuple(session.date for session in past.sessions)
    write_rows(folder, rows, _long_return(past), AT_THE_OPEN, market.source_id, dates)


def regime_weights(past: GapPast, history: DailyHistory, index: int | None, settings: Settings) -> Floats:
    """How much each row [rows] is a specialist's own: the probability of its regime as known at the close before, and a floor, so
    that it has seen the others too; one for the generalist."""
    training = settings.model.training
    if training.specialist == "generalist":
        return np.ones(len(past.days))
    told = VolatilityTrend().probabilities(index_closes(history, index))[:, Regime[training.specialist.upper()]]
    known = np.asarray([day.toordinal() for day in history.sessions])
    place = np.searchsorted(known, [session.date.toordinal() for session in past.sessions]) - 1
    of_session = np.where(place >= 0, told[np.maximum(place, 0)], 1.0 / len(Regime)) + training.regime_floor
    return np.asarray(of_session[past.days])


def _long_return(past: GapPast) -> Floats:
    natr = past.features[:, AT_THE_OPEN.columns["natr_14"]] / 100.0
    return np.asarray(past.target_atr * natr)


def _recipe(settings: Settings) -> Recipe:
    told = settings.model.training.model_dump(exclude=_NOT_OF_THE_RECIPE)
    return {**told, "seeds": tuple(range(1, told["seeds"] + 1))}


def _report(settings: Settings, plan: TrainingPlan) -> TrialReport:
    told = {kind: np.concatenate([last_checkpoint(each).state[TOLD] for each in blocks]) for kind, blocks in plan.trials.items()}
    tested = np.concatenate([split.test for split in plan.splits])
    return trial_report(plan.file.rows, tested, told, plan.file.long_return, settings.model.training.miss_fraction)


def _package(settings: Settings, plan: TrainingPlan, order: Order, trials: TrialReport) -> ModelPackage:
    """Of what learned from all rows. The same training again makes the same package."""
    file, export = plan.file, MODEL_KINDS[plan.kind].export
    assert export is not None, "settings name what may serve"
    module, _, name = export.partition(":")
    made = getattr(import_module(module), name)(plan.final.recipe, Path(plan.final.data), last_checkpoint(plan.final).state)
    facts = ModelFacts(
        name=order.name,
        version=order.version,
        description=_description(settings, plan, made.skill),
        data_spec_hash=file.data_spec_hash,
        features=file.features,
        imputation=made.imputation,
        trained_until=file.dates[int(file.rows.days[-1])],
        metrics=_metrics(trials, plan.kind),
        created_by=order.by,
        canary=made.canary,
        evidence=training_evidence(plan, made.skill, made.importance),
    )
    return sealed(facts, made.graph)


def _description(settings: Settings, plan: TrainingPlan, skill: float) -> str:
    file, specialist, seeds = plan.file, settings.model.training.specialist, settings.model.training.seeds
    return (
        f"{specialist}, {plan.kind} network, {seeds} seeds, of {len(file.rows.days)} gaps of {file.source_id}, "
        f"{file.dates[0]} to {file.dates[-1]}: the probability that the price goes the way of the gap by half "
        "of its usual range before it goes as far the other way, from what is known at the open; "
        f"{skill:.0%} of that is what it has learned, the rest how often it happened"
    )


def _metrics(trials: TrialReport, network: str) -> dict[str, float]:
    """Of the walk-forward; what cannot be computed is left out, and the gate stays shut for want of it."""
    own, base = trials.result(network), trials.result(CLIMATOLOGY)
    told = {
        "trials": float(len(trials.results) - 1),
        "trial_sharpe_deviation": trials.trial_deviation,
        "overfitting_probability": trials.overfitting_probability,
        "tested_rows": float(trials.rows),
        "log_loss": own.log_loss,
        "log_loss_climatology": base.log_loss,
        "brier": own.brier,
        "brier_climatology": base.brier,
        "accuracy": own.accuracy,
        "calibration_error": own.calibration_error,
        "coverage": own.coverage,
        "sharpe": own.sharpe,
        "deflated_sharpe": own.deflated_sharpe,
    }
    return {name: value for name, value in told.items() if np.isfinite(value)}
