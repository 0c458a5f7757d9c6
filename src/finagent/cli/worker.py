"""`finagent worker`: another process takes part."""

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Interrupted

if TYPE_CHECKING:
    from finagent.settings import Settings

SHARED_SERVICES = ("scoring", "planner")
EVERYTHING = ",".join(SHARED_SERVICES)


def worker(
    services: Annotated[
        str, typer.Option(metavar="NAME,...", help=f"What it takes, of: {', '.join(SHARED_SERVICES)}.")
    ] = ",".join(SHARED_SERVICES),
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Take the jobs of some services off the agent, on this host or another one, until SIGTERM.

    It needs a store that processes share (queue.backend postgres, storage.url). The services that decide on risk and talk to
    the broker belong to the agent alone. Where no worker lives, the agent does everything itself.
    """
    named = [name.strip() for name in services.split(",") if name.strip()]
    unknown = sorted(set(named) - set(SHARED_SERVICES))
    if unknown or not named:
        raise BadInput(f"--services {services}: one or more of {', '.join(SHARED_SERVICES)}")
    done = asyncio.run(_work(settings_in_force(settings_file, overrides), frozenset(named)))
    if as_json:
        from finagent.cli.output import print_json

        print_json({"services": sorted(named), "jobs": done})
    else:
        typer.echo("\n".join(f"{kind:<12} {count:>8}" for kind, count in sorted(done.items())) or "no jobs")


async def _work(settings: "Settings", services: frozenset[str]) -> dict[str, int]:
    """How many jobs of each type were done; none when it was stopped before it took part."""
    from finagent.api.resident import on_signals
    from finagent.bootstrap import build_worker

    stop = asyncio.Event()
    with on_signals(stop.set), suppress(Interrupted):
        async with build_worker(settings, services, stop) as taking_part:
            sys.stderr.write(f"finagent: taking {', '.join(sorted(services))}; SIGTERM ends it in good order\n")
            sys.stderr.flush()
            return await taking_part.run()
    return {}
