"""`drill kill`: a reference, two replays that must agree with it, then kills over as many fresh folders as needed."""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finagent.domain.errors import Unavailable
from finagent.drill.fork_client import ForkServer, fork_server
from finagent.drill.labels import LABELS, RECOVERED
from finagent.drill.plan import KillPlanner, ReplayPlan
from finagent.drill.replay import Pace, Replay, ReplayRecord
from finagent.drill.report import DrillReport
from finagent.drill.scenario import Scenario

CANDIDATES_MIN = 40
ORDERS_MIN = 15
COLD_RECOVERY_FACTOR = 8.0  # a cold start imports and makes the market first; only where kills fall hangs on it
_UNDISTURBED = ("reference", "jittered-1", "jittered-2")
_MISSES_A_KILL_MAX = 3  # replays that end before their kill: more than this per kill wanted and the drill gives up

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KillDrill:
    """One drill: `kills` kills dealt from `seed`, `replays_at_once` folders under way, everything below `directory`.

    Folders without a finding are removed, the reference and the others stay for a look.
    """

    kills: int
    seed: int
    directory: Path
    scenario: Scenario
    replays_at_once: int
    say: Say

    async def run(self) -> DrillReport:
        """The whole drill. Raises Unavailable when not even an undisturbed replay can be made."""
        report = DrillReport(self.seed)
        self.directory.mkdir(parents=True, exist_ok=True)
        async with fork_server(self.scenario.arguments()) as server:
            self.say("three undisturbed replays: a reference and two with jitter")
            calm = await asyncio.gather(*(self._undisturbed(server, name) for name in _UNDISTURBED))
            if not await self._agree(calm, report):
                return report
            await self._kill_all(server, _pace(calm[1]), calm[0].folder, report)
        report.require_proof(self.kills)
        return report

    # -- undisturbed ---------------------------------------------------------------------------------------------------------

    async def _undisturbed(self, server: ForkServer, name: str) -> ReplayRecord:
        replay = Replay(server, self.scenario, self.directory / name, jitter=name != "reference")
        return await replay.run(ReplayPlan(-1, ()))

    async def _agree(self, calm: list[ReplayRecord], report: DrillReport) -> bool:
        """The jittered replays equal the reference, which holds enough to be worth killing."""
        reference = calm[0].folder
        for record in calm:
            if record.failure:
                report.violate("DRILL", str(record.folder), record.failure)
                return False
            found = await check(record.folder, reference if record is not calm[0] else None)
            report.take(str(record.folder), found)
            if found["candidates"] < CANDIDATES_MIN or found["orders"] < ORDERS_MIN:
                held = f"{found['candidates']} candidates and {found['orders']} orders"
                report.violate("DRILL", str(record.folder), f"{held}: too few to prove anything")
            report.conflicts += record.conflicts
        unpassed = [label for label in LABELS if not calm[1].passages[label]]
        for label in unpassed:
            report.violate("DRILL", label, "an undisturbed replay never passes it")
        self.say(f"undisturbed: {report.candidates // 3} candidates, {report.orders // 3} orders a replay")
        return not report.failed

    # -- kills ---------------------------------------------------------------------------------------------------------------

    async def _kill_all(self, server: ForkServer, pace: Pace, reference: Path, report: DrillReport) -> None:
        planner = KillPlanner(self.seed)
        replays_max = self.kills * (1 + _MISSES_A_KILL_MAX)
        at_work: set[asyncio.Task[None]] = set()
        wanted = {"kills": self.kills}
        while len(report.kills) < self.kills and report.replays < replays_max:
            while wanted["kills"] > 0 and len(at_work) < self.replays_at_once:
                plan = planner.next_replay(wanted["kills"])
                wanted["kills"] -= len(plan.kills)
                at_work.add(asyncio.create_task(self._disturbed(server, pace, reference, plan, planner, report, wanted)))
            if not at_work:
                break
            done, at_work = await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        await asyncio.gather(*at_work)

    async def _disturbed(
        self,
        server: ForkServer,
        pace: Pace,
        reference: Path,
        plan: ReplayPlan,
        planner: KillPlanner,
        report: DrillReport,
        wanted: dict[str, int],
    ) -> None:
        workspace = self.directory / f"replay-{plan.index:04d}"
        record = await Replay(server, self.scenario, workspace, jitter=True, pace=pace).run(plan)
        report.replays += 1
        report.kills += record.kills
        report.recovery_seconds += record.recovery_seconds
        report.cold_starts += record.cold_starts
        report.conflicts += record.conflicts
        for missed in record.missed:
            planner.missed(missed)
        wanted["kills"] += len(record.missed)
        if record.failure:
            report.violate("DRILL", str(record.folder), record.failure)
        found = await check(record.folder, reference)
        report.take(str(record.folder), found)
        clean = not (record.failure or found["violations"])
        if clean:
            shutil.rmtree(workspace)
        fell = f"{len(record.kills)} of {len(plan.kills)} kills fell"
        self.say(f"{len(report.kills)}/{self.kills}  replay {plan.index}: {fell}, {'clean' if clean else f'see {workspace}'}")


async def check(folder: Path, reference: Path | None) -> dict[str, Any]:
    """The independent checker's document on a folder, from a process of its own. Raises Unavailable when it gives none."""
    arguments = ["-m", "finagent_checker", str(folder), "--complete", "--json"]
    arguments += ["--reference", str(reference)] if reference else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await process.communicate()
    if process.returncode not in (0, 3):
        raise Unavailable(f"the checker could not judge {folder}: {complaint.decode(errors='replace').strip()}")
    found: dict[str, Any] = json.loads(said)
    return found


def _pace(record: ReplayRecord) -> Pace:
    seconds = record.recovery_seconds[0]
    return Pace(
        {label: record.passages[label] for label in LABELS if label != RECOVERED}, seconds, seconds * COLD_RECOVERY_FACTOR
    )
