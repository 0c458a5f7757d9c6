"""`finagent models import`: weights that torch saved elsewhere, as a package."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import Unavailable

if TYPE_CHECKING:
    from finagent.adapters.models.package import ModelPackage


def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the model: small letters, digits, - . _")],
    number: Annotated[str, typer.Argument(metavar="VERSION", help="Of the model; NAME@VERSION is new.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="State dicts of torch (.pth), one a seed.")],
    about: Annotated[
        Path,
        typer.Option(
            "--about",
            metavar="JSON",
            help="What weights do not say: description, trained_until, features, mean, deviation and, if they were calibrated, "
            "temperature and probability_min.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Of the package; a new one.")] = None,
    into_registry: Annotated[bool, typer.Option("--register", help="Register the package, too.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make a package of state dicts of one of the networks that `train` knows, over one row of features. Torch reads them with
    `weights_only`; whatever else is in a file, nothing of it runs and the file is refused by name. The package has no figures,
    since nobody has tested it here: `review` does."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.bootstrap import open_registry
    from finagent.cli.output import print_json

    folder = out or settings.storage.directory / "packages" / f"{name}-{number}"
    package = _imported(name, number, files, about, folder)
    if into_registry:
        open_registry(settings).register(folder)
    if as_json:
        print_json({"folder": str(folder), "registered": into_registry, **_facts(package)})
    else:
        where = f", and registered in {settings.models_path}" if into_registry else ""
        typer.echo(f"{package.version} is in {folder} ({package.digest[:16]}){where}")


def _imported(name: str, number: str, files: list[Path], about: Path, folder: Path) -> "ModelPackage":
    try:
        from finagent.bootstrap.imports import ImportOrder, import_weights
    except ModuleNotFoundError as missing:
        raise Unavailable(f'importing needs {missing.name}: pip install "finagent[models]"') from missing
    return import_weights(ImportOrder(name, number, files, about, getpass.getuser(), folder))


def _facts(package: "ModelPackage") -> dict[str, object]:
    facts = package.facts
    return {
        "version": facts.version,
        "digest": facts.digest,
        "description": facts.description,
        "trained_until": facts.trained_until,
        "data_spec_hash": facts.data_spec_hash,
    }
