"""`finagent drill`: proofs that end real processes."""

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from finagent.domain.errors import BadInput
from finagent.drill.labels import LABELS

BROKERS = ("simulated", "alpaca")
FOUND_SOMETHING_WRONG = 3
MEMORY, MEMORY_BYTES_MIN = Path("/dev/shm"), 1 << 30  # noqa: S108 - mkdtemp makes a folder of our own there

app = typer.Typer(
    no_args_is_help=True, help="Proofs that end real processes: kill the agent, start it again, check what is left."
)


@app.callback()
def drill() -> None:
    """Proofs that end real processes."""


@app.command(epilog="Example: finagent drill kill --kills 300 --seed 1 --json")
def kill(
    kills: Annotated[int, typer.Option(min=1, help="How often a process is killed.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Key of the plan and of the market: the same seed deals the same kills.")] = 1,
    broker: Annotated[
        str, typer.Option(help="simulated, or alpaca: the same behind Alpaca's HTTP, the real SDK in the agent.")
    ] = BROKERS[0],
    application: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FACTORY", help="Another application in place of the agent, such as a planted bug."),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Kill only at this failpoint; repeatable. Default: everywhere.")] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Where the folders of the replays go; default: a temporary one, in memory where there is room."
        ),
    ] = None,
    replays: Annotated[int, typer.Option(min=1, help="Replays under way at the same time; they mostly sleep.")] = 8,
    jitter: Annotated[int, typer.Option("--jitter-ms", min=0, help="Handlers wait up to this long; less proves less.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Kill a real agent again and again on a simulated day with a faulty broker, and count what was lost or sent twice.

    Exit 0: nothing was. Exit 3: something was, or too little was at risk to prove anything.
    """
    if broker not in BROKERS:
        raise BadInput(
            f"--broker {broker}: a drill kills agents with orders in flight, so it has {' or '.join(BROKERS)}, both simulators"
        )
    unknown = sorted(set(label or ()) - set(LABELS))
    if unknown:
        raise BadInput(f"--label {unknown[0]}: the labels are {', '.join(LABELS)}")
    place = _empty(directory, _memory())
    document, failed = _run(kills, seed, place, application, tuple(label or ()), replays, jitter, broker)
    sys.stdout.write((json.dumps(document, indent=2) if as_json else _as_text(document, place)) + "\n")
    if failed:
        raise typer.Exit(FOUND_SOMETHING_WRONG)
    if directory is None:
        shutil.rmtree(place)


@app.command("power-loss", epilog="Example: finagent drill power-loss --images 1500 --seed 1 --json")
def power_loss(
    images: Annotated[int, typer.Option(min=1, help="How many crash images are made and started on.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Key of the market, the instants and the damage.")] = 1,
    application: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FACTORY", help="Another application in place of the agent, such as a planted bug."),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where the images go; default: a temporary folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Record what an agent writes, cut the power at dealt instants (un-synced writes dropped, reordered, torn), and start the
    agent on what is left: is all there that was acknowledged?

    Exit 0: it is. Exit 3: something was lost or damaged, or too little was at risk to prove anything. Exit 4: no strace here.
    """
    place = _empty(directory)
    from finagent.drill.power_loss import PowerLossDrill  # the agent's code is imported only when it is drilled

    report = asyncio.run(PowerLossDrill(images, seed, place, application, _say).run())
    document = report.as_json()
    sys.stdout.write((json.dumps(document, indent=2) if as_json else _power_loss_as_text(document, place)) + "\n")
    if report.failed:
        raise typer.Exit(FOUND_SOMETHING_WRONG)


def _empty(directory: Path | None, parent: Path | None = None) -> Path:
    """The folder of a drill: the one that was named, if nothing is in it, or a temporary one (in `parent`)."""
    place = directory or Path(tempfile.mkdtemp(prefix="finagent-drill-", dir=parent))
    if place.exists() and any(place.iterdir()):
        raise BadInput(f"--directory {place} is not empty: choose another one")
    return place


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _memory() -> Path | None:
    """What a SIGKILL leaves of a file does not depend on the disk, so a drill does without one where memory has the room."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN else None


def _run(
    kills: int,
    seed: int,
    directory: Path,
    application: str | None,
    labels: tuple[str, ...],
    replays: int,
    jitter: int,
    broker: str,
) -> tuple[dict[str, Any], bool]:
    from finagent.drill.kill import KillDrill  # the agent's code is imported only when it is drilled
    from finagent.drill.scenario import Broker

    drill = KillDrill(kills, seed, directory, application, labels, replays, jitter, _say, Broker(broker))
    report = asyncio.run(drill.run())
    return report.as_json(), report.failed


def _as_text(document: dict[str, Any], directory: Path) -> str:
    recovery = document["recovery_seconds"]
    lines = [
        f"{document['kills']} kills in {document['replays']} replays ({document['cold_starts']} cold), seed {document['seed']}",
        f"at risk: {document['signals_at_risk']} signals; {document['kills_with_order_in_flight']} kills with an order in flight",
        f"lost {document['lost']}, duplicate {document['duplicate']}, unequal {document['unequal']}, parked {document['parked']}",
        f"recovery: p50 {recovery['p50']} s, p99 {recovery['p99']} s; folders of findings in {directory}",
        f"violations: {document['violations_total']}",
    ]
    lines += [f"  {found['invariant']} {found['subject']}: {found['message']}" for found in document["violations"]]
    return "\n".join(lines)


def _power_loss_as_text(document: dict[str, Any], directory: Path) -> str:
    recording, dealt = document["recording"], document["dealt"]
    lines = [
        f"{document['images']} images of {recording['instants']} instants, seed {document['seed']}, "
        f"synchronous {document['synchronous']}",
        f"recorded: {recording['acknowledgements']} acknowledgements, {recording['checkpoints']} checkpoints; "
        f"dealt: {', '.join(f'{count} {name}' for name, count in dealt.items())}",
        f"lost {document['lost']} in {document['images_lost']} images, damaged {document['corrupt']}; folders in {directory}",
        f"violations: {document['violations_total']}",
    ]
    lines += [f"  {found['invariant']} {found['subject']}: {found['message']}" for found in document["violations"]]
    return "\n".join(lines)
