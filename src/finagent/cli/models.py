"""`finagent models`: packages of models, and which of them is the champion."""

import asyncio
import getpass
import math
import time
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.halt import ANSWER_SECONDS, REASON_LENGTH_MAX, Reason
from finagent.cli.model_import import import_
from finagent.cli.model_page import report
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.cli.retention import gc
from finagent.cli.training import train
from finagent.domain.errors import BadInput, FinagentError, Unavailable

if TYPE_CHECKING:
    from finagent.domain.ports.model_registry import Alias, ModelRegistry
    from finagent.services.models.history import ChampionChange
    from finagent.services.models.review import Review
    from finagent.settings import Settings

WRONG = 3
Version = Annotated[str, typer.Argument(metavar="VERSION", help="name@version, as `finagent models list` shows it.")]


class Role(Enum):
    """What `deploy` can make of a version."""

    CHALLENGER = "challenger"
    CANARY = "canary"


app = typer.Typer(no_args_is_help=True, help="Registered models, and which of them scores (model.serve: registry).")


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
    known["evidence"] = "`finagent models report` shows it" if known["evidence"] else "none"
    typer.echo("\n".join(f"{name.replace('_', ' '):<15} {value}" for name, value in known.items()))


@app.command(epilog="Example: finagent models history --json")
def history(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Who was champion when, by whom and why, with the evidence; what a running agent served; canaries that were stopped."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.domain.decision import DecisionEvent, SubjectType
    from finagent.domain.time import to_text
    from finagent.store_access import reading

    with reading(settings) as store:
        told = store.reads.find(DecisionEvent, subject_type=SubjectType.MODEL)
    rows = [{"at": to_text(event.at), "event": event.kind, **event.body} for event in sorted(told, key=lambda event: event.at)]
    if as_json:
        print_json({"events": rows})
        return
    for row in rows or [{"at": "", "event": "nothing has happened to a model in this folder"}]:
        figures = row.pop("evidence", ())
        rest = ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("at", "event") and value is not None)
        typer.echo(f"{row['at']}  {row['event']}  {rest}".strip())
        for figure in figures:
            typer.echo(f"    {figure}")


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


app.command(
    epilog="Example: finagent models train gap-flat 1 --to 2008-09-30 --set market_data.first_session=2004-08-19 "
    "--set market_data.last_session=2008-12-31 --register"
)(train)
app.command("import", epilog="Example: finagent models import gap-flat 7 seed-1.pth seed-2.pth --about weights.json --register")(
    import_
)
app.command(epilog="Example: finagent models report gap-flat@7 --out model.html")(report)
app.command(epilog="Example: finagent models gc --dry-run")(gc)


@app.command(epilog="Example: finagent models deploy gap-logistic@3 --as challenger")
def deploy(
    version: Version,
    role: Annotated[Role, typer.Option("--as", help="The role that it gets; who had it before has none then.")],
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Give a registered version the role of challenger or canary, as it is: nothing is trained. `promote` makes champions."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.bootstrap import open_registry
    from finagent.cli.output import print_json
    from finagent.domain.ports.model_registry import Alias

    open_registry(settings).point(Alias(role.value), version)
    if as_json:
        print_json({role.value: version})
    else:
        typer.echo(f"{role.value} is {version}")


@app.command(epilog="Example: finagent models review gap-logistic@3")
def review(version: Version, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """What the gate says of a challenger, line by line: both models on every candidate in the store whose session neither was
    trained on, labelled with the minutes that followed. Changes nothing. Exits 3 where the gate says no."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    found = _reviewed(settings, version)
    if as_json:
        print_json(_document(found))
    else:
        _print_review(found)
    if not found.verdict.positive:
        raise typer.Exit(WRONG)


@app.command(epilog='Example: finagent models promote gap-logistic@3 --reason "better calibrated over 250 predictions"')
def promote(
    version: Version,
    reason: Reason,
    against_evidence: Annotated[bool, typer.Option("--against-evidence", help="Also where the gate says no.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make a version champion, and the old one previous, where the gate says yes (see `review`); recorded with the evidence and
    your name. The first champion has nobody to be compared with. An agent on wall time serves it at once, a replay from its next
    start. Exits 3 where the gate says no, and then nothing has changed."""
    settings = _prepared(settings_file, overrides, reason)
    from finagent.bootstrap import open_registry
    from finagent.domain.ports.model_registry import Alias

    registry = open_registry(settings)
    evidence: tuple[str, ...] = ()
    if registry.aliases().get(Alias.CHAMPION) not in (None, version):
        evidence = _evidence(settings, version, against_evidence=against_evidence, as_json=as_json)
    before = registry.promote(version)
    _tell(settings, _change(registry, "promote", version, before, reason, evidence), as_json=as_json)


@app.command(epilog='Example: finagent models rollback --reason "scores are all alike since noon"')
def rollback(reason: Reason, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Make the previous version champion again; recorded with your name. An agent on wall time
    serves it at once, a replay from its next start."""
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
    served = "the champion scores" if settings.model.serve == "registry" else "none of these scores"
    typer.echo(f"{len(rows)} versions in {settings.models_path}; model.serve is {settings.model.serve}: {served}")


def _prepared(file: Path | None, overrides: list[str] | None, reason: str) -> "Settings":
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX:
        raise BadInput(f"--reason must say why in 1 to {REASON_LENGTH_MAX} characters")
    return settings_in_force(file, overrides)


def _reviewed(settings: "Settings", version: str) -> "Review":
    from finagent.bootstrap import review_challenger
    from finagent.store_access import reading

    with reading(settings) as store:
        return asyncio.run(review_challenger(settings, store.reads, version))


def _document(found: "Review") -> dict[str, Any]:
    """JSON knows no figure that is not finite: null."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    lines = [asdict(each) | {"value": known(each.value), "limit": known(each.limit)} for each in found.verdict.findings]
    told = {"champion": found.champion, "challenger": found.challenger, "promote": found.verdict.positive}
    return told | {"findings": lines, "left_out": found.left_out}


def _print_review(found: "Review") -> None:
    from rich.table import Table

    from finagent.cli.result_table import terminal

    table = Table("", "asked", "value", "limit", box=None)
    for finding in found.verdict.findings:
        mark = "yes" if finding.passed else "NO"
        table.add_row(mark, finding.line.value, f"{finding.value:.6g}", f"{finding.relation} {finding.limit:.6g}")
    terminal().print(table, highlight=False, markup=False)
    for reason, count in found.left_out.items():
        typer.echo(f"{count} candidates are no evidence: {reason}")
    typer.echo(f"{found.challenger} against {found.champion}: {'promote' if found.verdict.positive else 'do not promote'}")


def _evidence(settings: "Settings", version: str, *, against_evidence: bool, as_json: bool) -> tuple[str, ...]:
    """The lines of the gate, for the record. Ends the command where they say no and nobody overrules them."""
    from finagent.cli.output import print_json

    try:
        found = _reviewed(settings, version)
    except Unavailable as nothing:
        if against_evidence:
            return (f"none: {nothing}",)
        raise
    if found.verdict.positive or against_evidence:
        return tuple(str(finding) for finding in found.verdict.findings)
    if as_json:
        print_json(_document(found))
    else:
        _print_review(found)
    typer.echo("finagent: nothing has changed; --against-evidence promotes it all the same, and the record will say so", err=True)
    raise typer.Exit(WRONG)


def _change(
    registry: "ModelRegistry", act: str, version: str, before: str | None, reason: str, evidence: tuple[str, ...] = ()
) -> "ChampionChange":
    from finagent.services.models.history import ChampionChange

    return ChampionChange(act, version, registry.facts(version).digest, before, reason, getpass.getuser(), evidence)


def _tell(settings: "Settings", change: "ChampionChange", *, as_json: bool) -> None:
    """The alias has moved; say so, and who has recorded it."""
    from finagent.cli.output import print_json

    try:
        recorder, serves = _recorded(settings, change)
    except (NoAnswer, FinagentError) as silence:
        raise Unavailable(
            f"the champion is {change.version}, but that is not recorded: {silence}; `finagent models promote {change.version} "
            "--reason R` records it, once an agent answers or none runs"
        ) from silence
    if as_json:
        print_json(
            {
                "champion": change.version,
                "before": change.before,
                "digest": change.digest,
                "recorded_by": recorder,
                "serves": serves,
            }
        )
        return
    was = f" (before: {change.before})" if change.before not in (None, change.version) else ""
    recorded = (
        f"recorded by the {recorder}" if recorder else "there is no store yet to record it in, so say it again once there is"
    )
    typer.echo(f"champion is {change.version}{was}: {recorded}{_served(settings, change, serves)}")


def _served(settings: "Settings", change: "ChampionChange", serves: str | None) -> str:
    if settings.model.serve != "registry":
        return f"; model.serve is {settings.model.serve}, so it does not score"
    if serves is None:
        return ""
    return "; it scores from now on" if serves == change.version else f"; until its next start the agent scores with {serves}"


def _recorded(settings: "Settings", change: "ChampionChange") -> tuple[str | None, str | None]:
    """By whom, and what the agent serves by now: through the agent; without one this command is the writer. None where there is
    no store, and where there is no agent."""
    from finagent.domain.effect import Effect
    from finagent.services.models.history import champion_changed
    from finagent.store_access import CONTROL_SOCKET, writing

    async def record() -> None:
        async with writing(settings) as writer:
            event = champion_changed(change, writer.clock.now())
            await writer.queue.submit(Effect(events=(event,)))

    order = {**asdict(change), "good_until": time.time() + ANSWER_SECONDS}
    try:
        answer = ask(settings.storage.directory / CONTROL_SOCKET, "POST", "/control/models/champion", order, ANSWER_SECONDS)
    except NoAgent:
        if settings.storage.url is None and not settings.database_path.is_file():
            return None, None
        asyncio.run(record())
        return "command", None
    return "agent", answer["serves"]
