"""`finagent models report`: the page of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.domain.ports.model_registry import ModelVersion
    from finagent.settings import Settings


def report(
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="name@version, as `finagent models list` shows it; default: the one that scores."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The page; default: model-VERSION.html among the reports.")
    ] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """A page: learning curves, calibration, walk-forward beside plain models, importance of features, figures.

    All of it is what the training wrote into the package; a package without it says so."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.adapters.report_files import ReportFiles
    from finagent.cli.output import print_json
    from finagent.services.reporting.model_page import model_page

    facts, roles = _chosen(settings, version)
    place = out or settings.storage.directory / "reports" / f"model-{facts.version}.html"
    path = ReportFiles(place.parent).write(place.name, model_page(facts, roles))
    if as_json:
        print_json({"report": path, "version": facts.version, "roles": roles, "digest": facts.digest, "evidence": facts.evidence})
    else:
        typer.echo(path)


def _chosen(settings: "Settings", version: str | None) -> "tuple[ModelVersion, list[str]]":
    from finagent.adapters.models.package import SHIPPED, open_package
    from finagent.bootstrap import open_registry
    from finagent.domain.ports.model_registry import Alias

    if version is None and settings.model.serve == "shipped":
        return open_package(SHIPPED).facts, ["shipped"]
    registry = open_registry(settings)
    aliases = registry.aliases()
    version = version or aliases.get(Alias.CHAMPION)
    if version is None:
        raise BadInput("no model is champion: name a VERSION, as `finagent models list` shows it")
    return registry.facts(version), [alias.value for alias, has_it in aliases.items() if has_it == version]
