"""A training as the settings and a person name it: rows of the past, trials beside plain models, and a package.

Needs torch and scikit-learn (`pip install "finagent[models]"`).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from finagent.adapters.models.checkpoint import Checkpoint
from finagent.adapters.models.package import ModelPackage, write_package
from finagent.adapters.models.specialist_export import SpecialistFacts, export_specialist
from finagent.bootstrap.features import build_daily_features
from finagent.bootstrap.live import open_market
from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.regime import Regime
from finagent.policies import gap_past_policy
from finagent.quant.evaluation.labels import day_weights
from finagent.quant.evaluation.walk_forward import Blocks
from finagent.quant.regime.volatility_trend import VolatilityTrend
from finagent.quant.specialists.training import Recipe, SpecialistTraining, TrainingRows
from finagent.quant.specialists.trials import CLIMATOLOGY, TrialReport, run_trials
from finagent.services.market_data.daily_features import anchor
from finagent.services.market_data.feature_past import sessions_between
from finagent.services.market_data.gap_past import AT_THE_OPEN, GapPast, gap_past, index_closes
from finagent.settings import Settings

TRAINING_FOLDER = "training"
_NOT_OF_THE_RECIPE = {"gap_fraction_min", "gap_natr_min", "specialist", "regime_floor", "first_test_days", "test_days"}


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
    """Is told how far it is: sessions read of so many, each trial and block, and the losses of each epoch."""

    session: Callable[[int], None]
    trial: Callable[[str], None]
    epoch: Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """The package, the trials, the rows, and the epoch at which an earlier, ended process had stopped (0: none)."""

    package: ModelPackage
    trials: TrialReport
    rows: int
    resumed_at: int


async def train(settings: Settings, order: Order, watcher: Watcher) -> Trained:
    """BadInput for a window with too few gaps or days, and for a folder that is there already."""
    if order.folder.exists():
        raise BadInput(f"{order.folder} is there already: name another version, or another folder with --out")
    async with open_market(settings) as market:
        sessions = sessions_between(market, order.first, order.last)
        days = build_daily_features(settings, market)
        source = market.source_id
        past = await gap_past(market, sessions, days, gap_past_policy(settings), lambda: watcher.session(len(sessions) - 1))
        history = await market.daily_history(sessions[-1], anchor(sessions[0]))
    torch.set_num_threads(1)  # the same bits wherever it runs; several trainings share a machine by being processes
    weight = day_weights(past.days) * regime_weights(past, history, days.index, settings)
    rows, recipe = _training_rows(past, weight), _recipe(settings)
    trials = run_trials(rows, _long_return(past), recipe, _blocks(settings), watcher.trial)
    training = SpecialistTraining(rows, recipe)
    identity = {"recipe": json.dumps(asdict(recipe), sort_keys=True), "rows": _digest(rows), "spec": AT_THE_OPEN.hash}
    path = settings.storage.directory / TRAINING_FOLDER / f"{order.name}@{order.version}.safetensors"
    checkpoint = Checkpoint(path, identity)
    resumed_at = run_to_end(training, checkpoint, watcher.epoch)
    facts = SpecialistFacts(
        order.name,
        order.version,
        _description(settings.model.training.specialist, recipe, past, source),
        past.sessions[int(past.days[-1])].date,
        _metrics(trials, recipe.network),
        order.by,
    )
    package = export_specialist(training.trained(), AT_THE_OPEN, facts)
    write_package(order.folder, package)
    checkpoint.remove()
    return Trained(package, trials, len(rows.days), resumed_at)


def run_to_end(training: SpecialistTraining, checkpoint: Checkpoint, told: Callable[[int, dict[str, float]], None]) -> int:
    """All epochs that are left, each on the disk before the next; `told` hears of each. Says at which one it went on."""
    kept = checkpoint.read()
    if kept is not None:
        training.restore(kept)
    resumed_at = epoch = training.epochs_run
    while not training.finished:
        losses = training.run_epoch(epoch)
        checkpoint.write(training.state())
        told(epoch, losses)
        epoch += 1
    return resumed_at


def _training_rows(past: GapPast, weight: Floats) -> TrainingRows:
    return TrainingRows(past.features.astype(np.float32)[:, np.newaxis, :], past.outcome, past.target_atr, past.days, weight)


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


def _long_return(past: GapPast) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    natr = past.features[:, AT_THE_OPEN.columns["natr_14"]] / 100.0
    return np.asarray(past.target_atr * natr)


def _recipe(settings: Settings) -> Recipe:
    told = settings.model.training.model_dump(exclude=_NOT_OF_THE_RECIPE)
    return Recipe(**{**told, "seeds": tuple(range(1, told["seeds"] + 1))})


def _blocks(settings: Settings) -> Blocks:
    training = settings.model.training
    return Blocks(training.first_test_days, training.test_days, training.embargo_days)


def _digest(rows: TrainingRows) -> str:
    digest = hashlib.sha256()
    for array in (rows.values, rows.outcome, rows.target_atr, rows.days, rows.weight):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _description(specialist: str, recipe: Recipe, past: GapPast, source: str) -> str:
    return (
        f"{specialist}, {recipe.network} network, {len(recipe.seeds)} seeds, of {len(past.days)} gaps of {source}, "
        f"{past.sessions[0].date} to {past.sessions[-1].date}: the probability that the price goes the way of the gap by half "
        "of its usual range before it goes as far the other way, from what is known at the open"
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
