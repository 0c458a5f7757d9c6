"""Options that every command has."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from finagent.settings import Settings

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="Settings file (else FINAGENT_SETTINGS, ./settings.yaml, packaged)."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting, over everything else; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")]


def settings_in_force(file: Path | None, overrides: list[str] | None) -> "Settings":
    """The settings of this command; logging is set up from them. Raises BadInput with every error at once."""
    from finagent.settings import load_settings, secrets_in_use
    from finagent.telemetry.logging import LoggingPolicy, configure

    settings = load_settings(file, overrides or ())
    configure(LoggingPolicy(settings.telemetry.level, settings.telemetry.format), secrets_in_use(settings))
    return settings
