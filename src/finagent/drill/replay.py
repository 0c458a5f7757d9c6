"""One folder's life under the drill: its broker, its agents one after another, the kills, the last start in peace."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from finagent.drill.arming import Arm
from finagent.drill.checking import check_remains
from finagent.drill.control import BrokerOrderToKill, Control
from finagent.drill.fork_client import ForkServer
from finagent.drill.labels import BROKER_LABELS
from finagent.drill.observation import observe
from finagent.drill.plan import Aim, PlannedKill, ReplayPlan
from finagent.drill.report import JITTER_MILLISECONDS, Kill
from finagent.drill.scenario import Scenario

CALM_SECONDS_MAX = 300.0
HANGS_AFTER_REPLAYS = 5.0  # times the length of an undisturbed replay: then an agent is taken for hanging
HANGS_AFTER_SECONDS_MIN = 30.0
BROKER_SECONDS_MAX = 20.0
_LOOK_SECONDS = 0.005
_RECOVERY_STRETCH = 1.2  # kills in a recovery fall up to a little past its usual end
_SHARE_OF_THE_REST = 0.85  # passages vary a little from replay to replay: leave a margin, so that few kills come too late
_KILLED = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Pace:
    """What an undisturbed replay was like: passages by label, its length, seconds from start to recovered (forked, and cold)."""

    passages: dict[str, int]
    replay_seconds: float
    recovery_seconds: float
    cold_recovery_seconds: float


@dataclass(slots=True)
class ReplayRecord:
    """What happened in one folder, apart from what the checker says of it."""

    folder: Path
    kills: list[Kill] = field(default_factory=list)
    missed: list[PlannedKill] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    passages: dict[str, int] = field(default_factory=dict)
    replay_seconds: float = 0.0  # of the start that reached the end
    cold_starts: int = 0
    conflicts: int = 0
    violations: list[dict[str, str]] = field(default_factory=list)  # of what the killed agents left behind
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent process, forked or cold."""

    pid: int
    started_at: float
    ended: Callable[[], Awaitable[int]]


class ReplayFailed(Exception):
    """A process ended in a way nobody planned."""


class Replay:
    """Runs one plan in one folder."""

    def __init__(
        self,
        server: ForkServer,
        scenario: Scenario,
        workspace: Path,
        *,
        jitter_milliseconds: int,
        pace: Pace | None = None,
        acknowledgements: Path | None = None,
    ) -> None:
        self._server, self._scenario, self._workspace = server, scenario, workspace
        self._acknowledgements = acknowledgements
        self._storage = workspace / "storage"
        self._jitter_milliseconds, self._pace = jitter_milliseconds, pace
        self._record = ReplayRecord(self._storage)

    async def run(self, plan: ReplayPlan) -> ReplayRecord:
        """The whole life of the folder. Never raises for what its processes do: `failure` says it."""
        self._storage.mkdir(parents=True)
        with Control(self._workspace / "control.page") as control:
            broker = await self._server.spawn(self._request("broker"))
            try:
                await self._broker_is_up(broker)
                await self._suffer(plan, control)
            except ReplayFailed as error:
                self._record.failure = str(error)
            finally:
                await self._end_broker(broker)
            self._record.passages = control.passed_all()
            self._record.conflicts = control.conflicts
        return self._record

    async def _suffer(self, plan: ReplayPlan, control: Control) -> None:
        for number, kill in enumerate(plan.kills):
            if await self._one_start(kill, control):
                self._record.missed = list(plan.kills[number:])
                return
        await self._one_start(None, control)

    async def _one_start(self, kill: PlannedKill | None, control: Control) -> bool:
        """Start the agent with the kill in wait. True when the replay finished, False when the kill fell."""
        control.recovered_at = 0.0
        agent = await (self._cold_start() if kill and kill.cold else self._forked_start(self._own_arm(kill, control)))
        killer = asyncio.create_task(self._kill_from_outside(kill, agent, control)) if kill else None
        try:
            status = await asyncio.wait_for(agent.ended(), self._patience_seconds)
        except TimeoutError:
            os.kill(agent.pid, signal.SIGKILL)
            await agent.ended()
            raise ReplayFailed(f"an agent was still at work after {self._patience_seconds:.0f} s") from None
        finally:
            control.order_broker(None)
            if killer:
                killer.cancel()
        if (self._record.kills or kill is None) and control.recovered_at > agent.started_at:
            self._record.recovery_seconds.append(control.recovered_at - agent.started_at)
        if status == 0:
            self._record.replay_seconds = time.monotonic() - agent.started_at
            return True
        if status != _KILLED or kill is None:
            raise ReplayFailed(f"an agent ended with {status}; its log is {self._workspace / 'agent.log'}")
        await self._look_at_remains(kill)
        return False

    async def _look_at_remains(self, kill: PlannedKill) -> None:
        """What was at risk, and whether anything was wrong already: an order at the broker that no committed intent explains is
        healed by the next start, and was a gamble all the same."""
        left = observe(self._storage / "finagent.db")
        self._record.kills.append(Kill(kill.aim, kill.label, kill.cold, left.signals_at_risk, left.orders_in_flight > 0))
        if left.begun:
            where = f"{self._workspace.name} after kill {len(self._record.kills)} ({kill.label or kill.aim.value.lower()})"
            found = await check_remains(self._storage)
            self._record.violations += [{**violation, "folder": where} for violation in found["violations"]]

    # -- how a kill comes about ----------------------------------------------------------------------------------------------

    def _own_arm(self, kill: PlannedKill | None, control: Control) -> Arm | None:
        """The arm that the agent's own process carries."""
        if kill is None or kill.label in BROKER_LABELS:
            return None
        if kill.aim is Aim.RECOVERY and kill.label is None:
            return Arm(None, 0, kill.place * _RECOVERY_STRETCH * self._known_pace.recovery_seconds)
        delay = kill.delay * JITTER_MILLISECONDS / 1000.0 if kill.aim is Aim.INSTANT else 0.0
        return Arm(kill.label, self._passage(kill, control), delay)

    async def _kill_from_outside(self, kill: PlannedKill, agent: Agent, control: Control) -> None:
        """The kills that the agent cannot deal itself: at the broker's labels, and of the real command."""
        if kill.label in BROKER_LABELS:
            control.order_broker(BrokerOrderToKill(kill.label, self._passage(kill, control), agent.pid))
        elif kill.cold and kill.aim is Aim.RECOVERY:
            await asyncio.sleep(kill.place * _RECOVERY_STRETCH * self._known_pace.cold_recovery_seconds)
            os.kill(agent.pid, signal.SIGKILL)
        elif kill.cold:
            target = sum(map(control.passed, BROKER_LABELS)) + self._remaining(BROKER_LABELS, kill.place, control)
            while sum(map(control.passed, BROKER_LABELS)) < target:  # noqa: ASYNC110 - another process moves the counter
                await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(kill.delay * JITTER_MILLISECONDS / 1000.0)
            os.kill(agent.pid, signal.SIGKILL)

    def _passage(self, kill: PlannedKill, control: Control) -> int:
        """At which passage, counted from this start, the kill falls."""
        if not kill.fresh_row or kill.aim is Aim.RECOVERY:
            return 1
        labels = tuple(self._known_pace.passages) if kill.label is None else (kill.label,)
        return self._remaining(labels, kill.place, control)

    def _remaining(self, labels: tuple[str, ...], place: float, control: Control) -> int:
        """1 or more: the given share of the passages that an undisturbed replay would still have."""
        left = sum(self._known_pace.passages[label] for label in labels) - sum(control.passed(label) for label in labels)
        return 1 + int(place * _SHARE_OF_THE_REST * max(0, left))

    @property
    def _known_pace(self) -> Pace:
        if self._pace is None:
            raise ReplayFailed("a kill was planned before the reference was known")
        return self._pace

    @property
    def _patience_seconds(self) -> float:
        """Wall time may end a replay as failed; it decides nothing in it."""
        if self._pace is None:
            return CALM_SECONDS_MAX
        return max(HANGS_AFTER_SECONDS_MIN, HANGS_AFTER_REPLAYS * self._pace.replay_seconds)

    # -- processes -----------------------------------------------------------------------------------------------------------

    def _request(self, role: str, arm: Arm | None = None) -> dict[str, object]:
        return {
            "role": role,
            "storage": str(self._storage),
            "control": str(self._workspace / "control.page"),
            "log": str(self._workspace / f"{role}.log"),
            "jitter_milliseconds": self._jitter_milliseconds,
            "arm": arm.as_json() if arm else None,
            "acknowledgements": str(self._acknowledgements) if self._acknowledgements else None,
        }

    async def _forked_start(self, arm: Arm | None) -> Agent:
        started = time.monotonic()
        pid = await self._server.spawn(self._request("agent", arm))
        return Agent(pid, started, lambda: self._server.ended(pid))

    async def _cold_start(self) -> Agent:
        """The real command line, from nothing."""
        self._record.cold_starts += 1
        started = time.monotonic()
        with (self._workspace / "agent.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._scenario.command(self._storage),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return Agent(process.pid, started, process.wait)

    async def _broker_is_up(self, broker: int) -> None:
        deadline = time.monotonic() + BROKER_SECONDS_MAX
        while not self._scenario.broker_socket(self._storage).exists():
            if self._server.has_ended(broker) or time.monotonic() > deadline:
                raise ReplayFailed(f"the broker did not start; its log is {self._workspace / 'broker.log'}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end_broker(self, broker: int) -> None:
        if not self._server.has_ended(broker):
            os.kill(broker, signal.SIGTERM)
        try:
            await asyncio.wait_for(self._server.ended(broker), BROKER_SECONDS_MAX)
        except TimeoutError:
            os.kill(broker, signal.SIGKILL)
            await self._server.ended(broker)
