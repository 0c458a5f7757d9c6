"""`finagent bench NAME`: ours beside the physical limit and beside every peer that is installed."""

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force

if TYPE_CHECKING:
    from finagent.bench.contest import Contest


class BenchName(StrEnum):
    """What can be measured."""

    scan = "scan"


def bench(
    name: Annotated[BenchName, typer.Argument(help="What to measure.")],
    repeats: Annotated[int, typer.Option(min=5, help="Interleaved repeats; medians are shown.")] = 7,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure one part beside the physical limit and every installed peer, interleaved, one at a time.

    scan: 10,000 symbols from resident columns to the ranked best 50, and a whole pass from the scan to committed intents.
    Peers that are not installed are listed: pip install "finagent[bench]" brings them.
    """
    settings_in_force(settings_file, overrides)
    contest = _contest(name, repeats, overrides or [])
    sys.stdout.write((json.dumps(contest.as_json(), indent=2) if as_json else _as_text(contest)) + "\n")


def _contest(name: BenchName, repeats: int, overrides: list[str]) -> "Contest":
    from finagent.bench.contest import Contest  # numpy and the agent are imported only when they are measured
    from finagent.bench.scan import scan_contest
    from finagent.bench.whole_pass import whole_pass

    match name:
        case BenchName.scan:
            peers = scan_contest(repeats)
            return Contest((*peers.rows, whole_pass(repeats, overrides)), peers.absent)


def _as_text(contest: "Contest") -> str:
    lines = []
    for row in contest.rows:
        lines.append(f"{row.figure}; {row.better} is better, ours = 1")
        measured = {"ours": row.ours, **({"physical limit": row.floor} if row.floor is not None else {}), **row.peers}
        width = max(map(len, measured))
        lines += [f"  {name:<{width}}  {value:10.1f} {row.unit}  {value / row.ours:8.2f}" for name, value in measured.items()]
        lines.append(f"  medians of {row.repeats} interleaved repeats; ours spread over {row.spread:.0%} of its median")
    return "\n".join([*lines, *(f"absent: {peer}" for peer in contest.absent)])
