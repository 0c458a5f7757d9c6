"""`finagent models`: packages of models, and which of them is the champion."""

import asyncio
import getpass
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.halt import ANSWER_SECONDS, REASON_LENGTH_MAX, Reason
from finagent.cli.model_evaluation import evaluate
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, FinagentError, Unavailable

if TYPE_CHECKING:
    from finagent.domain.ports.model_registry import Alias, ModelRegistry
    from finagent.services.model_history import ChampionChange
    from finagent.settings import Settings

WRONG = 3
Version = Annotated[str, typer.Argument(metavar="VERSION", help="name@version, as `finagent models list` shows it.")]

app = typer.Typer(no_args_is_help=True, help="Registered models, and which of them scores (model.serve: registry).")
app.command(
    epilog="Example: finagent models evaluate --set market_data.source=files:bars --set market_data.first_session=2004-01-02"
)(evaluate)


@app.command("list", epilog="Example: finagent models list --json")
def list_(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Every version with its roles. Exits 3 where one is damaged."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.bootstrap import open_registry
    from finagent.cli.output import print_json

    registry = open_registry(settings)
    aliases = registry.aliases()
    rows = [_row(registry, version, aliases) for version in registry.versions()]
    if as_json:
        print_json({"registry": str(settings.models_path), "serve": settings.model.serve, "models": rows})
    else:
        _print_table(rows, settings)
    if any(row["fault"] for row in rows):
        raise typer.Exit(WRONG)


@app.command(epilog="Example: finagent models show gap-logistic@3")
def show(version: Version, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """One version: what it is, what it was trained on and up to when, its figures, its features."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.bootstrap import open_registry
    from finagent.cli.output import print_json

    registry = open_registry(settings)
    known = asdict(registry.facts(version)) | {
        "roles": _roles(registry.aliases(), version),
        "folder": str(registry.fetch(version)),
    }
    if as_json:
        print_json(known)
        return
    known["roles"] = ", ".join(known["roles"]) or "none"
    known["metrics"] = ", ".join(f"{name} {value:.6g}" for name, value in known["metrics"].items()) or "none"
    known["features"] = ", ".join(known["features"])
    typer.echo("\n".join(f"{name.replace('_', ' '):<15} {value}" for name, value in known.items()))


@app.command(epilog="Example: finagent models register made/gap-logistic-3")
def register(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A package: model.onnx and manifest.json.")],
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Take a package in, once it has proven that it is whole, made for these features, and says to its canary what it said when
    it was made. It scores nothing before it is promoted."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.bootstrap import open_registry
    from finagent.cli.output import print_json

    facts = open_registry(settings).register(folder)
    if as_json:
        print_json(facts)
    else:
        typer.echo(f"{facts.version} is registered in {settings.models_path} ({facts.digest[:16]})")


@app.command(epilog='Example: finagent models promote gap-logistic@3 --reason "better calibrated over 250 predictions"')
def promote(
    version: Version,
    reason: Reason,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make a version champion, and the old one previous; recorded with your name. An agent serves it from its next start."""
    settings = _prepared(settings_file, overrides, reason)
    from finagent.bootstrap import open_registry

    registry = open_registry(settings)
    before = registry.promote(version)
    _tell(settings, _change(registry, "promote", version, before, reason), as_json=as_json)


@app.command(epilog='Example: finagent models rollback --reason "scores are all alike since noon"')
def rollback(reason: Reason, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Make the previous version champion again; recorded with your name. An agent serves it from its next start."""
    settings = _prepared(settings_file, overrides, reason)
    from finagent.bootstrap import open_registry
    from finagent.domain.ports.model_registry import Alias

    registry = open_registry(settings)
    before = registry.rollback()
    _tell(settings, _change(registry, "rollback", registry.aliases()[Alias.CHAMPION], before, reason), as_json=as_json)


def _row(registry: "ModelRegistry", version: str, aliases: "dict[Alias, str]") -> dict[str, Any]:
    row: dict[str, Any] = {"version": version, "roles": _roles(aliases, version), "fault": ""}
    try:
        facts = registry.facts(version)
    except BadInput as refusal:
        return row | {"fault": str(refusal)}
    told = {"description": facts.description, "trained_until": facts.trained_until, "data_spec_hash": facts.data_spec_hash}
    return row | told | {"metrics": facts.metrics, "digest": facts.digest}


def _roles(aliases: "dict[Alias, str]", version: str) -> list[str]:
    return [alias.value for alias, has_it in aliases.items() if has_it == version]


def _print_table(rows: list[dict[str, Any]], settings: "Settings") -> None:
    from rich.table import Table

    from finagent.cli.result_table import terminal

    table = Table("version", "role", "trained until", "data spec", "digest", "what it is", box=None)
    for row in rows:
        if row["fault"]:
            table.add_row(row["version"], ", ".join(row["roles"]), "", "", "", f"DAMAGED: {row['fault']}")
        else:
            facts = (str(row["trained_until"]), row["data_spec_hash"], row["digest"][:16], row["description"])
            table.add_row(row["version"], ", ".join(row["roles"]), *facts)
    terminal().print(table, highlight=False, markup=False)
    served = "the champion scores" if settings.model.serve == "registry" else "the formula scores, none of these"
    typer.echo(f"{len(rows)} versions in {settings.models_path}; model.serve is {settings.model.serve}: {served}")


def _prepared(file: Path | None, overrides: list[str] | None, reason: str) -> "Settings":
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX:
        raise BadInput(f"--reason must say why in 1 to {REASON_LENGTH_MAX} characters")
    return settings_in_force(file, overrides)


def _change(registry: "ModelRegistry", act: str, version: str, before: str | None, reason: str) -> "ChampionChange":
    from finagent.services.model_history import ChampionChange

    return ChampionChange(act, version, registry.facts(version).digest, before, reason, getpass.getuser())


def _tell(settings: "Settings", change: "ChampionChange", *, as_json: bool) -> None:
    """The alias has moved; say so, and who has recorded it."""
    from finagent.cli.output import print_json

    try:
        recorder = _recorded(settings, change)
    except (NoAnswer, FinagentError) as silence:
        raise Unavailable(
            f"the champion is {change.version}, but that is not recorded: {silence}; `finagent models promote {change.version} "
            "--reason R` records it, once an agent answers or none runs"
        ) from silence
    if as_json:
        print_json({"champion": change.version, "before": change.before, "digest": change.digest, "recorded_by": recorder})
        return
    was = f" (before: {change.before})" if change.before not in (None, change.version) else ""
    recorded = f"recorded by the {recorder}" if recorder else "there is no store yet to record it in"
    served = "" if settings.model.serve == "registry" else "; model.serve is formula, so it does not score"
    typer.echo(f"champion is {change.version}{was}: {recorded}{served}")


def _recorded(settings: "Settings", change: "ChampionChange") -> str | None:
    """Through the agent; without one this command is the writer. None where there is no store."""
    from finagent.domain.effect import Effect
    from finagent.services.model_history import champion_changed
    from finagent.store_access import CONTROL_SOCKET, writing

    async def record() -> None:
        async with writing(settings) as writer:
            event = champion_changed(change, writer.clock.now())
            await writer.queue.submit(Effect(events=(event,)))

    order = {**asdict(change), "good_until": time.time() + ANSWER_SECONDS}
    try:
        ask(settings.storage.directory / CONTROL_SOCKET, "POST", "/control/models/champion", order, ANSWER_SECONDS)
    except NoAgent:
        if settings.storage.url is None and not settings.database_path.is_file():
            return None
        asyncio.run(record())
        return "command"
    return "agent"
