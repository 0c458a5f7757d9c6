"""`finagent halt` and `finagent arm`: the kill switch, of all or of one strategy, with the agent running, hung or absent."""

import asyncio
import getpass
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.adapters.halt_file import write_halt_file
from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from finagent.settings import Settings

ANSWER_SECONDS = 4.0  # a halt has said what it did within 5 s
REASON_LENGTH_MAX = 500

Reason = Annotated[str, typer.Option("--reason", help="Why; recorded with your name.")]
Strategy = Annotated[
    str | None, typer.Option("--strategy", metavar="NAME", help="Only this entry of the schedule; others go on.")
]


def halt(
    reason: Reason,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Close everything out too: cancel, wait for the end, close.")
    ] = False,
    strategy: Strategy = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Stop new risk now and until a person re-arms. Entries that wait at the broker are cancelled; protective legs and reducing
    exits still go.

    First makes the HALT file, which is read right before each send, so it works on a process that answers nothing. Then the
    running agent, or without one this command, records who halted and why.
    """
    settings, order = _prepared(settings_file, overrides, reason)
    if strategy is not None:
        if flatten:
            raise BadInput("--flatten closes everything out: it goes without --strategy")
        _of_strategy(settings, "halt", order, strategy, as_json=as_json)
        return
    file = _halt_file(settings)
    write_halt_file(file, json.dumps({**order, "at": datetime.now(UTC).isoformat()}) + "\n")
    answer, told = _recorded(settings, order | {"flatten": flatten})
    _print(answer | {"file": str(file)}, f"HALTED: {told} ({file})", as_json=as_json)


def _recorded(settings: "Settings", order: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Who has recorded the halt; where nobody could, the HALT file holds alone."""
    try:
        try:
            answer = _through_agent(settings, "/control/halt", order)
        except NoAgent:
            return {
                "halted": True,
                **_without_agent(settings, "halt", order),
                "recorded_by": "command",
            }, "recorded in the store that all processes share" if settings.storage.url else "no agent is running; recorded"
    except (NoAnswer, BadInput) as silence:
        told = f"the agent does not answer ({silence}), but it reads the HALT file before each send: no new risk leaves"
        return {"halted": True, "recorded_by": "file", "state": "HALTED", "agent": str(silence)}, told
    return {"halted": True, **answer, "recorded_by": "agent"}, "the agent has recorded it"


def arm(
    reason: Reason,
    strategy: Strategy = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Allow new risk again: a person's act, recorded with name and reason. Removes the HALT file last; for one strategy it leaves
    that where it is.
    """
    settings, order = _prepared(settings_file, overrides, reason)
    if strategy is not None:
        _of_strategy(settings, "arm", order, strategy, as_json=as_json)
        return
    try:
        answer, told = _through_agent(settings, "/control/arm", order | _lapsing("arm")), "the agent has recorded it"
    except NoAgent:
        answer, told = _without_agent(settings, "arm", order), "no agent is running here; recorded"
    except NoAnswer as silence:
        raise Unavailable(
            f"not armed: the agent does not answer ({silence}); the order has lapsed, and a HALT file stays where it is"
        ) from silence
    _halt_file(settings).unlink(missing_ok=True)
    _print({"armed": True, **answer}, f"ACTIVE: {told}", as_json=as_json)


def _of_strategy(settings: "Settings", act: str, order: dict[str, Any], strategy: str, *, as_json: bool) -> None:
    """Lock or release one strategy; no HALT file is made, so where the agent hangs nothing is changed."""
    names = [entry.name for entry in settings.schedule]
    if strategy not in names:
        raise BadInput(f"--strategy {strategy}: the entries of the schedule are {', '.join(names)}")
    order = order | {"strategy": strategy}
    try:
        answer = _through_agent(settings, f"/control/strategy/{act}", order | _lapsing(act))
        told = "the agent has recorded it"
    except NoAgent:
        answer, told = _without_agent(settings, act, order), "no agent is running here; recorded"
    except NoAnswer as silence:
        raise Unavailable(
            f"{strategy} is as it was: the agent does not answer ({silence}); `finagent halt` stops all"
        ) from silence
    done = {"halt": "locked", "arm": "released"}[act]
    _print({"strategy": strategy, done: True, **answer}, f"{strategy} is {done}: {told}", as_json=as_json)


def _lapsing(act: str) -> dict[str, float]:
    """A permission lapses when nobody waits for its answer any more; an order to stop never does."""
    return {"good_until": time.time() + ANSWER_SECONDS} if act == "arm" else {}


def _prepared(file: Path | None, overrides: list[str] | None, reason: str) -> "tuple[Settings, dict[str, Any]]":
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX:
        raise BadInput(f"--reason must say why in 1 to {REASON_LENGTH_MAX} characters")
    settings = settings_in_force(file, overrides)
    if not settings.storage.directory.is_dir():
        raise Unavailable(f"storage.directory {settings.storage.directory} does not exist: no agent has run there")
    return settings, {"reason": reason, "by": getpass.getuser()}


def _halt_file(settings: "Settings") -> Path:
    from finagent.store_access import HALT_FILE

    return settings.storage.directory / HALT_FILE


def _through_agent(settings: "Settings", route: str, order: dict[str, Any]) -> dict[str, Any]:
    from finagent.store_access import CONTROL_SOCKET

    return ask(settings.storage.directory / CONTROL_SOCKET, "POST", route, order, ANSWER_SECONDS)


def _without_agent(settings: "Settings", act: str, order: dict[str, Any]) -> dict[str, Any]:
    """This command is the writer; raises BadInput where a process holds the folder without listening."""
    from finagent.services.reporting.canonical import as_plain
    from finagent.store_access import kill_switch_without_agent

    async def record() -> dict[str, Any]:
        async with kill_switch_without_agent(settings) as switch:
            if "strategy" in order:
                change = switch.lock_strategy if act == "halt" else switch.release_strategy
                await change(order["strategy"], order["reason"], order["by"])
            elif act == "halt":
                await switch.halt(order["reason"], order["by"], flatten=order["flatten"])
            else:
                await switch.arm(order["reason"], order["by"])
            state: dict[str, Any] = as_plain(switch.state())
            return state

    if settings.storage.url is None and not settings.database_path.is_file():
        if act == "arm" or "strategy" in order:
            raise Unavailable(f"there is nothing to {act}: no database at {settings.database_path}")
        return {"state": "HALTED", "note": "no database yet: the HALT file holds for the first start"}
    return asyncio.run(record())


def _print(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(answer, indent=2) if as_json else text)
