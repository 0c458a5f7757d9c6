"""`finagent models train`: from days of the past to a package, going on wherever it was killed."""

import asyncio
import getpass
import sys
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import Unavailable

if TYPE_CHECKING:
    from finagent.bootstrap.training import Trained, Watcher

WRONG = 3
_STEPS = 100  # of the bar a training


def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the model: small letters, digits, - . _")],
    number: Annotated[str, typer.Argument(metavar="VERSION", help="Of the model; NAME@VERSION is new.")],
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Of the package; a new one.")] = None,
    into_registry: Annotated[bool, typer.Option("--register", help="Register the package, too.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train a model of gaps on past sessions, test it walking forward beside plain models, and pack it (`model.training`).

    Every model and block is an experiment in MLflow, trained an epoch in turn in processes of low priority. What was interrupted
    goes on where it stood when it is asked for again. It scores nothing before it is promoted. Exits 3 where one failed."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.bootstrap import open_registry
    from finagent.cli.output import print_json

    folder = out or settings.storage.directory / "packages" / f"{name}-{number}"
    begin, end = (each.date() if each is not None else None for each in (first, last))
    try:
        import finagent.bootstrap.training as training

        order = training.Order(name, number, begin, end, getpass.getuser(), folder)
        with ExitStack() as bars:
            done = asyncio.run(training.train(settings, order, _watcher(bars)))
    except ModuleNotFoundError as missing:
        raise Unavailable(f'training needs {missing.name}: pip install "finagent[models]"') from missing
    if into_registry and done.package is not None:
        open_registry(settings).register(folder)
    training.note_training(settings, order, done)
    if as_json:
        print_json(_document(done, folder))
    else:
        _print(done, folder)
    if done.package is None:
        raise typer.Exit(WRONG)


def _watcher(bars: ExitStack) -> "Watcher":
    """Bars on stderr: sessions that are read, then epochs of all trainings, each counting alike."""
    from finagent.bootstrap.training import Watcher

    shown: dict[str, Any] = {}
    reached: dict[str, int] = {}

    def bar(label: str, length: int) -> Any:
        if label not in shown:
            shown[label] = bars.enter_context(typer.progressbar(length=length, label=label, file=sys.stderr))
        return shown[label]

    def session(of: int) -> None:
        bar("sessions", of).update(1)

    def epoch(key: str, done: int, at_most: int, trainings: int) -> None:
        now = _STEPS * done // at_most
        bar("training", _STEPS * trainings).update(now - reached.get(key, 0))
        reached[key] = now

    return Watcher(session, epoch)


def _document(done: "Trained", folder: Path) -> dict[str, Any]:
    from finagent.services.models.training import success_rate

    told: dict[str, Any] = {
        "experiment": done.plan.final.told.experiment,
        "data_hash": done.plan.file.hash,
        "rows": len(done.plan.file.rows.days),
        "success_rate": success_rate(done.results),
        "untracked": done.untracked,
        "trainings": [{**asdict(each), "outcome": each.outcome.value, "figures": dict(each.figures)} for each in done.results],
    }
    if done.package is None or done.trials is None:
        return told
    trials = [
        {name: value for name, value in asdict(each).items() if name != "returns" and value == value}
        for each in done.trials.results
    ]
    facts = done.package.facts
    packed = {"version": facts.version, "digest": facts.digest, "folder": str(folder), "trained_until": facts.trained_until}
    return told | packed | {"metrics": facts.metrics, "trials": trials, "alarms": done.trials.alarms}


def _print(done: "Trained", folder: Path) -> None:
    if done.package is None or done.trials is None:
        for result in done.results:
            if result.reason:
                typer.echo(f"{result.key} failed after epoch {result.done}: {result.reason}")
        typer.echo("no package was made: ask again, and what has ended is not trained again")
        return
    from rich.table import Table

    from finagent.cli.result_table import terminal

    table = Table("walk-forward", "log-loss", "Brier", "accuracy", "calibration error", "coverage", "Sharpe", box=None)
    for each in done.trials.results:
        figures = (each.log_loss, each.brier, each.accuracy, each.calibration_error, each.coverage, each.sharpe)
        table.add_row(each.name, *(f"{figure:.4f}" for figure in figures))
    terminal().print(table, highlight=False, markup=False)
    typer.echo(
        f"{done.trials.rows} gaps of {done.trials.sessions} sessions tested, {len(done.plan.file.rows.days)} learned from; "
        f"probability that the best is overfitted {done.trials.overfitting_probability:.2f}"
    )
    for alarm in done.trials.alarms:
        typer.echo(f"too good to be true: {alarm}; look for a leak first (`finagent features lookahead`)")
    if done.untracked:
        typer.echo(f"{done.untracked} trainings wait on the disk for the tracking store")
    typer.echo(f"{done.package.version} is in {folder} ({done.package.digest[:16]})")
