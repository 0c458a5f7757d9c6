"""Training as the settings name it: rows of the past, what is tried on them, and the package that comes of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from finagent.adapters.models.accelerator_memory import accelerator_memory
from finagent.adapters.models.checkpoint_files import CHECKPOINT, open_checkpoint
from finagent.adapters.models.learning_files import LearningFile, open_rows, write_rows
from finagent.adapters.models.package import ModelFacts, ModelPackage, sealed
from finagent.adapters.models.tracking import Tracking
from finagent.adapters.models.training_processes import TrainingProcess
from finagent.bootstrap.features import build_daily_features
from finagent.bootstrap.models import open_mlflow
from finagent.bootstrap.store import build_hash
from finagent.domain.errors import BadInput
from finagent.domain.identity import digest
from finagent.domain.ports.experiment_log import ExperimentLog, Lineage, TrackedTraining
from finagent.domain.ports.market_data import MarketDataPort
from finagent.policies import scan_rules
from finagent.quant.evaluation.labels import Barriers
from finagent.services.market_data.feature_past import sessions_between
from finagent.services.models.accelerator import AcceleratorLedger
from finagent.services.models.past_candidates import AT_OPEN, past_candidates
from finagent.services.models.training import Training, TrainingOrchestrator, TrainingPolicy, TrainingResult
from finagent.settings import Settings

ROWS = "rows"
Recipe = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A kind of model that can be trained: what makes its experiment and what makes a graph of it, as `module:function`, what is
    tried of it, and what it is in words."""

    factory: str
    export: str
    trials: Callable[[Settings], tuple[Recipe, ...]]
    words: str


def _penalties(settings: Settings) -> tuple[Recipe, ...]:
    return tuple({"l2": float(l2), "epochs": settings.training.epochs} for l2 in settings.training.penalties)


_LOGISTIC = "finagent.adapters.models.logistic_training"
MODEL_KINDS: dict[str, ModelKind] = {
    "logistic": ModelKind(
        f"{_LOGISTIC}:logistic_training",
        f"{_LOGISTIC}:export_logistic",
        _penalties,
        "multinomial logistic regression on what is known at the open, the plain baseline",
    ),
}


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """All that is run for one package: each trial over the blocks of the walk-forward, and on all rows."""

    name: str
    kind: str
    folder: Path
    file: LearningFile
    trials: tuple[Recipe, ...]
    trainings: tuple[Training, ...]


def training_folder(settings: Settings, name: str) -> Path:
    """Where rows and checkpoints of that name lie."""
    return settings.storage.directory / "training" / name


def training_name(settings: Settings, kind: str, market: MarketDataPort, first: date | None, last: date | None) -> str:
    """The same for the same question, so that a command that is given again goes on."""
    depends = (market.source_id, settings.settings_hash, settings.training.model_dump_json(), str(first), str(last))
    return f"{kind}-{digest(*depends, length=10)}"


async def gather_rows(
    settings: Settings, market: MarketDataPort, name: str, span: tuple[date | None, date | None], done: Callable[[int], None]
) -> LearningFile:
    """Made once; `done` is told of how many sessions there are, with 0 for each that is done."""
    folder = training_folder(settings, name) / ROWS
    if not folder.exists():
        sessions, chosen = sessions_between(market, *span), settings.training
        done(len(sessions) - 1)
        barriers = Barriers(chosen.barrier_atr, chosen.barrier_atr, chosen.cost_fraction)
        days = build_daily_features(settings, market)
        past = await past_candidates(market, sessions, days, scan_rules(settings), barriers, lambda: done(0))
        write_rows(folder, past, AT_OPEN, market.source_id)
    return open_rows(folder)


def plan_trainings(settings: Settings, kind: str, name: str, file: LearningFile, asked_by: str) -> TrainingPlan:
    """BadInput for a kind that is not known, and where there is too little to learn from before the first test."""
    if kind not in MODEL_KINDS:
        raise BadInput(f"--model {kind}: one of {', '.join(MODEL_KINDS)}")
    model, folder = MODEL_KINDS[kind], training_folder(settings, name)
    lineage = Lineage(file.hash, settings.settings_hash, file.data_spec_hash, build_hash(), asked_by)
    trials, trainings = model.trials(settings), []
    for number, trial in enumerate(trials, 1):
        for part, span in _parts(settings, file):
            key, recipe = f"{name}-{number}-{part}", {**trial, **span}
            told = {name: json.dumps(value) for name, value in recipe.items()} | {"model": kind, "part": part}
            tracked = TrackedTraining(key, f"finagent {name}", told, lineage)
            architecture = digest(kind, json.dumps(trial, sort_keys=True), length=16)
            place = str(folder / f"{number}-{part}")
            trainings.append(Training(tracked, model.factory, recipe, str(folder / ROWS), place, architecture))
    return TrainingPlan(name, kind, folder, file, trials, tuple(trainings))


def _parts(settings: Settings, file: LearningFile) -> list[tuple[str, Recipe]]:
    """Blocks that have candidates to be tested on and some before them; `all` is what a package is made of."""
    chosen, starts, ends = settings.training, file.rows.starts, file.rows.ends
    first, count = int(len(file.dates) * chosen.first_test_fraction), len(file.dates)
    length = max(-(-(count - first) // chosen.blocks), 1)
    parts: list[tuple[str, Recipe]] = []
    for begin in range(first, count, length):
        tested = int(((starts >= begin) & (starts < begin + length)).sum())
        learned = int((ends < begin - chosen.embargo_sessions).sum())
        if tested and not learned:
            raise BadInput(f"no candidate to learn from before {file.dates[begin]}: name a longer window")
        if tested:
            span = {"learn_before": begin - chosen.embargo_sessions, "test_from": begin, "test_to": begin + length}
            parts.append((f"block-{len(parts) + 1}", span))
    if not parts:
        raise BadInput(f"no candidate to test from {file.dates[first]} on: name a longer window")
    return [*parts, ("all", {"learn_before": None, "test_from": None, "test_to": None})]


def open_tracking(settings: Settings) -> Tracking:
    """The writer of metrics, a context."""
    return Tracking(settings.storage.directory / "spool", open_mlflow(settings), settings.training.retry_seconds)


def build_orchestrator(settings: Settings, log: ExperimentLog, progress: Callable[[str, int, int], None]) -> TrainingOrchestrator:
    """With the accelerator's memory as it is now."""
    chosen = settings.training
    memory = accelerator_memory(chosen.inference_reserve_bytes, chosen.accelerator_headroom_bytes)
    policy = TrainingPolicy(chosen.workers, chosen.losses_max, chosen.shrinks_max)
    ledger = AcceleratorLedger(memory, chosen.cpu_meanwhile)
    return TrainingOrchestrator(lambda: TrainingProcess(chosen.nice), log, policy, ledger, progress)


def chosen_trial(plan: TrainingPlan, results: Sequence[TrainingResult]) -> tuple[int, dict[str, float]]:
    """The number of the trial with the least log-loss out of sample, and its figures: means over the blocks, each counting as its
    days do. They flatter, being the best of several: `trials` says of how many."""
    figures = {result.key: result.figures for result in results}
    best: tuple[float, int, dict[str, float]] | None = None
    for number in range(1, len(plan.trials) + 1):
        blocks = [one for one in plan.trainings if one.key.startswith(f"{plan.name}-{number}-block-")]
        days = [_days(plan.file, one.recipe) for one in blocks]
        names = [name for name in figures[blocks[0].key] if "test_" in name]
        means = {
            name: sum(count * figures[one.key][name] for count, one in zip(days, blocks, strict=True)) / sum(days)
            for name in names
        }
        if best is None or means["test_loss"] < best[0]:
            best = (means["test_loss"], number, means)
    assert best is not None, "there is one trial at least"
    return best[1], best[2] | {"trials": float(len(plan.trials)), "test_days": float(sum(days))}


def _days(file: LearningFile, recipe: Recipe) -> int:
    starts = file.rows.starts
    return len(set(starts[(starts >= recipe["test_from"]) & (starts < recipe["test_to"])].tolist()))


def make_package(plan: TrainingPlan, number: int, metrics: Mapping[str, float]) -> ModelPackage:
    """Of the trial that learned from all rows. The same training again makes the same package."""
    (training,) = [one for one in plan.trainings if one.key == f"{plan.name}-{number}-all"]
    model = MODEL_KINDS[plan.kind]
    module, _, name = model.export.partition(":")
    state = open_checkpoint(Path(training.folder) / CHECKPOINT).state
    graph, canary, imputation = getattr(import_module(module), name)(training.recipe, Path(training.data), state)
    rows, lineage = plan.file.rows, training.told.lineage
    until = plan.file.dates[int(rows.ends.max())]
    made_of = digest(plan.name, lineage.data_hash, json.dumps(dict(training.recipe), sort_keys=True), length=8)
    facts = ModelFacts(
        name=f"gap-{plan.kind}",
        version=f"{until:%Y%m%d}-{made_of}",
        description=f"{model.words}; {len(rows)} candidates of {len(plan.file.dates)} sessions, training {plan.name}",
        data_spec_hash=lineage.data_spec_hash,
        features=plan.file.features,
        imputation=imputation,
        trained_until=until,
        metrics=dict(metrics),
        created_by=lineage.asked_by,
        canary=canary,
    )
    return sealed(facts, graph)
