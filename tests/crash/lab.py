"""Agents in trouble, one folder each, beside a sound reference: the parts of the kill drill, for faults that no plan deals.

One fork server serves all folders of a session, so that a fault costs a fraction of a second.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finagent.drill.arming import Arm
from finagent.drill.checking import Checker, resident_checker
from finagent.drill.control import Control
from finagent.drill.fork_client import ForkServer, fork_server
from finagent.drill.kill import pace_of
from finagent.drill.plan import PlannedKill, ReplayPlan
from finagent.drill.processes import Processes
from finagent.drill.replay import Pace, Replay, ReplayRecord
from finagent.drill.report import JITTER_MILLISECONDS
from finagent.drill.scenario import Scenario

SEED = 1
SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Lab:
    """Everything below `folder`; `pace` and the folder `sound` are those of an undisturbed replay."""

    server: ForkServer
    scenario: Scenario
    checker: Checker
    folder: Path
    pace: Pace

    def processes(self, name: str, application: str | None = None) -> Processes:
        """Those of the folder `name`; `application` names another factory than the agent's own."""
        return Processes(self.server, replace(self.scenario, application=application), self.folder / name, JITTER_MILLISECONDS)

    async def suffered(self, name: str, kills: tuple[PlannedKill, ...], application: str | None = None) -> ReplayRecord:
        """A replay under the kills, to its end."""
        return await Replay(self.processes(name, application), self.checker, self.pace).run(ReplayPlan(0, kills))

    async def found(self, name: str) -> dict[str, Any]:
        """The checker's document on the folder, compared with the sound one."""
        return await self.checker.check_finished(self.folder / name / "storage", self.folder / SOUND / "storage")

    async def started(self, name: str, arms: Iterable[Arm | None], application: str | None = None) -> list[int]:
        """Starts one agent after the other under the arms, on one broker, until one ends its day; their exit codes."""
        processes = self.processes(name, application)
        processes.storage.mkdir(parents=True, exist_ok=True)
        codes = []
        with Control(processes.page):
            broker = await processes.start_broker()
            try:
                await processes.broker_is_up(broker)
                for arm in arms:
                    agent = await processes.forked_start(arm)
                    codes.append(await asyncio.wait_for(agent.ended(), 120))
                    if codes[-1] == 0:
                        break
            finally:
                await processes.end_broker(broker)
        self.scenario.broker_socket(processes.storage).unlink(missing_ok=True)
        return codes


@asynccontextmanager
async def laboratory(folder: Path) -> AsyncIterator[Lab]:
    """A fork server, a checker and a sound reference."""
    with tempfile.TemporaryDirectory(prefix="lab-") as sockets:
        scenario = Scenario(SEED, Path(sockets), None)
        async with fork_server(scenario.arguments()) as server, resident_checker() as checker:
            sound = await Replay(Processes(server, scenario, folder / SOUND, 0), checker).run(ReplayPlan(-1, ()))
            assert not sound.failure, sound.failure
            yield Lab(server, scenario, checker, folder, pace_of(sound))
