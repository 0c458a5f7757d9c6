"""`drill kill`: a reference, a replay that must agree with it, then kills over as many fresh folders as needed."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from finagent.drill.checking import Checker, resident_checker
from finagent.drill.course import COURSE, Course
from finagent.drill.fork_client import ForkServer, fork_server
from finagent.drill.labels import BROKER_LABELS, LABELS
from finagent.drill.plan import KillPlanner, ReplayPlan
from finagent.drill.processes import Processes
from finagent.drill.replay import Pace, Replay, ReplayRecord
from finagent.drill.report import DrillReport
from finagent.drill.scenario import Broker, Scenario

CANDIDATES_MIN = 40
ORDERS_MIN = 15
COLD_RECOVERY_FACTOR = 8.0  # a cold start imports and makes the market first; only where kills fall hangs on it
REPLAYS_A_KILL_MAX = 4  # a drill whose kills keep missing gives up
_MOUNTS = Path("/proc/mounts")
_UNDISTURBED = ("reference", "jittered")


@dataclass(frozen=True, slots=True)
class KillDrill:
    """One drill: `kills` kills dealt from `seed`, `replays_at_once` folders under way, everything below `directory`.
    Handlers wait up to `jitter_milliseconds`. `labels`: kill there and nowhere else (none: everywhere).

    Folders without a finding are removed; the reference and the others stay for a look. `say` gets a line of progress at a time.
    """

    kills: int
    seed: int
    directory: Path
    application: str | None
    labels: tuple[str, ...]
    replays_at_once: int
    jitter_milliseconds: int
    say: Callable[[str], None]
    broker: Broker = Broker.SIMULATED

    async def run(self) -> DrillReport:
        """The whole drill. What goes wrong in its replays is in the report; raises Unavailable when it cannot be held at all."""
        self.directory.mkdir(parents=True, exist_ok=True)
        report = DrillReport(self.seed, self.jitter_milliseconds, on_disk=not in_memory(self.directory))
        with tempfile.TemporaryDirectory(prefix="drill-") as sockets:
            scenario = Scenario(self.seed, Path(sockets), self.application, self.broker)
            scenario.write_keys()
            async with fork_server(scenario.arguments()) as server, resident_checker() as checker:
                self.say("two undisturbed replays: a reference and one with jitter")
                calm = await asyncio.gather(*(self._undisturbed(server, scenario, checker, name) for name in _UNDISTURBED))
                if await self._agree(calm, checker, report):
                    await _Campaign(self, server, scenario, checker, calm[0].folder, pace_of(calm[1]), report).run()
        return report

    async def _undisturbed(self, server: ForkServer, scenario: Scenario, checker: Checker, name: str) -> ReplayRecord:
        jitter = 0 if name == "reference" else self.jitter_milliseconds
        return await Replay(Processes(server, scenario, self.directory / name, jitter), checker).run(ReplayPlan(-1, ()))

    async def _agree(self, calm: list[ReplayRecord], checker: Checker, report: DrillReport) -> bool:
        """The jittered replay equals the reference, which holds enough to be worth killing."""
        reference = calm[0].folder
        for record in calm:
            report.conflicts += record.conflicts
            if record.failure:
                report.violate("DRILL", str(record.folder), record.failure)
            if not (record.folder / "finagent.db").exists():
                continue
            found = await checker.check_finished(record.folder, reference if record is not calm[0] else None)
            report.take(str(record.folder), found)
            if found["candidates"] < CANDIDATES_MIN or found["orders"] < ORDERS_MIN:
                held = f"{found['candidates']} candidates and {found['orders']} orders"
                report.violate("DRILL", str(record.folder), f"{held}: too few to prove anything")
        for label in LABELS:
            if not calm[1].passages[label]:
                report.violate("DRILL", label, "an undisturbed replay never passes it")
        self.say(f"undisturbed: {report.candidates // len(calm)} candidates, {report.orders // len(calm)} orders a replay")
        return not report.failed


@dataclass(slots=True)
class _Campaign:
    """The kills of a drill: folders are opened until enough kills fell, several at a time."""

    drill: KillDrill
    server: ForkServer
    scenario: Scenario
    checker: Checker
    reference: Path
    pace: Pace
    report: DrillReport
    unplanned: int = field(init=False)  # kills wanted that no plan holds yet

    async def run(self) -> None:
        self.unplanned = self.drill.kills
        began = time.monotonic()
        planner = KillPlanner(self.drill.seed, self.pace.course, self.drill.labels)
        under_way: set[asyncio.Task[None]] = set()
        opened = 0
        while self.unplanned or under_way:
            while (
                self.unplanned and len(under_way) < self.drill.replays_at_once and opened < self.drill.kills * REPLAYS_A_KILL_MAX
            ):
                plan = planner.next_replay(self.unplanned)
                self.unplanned -= len(plan.kills)
                opened += 1
                under_way.add(asyncio.create_task(self._replay(plan, planner), name=f"replay-{plan.index}"))
            if not under_way:
                break
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        self.report.seconds = time.monotonic() - began
        self.report.require_proof(self.drill.kills, self.drill.labels or LABELS)

    async def _replay(self, plan: ReplayPlan, planner: KillPlanner) -> None:
        workspace = self.drill.directory / f"replay-{plan.index:04d}"
        processes = Processes(self.server, self.scenario, workspace, self.drill.jitter_milliseconds)
        record = await Replay(processes, self.checker, self.pace).run(plan)
        (workspace / "plan.txt").write_text("\n".join(map(repr, plan.kills)) + "\n")
        for missed in record.missed:
            planner.missed(missed)
        self.unplanned += len(record.missed)
        self._count(record)
        violations = list(record.violations)
        if (record.folder / "finagent.db").exists():
            found = await self.checker.check_finished(record.folder, self.reference)
            self.report.take(str(record.folder), found)
            violations += found["violations"]
        faults = [record.failure] if record.failure else [f"{v['invariant']} {v['subject']}: {v['message']}" for v in violations]
        if not faults:
            shutil.rmtree(workspace)
        fell = f"{len(record.kills)} of {len(plan.kills)} kills fell"
        if record.missed:
            fell += f" (not at {record.missed[0].label or record.missed[0].aim.value.lower()})"
        verdict = f"see {workspace}: {faults[0]}" if faults else "clean"
        self.drill.say(f"{len(self.report.kills)}/{self.drill.kills}  replay {plan.index}: {fell}, {verdict}")

    def _count(self, record: ReplayRecord) -> None:
        self.report.replays += 1
        self.report.kills += record.kills
        self.report.recovery_seconds += record.recovery_seconds
        self.report.cold_recovery_seconds += record.cold_recovery_seconds
        self.report.slot_seconds += record.seconds
        self.report.cold_slot_seconds += record.cold_seconds
        self.report.cold_starts += record.cold_starts
        self.report.conflicts += record.conflicts
        self.report.violations += record.violations
        if record.failure:
            self.report.violate("DRILL", str(record.folder), record.failure)


def pace_of(record: ReplayRecord) -> Pace:
    """What the undisturbed replay was like."""
    seconds = record.recovery_seconds[0]
    broker = {label: record.passages[label] for label in BROKER_LABELS}
    course = Course.load(record.folder.with_name(COURSE))
    return Pace(course, broker, record.replay_seconds, seconds, seconds * COLD_RECOVERY_FACTOR)


def in_memory(folder: Path) -> bool:
    """Whether the folder lies in a file system of memory: a SIGKILL leaves that as it is, a power cut would not."""
    mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()] if _MOUNTS.exists() else []
    above = [(Path(place), kind) for place, kind in mounts if folder.resolve().is_relative_to(place)]
    return bool(above) and max(above, key=lambda mount: len(mount[0].parts))[1] == "tmpfs"
