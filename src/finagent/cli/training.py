"""`finagent models train`: from days of the past to a package in the registry, resumable wherever it was killed."""

import asyncio
import getpass
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import Transient

if TYPE_CHECKING:
    from datetime import date

    from finagent.bootstrap.training import TrainingPlan
    from finagent.services.models.training import TrainingResult
    from finagent.settings import Settings

WRONG = 3


def train(
    model: Annotated[str, typer.Option("--model", metavar="KIND", help="What is trained: logistic.")] = "logistic",
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session.")] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train on the candidates of past days, test walk-forward, and register the package with the role challenger. It scores
    nothing before it is promoted. Given again, it goes on where it was. Exits 3 where a training failed."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    span = (first.date() if first else None, last.date() if last else None)
    document = asyncio.run(_trained(settings, model, span))
    if as_json:
        print_json(document)
    else:
        _tell(document)
    if document["success_rate"] < 1.0:
        raise typer.Exit(WRONG)


async def _trained(settings: "Settings", kind: str, span: "tuple[date | None, date | None]") -> dict[str, Any]:
    from finagent.bootstrap.live import open_market
    from finagent.bootstrap.training import MODEL_KINDS, gather_rows, open_tracking, plan_trainings, training_name
    from finagent.domain.errors import BadInput

    if kind not in MODEL_KINDS:
        raise BadInput(f"--model {kind}: one of {', '.join(MODEL_KINDS)}")
    async with open_market(settings) as market:
        name = training_name(settings, kind, market, *span)
        with typer.progressbar(length=1, label="sessions", file=sys.stderr) as bar:

            def done(sessions: int) -> None:
                if sessions:
                    bar.length = sessions
                else:
                    bar.update(1)

            file = await gather_rows(settings, market, name, span, done)
        notice = market.notice
    plan = plan_trainings(settings, kind, name, file, getpass.getuser())
    with open_tracking(settings) as log:
        results = await _run(settings, plan, log)
    document = {
        "name": plan.name,
        "data": notice,
        "data_hash": file.hash,
        "rows": len(file.rows),
        "sessions": len(file.dates),
        "untracked": log.unsent(),
    }
    return document | _registered(settings, plan, results)


async def _run(settings: "Settings", plan: "TrainingPlan", log: Any) -> "tuple[TrainingResult, ...]":
    """With a bar on stderr."""
    from finagent.bootstrap.training import build_orchestrator

    epochs = settings.training.epochs
    seen: dict[str, int] = {}
    with typer.progressbar(length=epochs * len(plan.trainings), label="training", file=sys.stderr) as bar:

        def progress(key: str, done: int, at_most: int) -> None:
            reached = epochs if done == at_most else min(done, epochs)
            bar.update(reached - seen.get(key, 0))
            seen[key] = reached

        return await build_orchestrator(settings, log, progress).run(plan.trainings)


def _registered(settings: "Settings", plan: "TrainingPlan", results: "tuple[TrainingResult, ...]") -> dict[str, Any]:
    """The package of the best trial, unless one of the trainings failed: the best of what is left would be chosen by accident."""
    import tempfile
    from pathlib import Path

    from finagent.adapters.models.package import write_package
    from finagent.bootstrap import open_registry
    from finagent.bootstrap.training import chosen_trial, make_package
    from finagent.domain.ports.model_registry import Alias
    from finagent.services.models.training import success_rate

    document: dict[str, Any] = {
        "trainings": [
            {"key": one.key, "outcome": one.outcome.value, "reason": one.reason, "epochs": one.done, "figures": dict(one.figures)}
            for one in results
        ],
        "success_rate": success_rate(results),
        "version": None,
        "metrics": {},
    }
    if document["success_rate"] < 1.0:
        return document
    number, metrics = chosen_trial(plan, results)
    package = make_package(plan, number, metrics)
    registry = open_registry(settings)
    with tempfile.TemporaryDirectory() as folder:
        write_package(Path(folder) / "package", package)
        registry.register(Path(folder) / "package")
    try:
        registry.point(Alias.CHALLENGER, package.version)
    except Transient as away:
        document["role"] = f"none: {away}"
    return document | {"version": package.version, "metrics": metrics, "recipe": dict(plan.trials[number - 1])}


def _tell(document: dict[str, Any]) -> None:
    typer.echo(f"{document['rows']} candidates of {document['sessions']} sessions; {document['data']}")
    failed = [one for one in document["trainings"] if one["outcome"] != "FINISHED"]
    typer.echo(f"{len(document['trainings'])} trainings of {document['name']}, {document['success_rate']:.0%} to the end")
    for one in failed:
        typer.echo(f"  {one['key']}: {one['reason']}")
    if document["version"] is None:
        return
    told = document["metrics"]
    typer.echo(
        f"{document['version']} is registered as challenger: out of sample log-loss {told['test_loss']:.4f} (base rates "
        f"{told['climatology_test_loss']:.4f}), Brier {told['test_brier']:.4f} ({told['climatology_test_brier']:.4f}), the best "
        f"of {told['trials']:.0f} over {told['test_days']:.0f} days"
    )
    if document["untracked"]:
        typer.echo(f"{document['untracked']} trainings wait in spool for the tracking store")
