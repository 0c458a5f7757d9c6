"""`finagent bench NAME`: ours beside the physical limit and beside every peer that is installed."""

import json
import sys
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.bench.contest import Contest
    from finagent.settings import Settings


_VERDICTS = {True: "met", False: "MISSED", None: "nobody to compare with"}


class BenchName(StrEnum):
    """What can be measured."""

    scan = "scan"
    queue = "queue"
    features = "features"
    inference = "inference"
    risk = "risk"


def bench(
    name: Annotated[BenchName, typer.Argument(help="What to measure.")],
    repeats: Annotated[int, typer.Option(min=5, help="Interleaved repeats; medians are shown.")] = 7,
    only: Annotated[list[str] | None, typer.Option(metavar="PART", help="One part of it; may be repeated.")] = None,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure one part beside the physical limit and every installed peer, interleaved, one at a time.

    scan: 10,000 symbols from resident columns to the ranked best 50, and a whole pass from the scan to committed intents.
    features: one bar of 200 and of 5,000 symbols, a batch over history, memory, and a first scan.
    inference: a net of 56,137 parameters under 100 to 5,000 requests a second, beside the same net unbatched in ONNX Runtime and
    torch; 1,000 swaps of the model under load; a rollback.
    risk: one full check of the gate in front of 200 positions and 500 days, beside a plain one in pandas.
    queue: the durable queue beside SQLite alone, its prototype and its peers, with the goals that were set. Its parts: drain,
    backlog, callers, latency, history, start.
    Peers that are not installed are listed: pip install "finagent[bench]" brings them.
    """
    settings = settings_in_force(settings_file, overrides)
    contest = _contest(name, repeats, only or [], overrides or [], settings)
    sys.stdout.write((json.dumps(contest.as_json(), indent=2) if as_json else _as_text(contest)) + "\n")


def _contest(name: BenchName, repeats: int, only: list[str], overrides: list[str], settings: "Settings") -> "Contest":
    from finagent.bench.contest import Contest  # numpy and the agent are imported only when they are measured

    match name:
        case BenchName.scan:
            from finagent.bench.scan import scan_contest
            from finagent.bench.whole_pass import whole_pass

            if only:
                raise BadInput(f"--only {only[0]}: bench scan has no parts")
            peers = scan_contest(repeats)
            return Contest((*peers.rows, whole_pass(repeats, overrides)), peers.absent)
        case BenchName.features:
            from finagent.bench.features import features_contest

            if only:
                raise BadInput(f"--only {only[0]}: bench features has no parts")
            return features_contest(repeats)
        case BenchName.inference:
            from finagent.bench.inference import inference_contest
            from finagent.policies import follow_policy, serving_policy

            if only:
                raise BadInput(f"--only {only[0]}: bench inference has no parts")
            return inference_contest(repeats, replace(serving_policy(settings), on_wall_time=True), follow_policy(settings))
        case BenchName.risk:
            from finagent.bench.risk import risk_contest

            if only:
                raise BadInput(f"--only {only[0]}: bench risk has no parts")
            return risk_contest(repeats)
        case BenchName.queue:
            from finagent.bench.queue import QueuePart, queue_contest

            unknown = [part for part in only if part not in list(QueuePart)]
            if unknown:
                raise BadInput(f"--only {unknown[0]}: the parts of bench queue are {', '.join(QueuePart)}")
            return queue_contest(repeats, [QueuePart(part) for part in only], overrides)


def _as_text(contest: "Contest") -> str:
    lines = []
    for row in contest.rows:
        lines.append(f"{row.figure}; {row.better} is better, ours = 1")
        measured = {"ours": row.ours, **({"physical limit": row.floor} if row.floor is not None else {}), **row.peers}
        width = max(map(len, measured))
        lines += [f"  {name:<{width}}  {value:10.1f} {row.unit}  {value / row.ours:8.2f}" for name, value in measured.items()]
        lines += [f"  goal: {goal}: {_VERDICTS[goal.met(row)]}" for goal in row.goals]
        lines.append(f"  medians of {row.repeats} interleaved repeats; ours spread over {row.spread:.0%} of its median")
    return "\n".join([*lines, *(f"absent: {peer}" for peer in contest.absent)])
