"""`drill power-loss`: record what an agent asks of the disk, cut the power at dealt instants, start the agent on what is left."""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finagent.domain.errors import Unavailable
from finagent.drill.checking import resident_checker
from finagent.drill.course import Course
from finagent.drill.fork_client import ForkServer, fork_server
from finagent.drill.image import DAMAGE, CrashImage, CrashImages, MadeImage, Verdict
from finagent.drill.plan import Aim, PlannedKill, ReplayPlan
from finagent.drill.processes import Processes
from finagent.drill.recording import ACKNOWLEDGEMENTS, LOG, command, recorded_events
from finagent.drill.replay import Pace, Replay
from finagent.drill.report import VIOLATIONS_SHOWN
from finagent.drill.scenario import Scenario

# The recorded agent is killed once, in the middle of its day: the recording holds a recovery.
_KILLED_AT, _KILLED_AFTER = "effect_commit.after", 150
_PACE = Pace(Course((_KILLED_AT,) * _KILLED_AFTER, (("", 0),)), {}, 0.0, 0.0, 0.0)
ACKNOWLEDGEMENTS_MIN = 200
CHECKPOINTS_MIN = 10
UNSURE_SHARE_MIN = 0.2  # of the images: with writes on the way that no sync covered
IMAGES_PER_CORE = 2  # at a time: half of each is waiting for the disk
SAY_EVERY = 100


@dataclass
class PowerLossReport:
    """The sums over all images of a drill."""

    seed: int
    survey: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    images_lost: int = 0
    lost: int = 0
    lost_max: int = 0
    corrupt: int = 0
    unsure: int = 0  # images of an instant at which no sync covered all writes
    damage: Counter[str] = field(default_factory=Counter)
    dealt: Counter[str] = field(default_factory=Counter)
    instants: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, made: MadeImage, verdict: Verdict) -> list[str]:
        """The verdict on one image; says what is wrong with it in words."""
        image = made.image
        where = f"image {image.number} (after event {image.instant}, {image.damage.value.lower()})"
        self.images += 1
        self.images_lost += bool(verdict.lost)
        self.lost += len(verdict.lost)
        self.lost_max = max(self.lost_max, len(verdict.lost))
        self.corrupt += bool(verdict.corrupt)
        self.unsure += made.in_commit or made.in_checkpoint
        self.damage[image.damage.value.lower()] += 1
        self.dealt.update(made.dealt)
        self.instants.update({"in_commit": made.in_commit, "in_checkpoint": made.in_checkpoint})
        found = [{"invariant": "I9", "subject": where, "message": message} for message in verdict.lost]
        found += [{"invariant": DAMAGE, "subject": where, "message": message} for message in verdict.corrupt]
        found += [{**violation, "subject": f"{where}: {violation['subject']}"} for violation in verdict.violations]
        self.violations += found
        return [f"{each['invariant']} {each['message']}" for each in found]

    def require_proof(self, images_wanted: int) -> None:
        """Images of a recording that holds little, or of instants at which nothing was on the way, prove little."""
        for name, least in (("acknowledgements", ACKNOWLEDGEMENTS_MIN), ("checkpoints", CHECKPOINTS_MIN)):
            if self.survey[name] < least:
                self._violate(name, f"{self.survey[name]} in the recording: too few to prove anything")
        if self.images < images_wanted:
            self._violate("images", f"{self.images} of {images_wanted} were judged")
        if self.unsure < UNSURE_SHARE_MIN * self.images:
            self._violate("unsure", f"{self.unsure} of {self.images} images had a write on the way")

    def _violate(self, subject: str, message: str) -> None:
        self.violations.append({"invariant": "DRILL", "subject": subject, "message": message})

    @property
    def failed(self) -> bool:
        return bool(self.violations)

    def as_json(self) -> dict[str, Any]:
        """The document of `drill power-loss --json`."""
        return {
            "images": self.images,
            "lost": self.lost,
            "corrupt": self.corrupt,
            "synchronous": self.survey.get("synchronous"),
            "seed": self.seed,
            "images_lost": self.images_lost,
            "lost_max": self.lost_max,
            "violations": self.violations[:VIOLATIONS_SHOWN],
            "violations_total": len(self.violations),
            "images_unsure": self.unsure,
            "instants": dict(sorted(self.instants.items())),
            "damage": dict(sorted(self.damage.items())),
            "dealt": dict(sorted(self.dealt.items())),
            "recording": self.survey,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class PowerLossDrill:
    """One drill: `images` images dealt from `seed`, everything below `directory`; images without a finding are removed."""

    images: int
    seed: int
    directory: Path
    application: str | None
    say: Callable[[str], None]

    async def run(self) -> PowerLossReport:
        """The whole drill. What is wrong with its images is in the report; raises Unavailable when it cannot be held at all."""
        report = PowerLossReport(self.seed)
        workspace = self.directory.resolve() / "recorded"
        workspace.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="drill-") as sockets:
            scenario = Scenario(self.seed, Path(sockets), self.application)
            started = time.monotonic()
            await self._record(scenario, workspace)
            images = CrashImages(recorded_events(workspace))
            report.survey = images.survey()
            report.seconds["recording"] = round(time.monotonic() - started, 1)
            self.say("recorded: {acknowledgements} acknowledgements, {checkpoints} checkpoints".format(**report.survey))
            started = time.monotonic()
            async with fork_server((*scenario.arguments(), "--promises", str(workspace / ACKNOWLEDGEMENTS))) as server:
                await self._judge_all(server, images, report)
            report.seconds["images"] = round(time.monotonic() - started, 1)
        report.require_proof(self.images)
        if not report.failed:
            shutil.rmtree(workspace)
        return report

    async def _record(self, scenario: Scenario, workspace: Path) -> None:
        """One day of an agent with its broker, both under strace; the agent is killed once and started again."""
        kill = PlannedKill(Aim.LABEL, _KILLED_AT, 1.0, 0.0, _KILLED_AFTER - 1)
        self.say("recording an agent")
        async with fork_server(scenario.arguments(), command(workspace / LOG)) as server, resident_checker() as checker:
            processes = Processes(server, scenario, workspace, 0, workspace / ACKNOWLEDGEMENTS)
            record = await Replay(processes, checker, _PACE).run(ReplayPlan(0, (kill,)))
        if record.failure or not record.kills:
            raise Unavailable(f"no agent could be recorded: {record.failure or 'it was not killed'}; see {workspace}")

    async def _judge_all(self, server: ForkServer, images: CrashImages, report: PowerLossReport) -> None:
        """Images are made one after the other and judged several at a time."""
        dealt = [images.deal(self.seed, number) for number in range(self.images)]
        made = images.make(self.seed, dealt, lambda image: self._workspace(image) / "storage")

        async def judge_some() -> None:
            for image in made:
                await self._judge(server, image, report)
                if report.images % SAY_EVERY == 0:
                    self.say(f"{report.images}/{self.images}  {report.images_lost} lost something, {report.corrupt} damaged")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(IMAGES_PER_CORE * (os.cpu_count() or 1)):
                tasks.create_task(judge_some())

    async def _judge(self, server: ForkServer, made: MadeImage, report: PowerLossReport) -> None:
        workspace = self._workspace(made.image)
        answer, log = workspace / "verdict.json", workspace / "agent.log"
        paths = {"storage": str(workspace / "storage"), "answer": str(answer), "log": str(log)}
        status = await server.ended(await server.spawn({"role": "image", "lines": made.image.lines, **paths}))
        if answer.exists():
            verdict = Verdict(**json.loads(answer.read_text()))
        else:
            verdict = Verdict([], [f"the start ended its process with {status}"], [])
        faults = report.take(made, verdict)
        if faults:
            self.say(f"image {made.image.number}, see {workspace}: {faults[0]}")
        else:
            shutil.rmtree(workspace)

    def _workspace(self, image: CrashImage) -> Path:
        return self.directory / f"image-{image.number:05d}"
