"""`finagent reconcile`: the broker's truth against ours."""

import asyncio
import getpass
import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import Unavailable

if TYPE_CHECKING:
    from finagent.settings import Settings

ANSWER_SECONDS = 60.0  # a broker that answers slowly, over several pages
FOUND_SOMETHING_WRONG = 3


def reconcile(
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="You have looked: release the locked symbols, with what the broker holds beyond ours as known."
        ),
    ] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare account, positions and orders with the broker, and print what differs. Nothing is ever traded.

    A symbol in which somebody else trades takes no new risk until --apply. Exit 0: both agree; 3: they differ, or a symbol is
    locked; 4: the broker does not answer.
    """
    settings = settings_in_force(settings_file, overrides)
    by = getpass.getuser()
    try:
        answer = _through_agent(settings, by, release=apply)
    except NoAgent:
        answer = _without_agent(settings, by if apply else None)
    except NoAnswer as silence:
        raise Unavailable(f"not compared: {silence}") from silence
    typer.echo(json.dumps(answer, indent=2) if as_json else "\n".join(_lines(answer)))
    if answer["differences"] or answer["locked"]:
        raise typer.Exit(FOUND_SOMETHING_WRONG)


def _through_agent(settings: "Settings", by: str, *, release: bool) -> dict[str, Any]:
    from finagent.store_access import CONTROL_SOCKET

    order = {"by": by, "release": release, "good_until": time.time() + ANSWER_SECONDS}
    return ask(settings.storage.directory / CONTROL_SOCKET, "POST", "/control/reconcile", order, ANSWER_SECONDS)


def _without_agent(settings: "Settings", release_by: str | None) -> dict[str, Any]:
    """A start without a run: what an earlier agent left is given back as it was."""
    from finagent.bootstrap import build_application

    if settings.storage.url is None and not settings.database_path.is_file():
        raise Unavailable(f"there is nothing to compare: no database at {settings.database_path}")

    async def compared() -> dict[str, Any]:
        async with build_application(settings) as application:
            return await application.reconcile(release_by)

    return asyncio.run(compared())


def _lines(answer: dict[str, Any]) -> list[str]:
    lines = [f"released  {', '.join(answer['released'])}"] if answer["released"] else []
    lines += [f"{difference['symbol'] or 'ACCOUNT':<9} {difference['text']}" for difference in answer["differences"]]
    lines += [f"locked    {symbol}: no new risk until `finagent reconcile --apply`" for symbol in answer["locked"]]
    return lines or ["the broker and we agree"]
