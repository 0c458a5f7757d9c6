"""`finagent config`: the settings in force."""

import json
from typing import Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force

app = typer.Typer(no_args_is_help=True, help="The settings in force, and whether they hold.")


@app.command(epilog="Example: finagent config show --set plan.risk_fraction=0.0025 --json")
def show(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Every setting in force, after file, environment and --set; secrets masked."""
    values = settings_in_force(settings_file, overrides).masked()
    typer.echo(json.dumps(values, indent=2) if as_json else "\n".join(_lines(values)))


@app.command(epilog="Example: finagent config check --settings my.yaml")
def check(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Validate the settings; every error is listed at once (exit code 2)."""
    from finagent.policies import check as check_policies

    settings = settings_in_force(settings_file, overrides)
    check_policies(settings)
    document = {"valid": True, "settings_hash": settings.settings_hash}
    typer.echo(json.dumps(document) if as_json else f"the settings hold (hash {settings.settings_hash})")


def _lines(values: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{path}.")
        else:
            lines.append(f"{path} = {json.dumps(value)}")
    return lines
