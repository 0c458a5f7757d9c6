"""The processes of one folder under the drill: its broker, and agents that are forked or started from nothing."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from finagent.drill.arming import Arm
from finagent.drill.fork_client import ForkServer
from finagent.drill.scenario import Scenario

BROKER_SECONDS_MAX = 20.0
_LOOK_SECONDS = 0.005
_RECOVERED_EVENT = "start_reconciled"


class ReplayFailed(Exception):
    """A process ended in a way nobody planned."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent process, forked or cold; `log_offset`: where in the log its lines begin."""

    pid: int
    started_at: float
    ended: Callable[[], Awaitable[int]]
    cold: bool = False
    log_offset: int = 0


@dataclass(frozen=True, slots=True)
class Processes:
    """Starts what a folder needs and ends what must not outlive it."""

    server: ForkServer
    scenario: Scenario
    workspace: Path
    jitter_milliseconds: int
    acknowledgements: Path | None = None  # where the agent writes down what it was told is stored

    @property
    def storage(self) -> Path:
        return self.workspace / "storage"

    @property
    def page(self) -> Path:
        return self.workspace / "control.page"

    @property
    def log(self) -> Path:
        return self.workspace / "agent.log"

    async def forked_start(self, arm: Arm | None) -> Agent:
        """An agent that the fork server had ready."""
        started = time.monotonic()
        pid = await self.server.spawn(self._request("agent", arm))
        return Agent(pid, started, lambda: self.server.ended(pid))

    async def cold_start(self) -> Agent:
        """The real command line, from nothing."""
        started = time.monotonic()
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self.scenario.command(self.storage),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return Agent(process.pid, started, process.wait, cold=True, log_offset=offset)

    def cold_recovery_seconds(self, agent: Agent) -> float | None:
        """From the start of a cold agent to the line of its log that says it is reconciled; None without one."""
        with self.log.open("rb") as log:
            log.seek(agent.log_offset)
            for line in log:
                if _RECOVERED_EVENT.encode() in line and line.startswith(b"{"):
                    said = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
                    return said - time.time() + time.monotonic() - agent.started_at
        return None

    async def start_broker(self) -> int:
        """The pid of a broker on the folder's ledger."""
        return await self.server.spawn(self._request("broker"))

    async def broker_is_up(self, broker: int) -> None:
        """Wait until it can be connected to; raises ReplayFailed when it does not come."""
        deadline = time.monotonic() + BROKER_SECONDS_MAX
        while not self.scenario.broker_socket(self.storage).exists():
            if self.server.has_ended(broker) or time.monotonic() > deadline:
                raise ReplayFailed(f"the broker did not start; its log is {self.workspace / 'broker.log'}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def end_broker(self, broker: int) -> None:
        """End it after the frame at hand."""
        if not self.server.has_ended(broker):
            send_signal(broker, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.server.ended(broker), BROKER_SECONDS_MAX)
        except TimeoutError:
            send_signal(broker, signal.SIGKILL)
            await self.server.ended(broker)

    def _request(self, role: str, arm: Arm | None = None) -> dict[str, object]:
        return {
            "role": role,
            "application": self.scenario.application,
            "storage": str(self.storage),
            "control": str(self.page),
            "log": str(self.workspace / f"{role}.log"),
            "jitter_milliseconds": self.jitter_milliseconds,
            "arm": arm.as_json() if arm else None,
            "acknowledgements": str(self.acknowledgements) if self.acknowledgements else None,
        }


def send_signal(pid: int, number: signal.Signals) -> None:
    """To a process that may have ended a moment ago."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


async def stopped(pid: int) -> None:
    """Wait until the process is stopped by a signal; for ever, if it never is."""
    while not _is_stopped(pid):  # noqa: ASYNC110 - the kernel tells its parent only
        await asyncio.sleep(_LOOK_SECONDS)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # it ended meanwhile
        return False
