"""Hunts planted bugs with the parts of the kill drill: one fork server, one sound reference, one killed replay a bug."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from finagent.drill.checking import Checker, resident_checker
from finagent.drill.fork_client import ForkServer, fork_server
from finagent.drill.kill import pace_of
from finagent.drill.plan import Aim, PlannedKill, ReplayPlan
from finagent.drill.processes import Processes
from finagent.drill.replay import Pace, Replay
from finagent.drill.report import JITTER_MILLISECONDS
from finagent.drill.scenario import Scenario

SEED = 1
AT_ONCE = 6
PLACES = (0.2, 0.45, 0.7)  # of a label's passages: where a bug's replay is killed
SOUND = ReplayPlan(-1, ())


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted factory, the rules that may name it, and where its replay is killed (None: it shows in an undisturbed one)."""

    application: str
    rules: frozenset[str]
    label: str | None = None


def hunt(bugs: Mapping[str, Bug], folder: Path) -> dict[str, list[dict[str, str]]]:
    """What the checker and the drill find in a replay of each bug."""
    return asyncio.run(_hunt(bugs, folder))


async def _hunt(bugs: Mapping[str, Bug], folder: Path) -> dict[str, list[dict[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="hunt-") as sockets:
        scenario = Scenario(SEED, Path(sockets), None)
        async with fork_server(scenario.arguments()) as server, resident_checker() as checker:
            sound = await Replay(Processes(server, scenario, folder / "sound", 0), checker).run(SOUND)
            assert not sound.failure, sound.failure
            turns = asyncio.Semaphore(AT_ONCE)
            hunts = (_one(name, bug, server, scenario, checker, pace_of(sound), folder, turns) for name, bug in bugs.items())
            return dict(zip(bugs, await asyncio.gather(*hunts), strict=True))


async def _one(
    name: str,
    bug: Bug,
    server: ForkServer,
    scenario: Scenario,
    checker: Checker,
    pace: Pace,
    folder: Path,
    turns: asyncio.Semaphore,
) -> list[dict[str, str]]:
    planted = replace(scenario, application=f"tests.planted_bugs.{bug.application}")
    async with turns:
        processes = Processes(server, planted, folder / name, JITTER_MILLISECONDS)
        record = await Replay(processes, checker, pace).run(_plan(bug, pace))
        found = list(record.violations)
        if record.failure:
            found.append({"invariant": "DRILL", "subject": name, "message": record.failure})
        if (record.folder / "broker-simulator.db").exists():
            document = await checker.check_finished(record.folder, folder / "sound" / "storage")
            found += document["violations"]
        return found


def _plan(bug: Bug, pace: Pace) -> ReplayPlan:
    if bug.label is None:
        return ReplayPlan(0, ())
    kills = (PlannedKill(Aim.LABEL, bug.label, place, 0.0, pace.course.index_of(bug.label, place)) for place in PLACES)
    return ReplayPlan(0, tuple(kills))
