"""One folder's life under the drill: its broker, its agents one after another, the kills, the last start in peace."""

import asyncio
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from finagent.drill.arming import Arm
from finagent.drill.checking import Checker
from finagent.drill.control import BrokerOrderToKill, Control
from finagent.drill.course import Course
from finagent.drill.labels import BROKER_LABELS
from finagent.drill.observation import observe
from finagent.drill.plan import Aim, PlannedKill, ReplayPlan
from finagent.drill.processes import Agent, Processes, ReplayFailed, send_signal, stopped
from finagent.drill.report import JITTER_MILLISECONDS, Kill

HANGS_AFTER_SECONDS = 120.0  # without a label passed; a slow machine passes few, a hang none
LASTS_SECONDS_MAX = 600.0  # of one start, whatever it passes
STOP_SECONDS = 1.0
STOPPED_PASSAGES_MAX = 20  # a process that was stopped goes on for up to so many passages before it is killed
TERM_SECONDS_MAX = 20.0  # promised
TERM_IN_START_SHARE, TERM_TWICE_SHARE = 0.3, 0.3
_LOOK_SECONDS = 0.005
_STILL_SECONDS = 0.5
_RECOVERY_STRETCH = 1.2  # kills in a recovery fall up to a little past its usual end
_KILLED, _ASKED = frozenset({-signal.SIGKILL}), frozenset({130, -signal.SIGTERM})
ENDS = {aim: _ASKED if aim is Aim.TERM else _KILLED for aim in Aim}


@dataclass(frozen=True, slots=True)
class Pace:
    """What an undisturbed replay was like: its course, the passages of the broker's labels, its length, seconds from start to
    recovered (forked, and cold)."""

    course: Course
    broker_passages: dict[str, int]
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
    cold_recovery_seconds: list[float] = field(default_factory=list)
    passages: dict[str, int] = field(default_factory=dict)
    replay_seconds: float = 0.0  # of the start that reached the end
    seconds: float = 0.0  # of the whole life
    cold_seconds: float = 0.0  # of it, what cold starts took until they had ended
    cold_starts: int = 0
    conflicts: int = 0
    violations: list[dict[str, str]] = field(default_factory=list)  # of what the killed agents left behind
    failure: str = ""


class Replay:
    """Runs one plan in one folder."""

    def __init__(self, processes: Processes, checker: Checker, pace: Pace | None = None) -> None:
        self._processes, self._checker, self._pace = processes, checker, pace
        self._record = ReplayRecord(processes.storage)
        self._market_at = ""

    async def run(self, plan: ReplayPlan) -> ReplayRecord:
        """The whole life of the folder. Never raises for what its processes do: `failure` says it."""
        began = time.monotonic()
        self._processes.storage.mkdir(parents=True)
        with Control(self._processes.page) as control:
            broker = await self._processes.start_broker()
            try:
                await self._processes.broker_is_up(broker)
                await self._suffer(plan, control)
            except ReplayFailed as error:
                self._record.failure = str(error)
            finally:
                await self._processes.end_broker(broker)
            self._record.passages = control.passed_all()
            self._record.conflicts = control.conflicts
        self._record.seconds = time.monotonic() - began
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
        agent = await self._start(kill, control)
        killer = asyncio.create_task(self._kill_from_outside(kill, agent, control)) if kill else None
        try:
            status = await self._ended(agent, control)
        finally:
            control.order_broker(None)
            if killer:
                killer.cancel()
        self._note_recovery(kill, agent, control)
        if status == 0:
            self._record.replay_seconds = time.monotonic() - agent.started_at
            return True
        if kill is None or status not in ENDS[kill.aim]:
            raise ReplayFailed(f"an agent ended with {status}; its log is {self._processes.log}")
        await self._look_at_remains(kill)
        return False

    async def _ended(self, agent: Agent, control: Control) -> int:
        """Its exit status. Wall time may end a replay as failed; it decides nothing in it."""
        ended = asyncio.ensure_future(agent.ended())
        passed, moved_at = control.passed_all(), agent.started_at
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_STILL_SECONDS)
                now, before, passed = time.monotonic(), passed, control.passed_all()
                if passed != before:
                    moved_at = now
                if now - moved_at > HANGS_AFTER_SECONDS or now - agent.started_at > LASTS_SECONDS_MAX:
                    send_signal(agent.pid, signal.SIGKILL)
                    await ended
                    raise ReplayFailed(
                        f"an agent hung: alive for {now - agent.started_at:.0f} s, still for {now - moved_at:.0f} s"
                    )
            return ended.result()
        finally:
            ended.cancel()

    async def _start(self, kill: PlannedKill | None, control: Control) -> Agent:
        if kill is None or not kill.cold:
            return await self._processes.forked_start(self._own_arm(kill, control))
        self._record.cold_starts += 1
        return await self._processes.cold_start()

    def _note_recovery(self, kill: PlannedKill | None, agent: Agent, control: Control) -> None:
        """The first start of a folder has nothing to recover from, unless it is the calm one."""
        if agent.cold:
            self._record.cold_seconds += time.monotonic() - agent.started_at
            seconds = self._processes.cold_recovery_seconds(agent)
            if self._record.kills and seconds is not None:
                self._record.cold_recovery_seconds.append(seconds)
        elif (self._record.kills or kill is None) and control.recovered_at > agent.started_at:
            self._record.recovery_seconds.append(control.recovered_at - agent.started_at)

    async def _look_at_remains(self, kill: PlannedKill) -> None:
        """What was at risk, and whether anything was wrong already: an order at the broker that no committed intent explains is
        healed by the next start, and was a gamble all the same."""
        left = observe(self._processes.storage / "finagent.db")
        self._market_at = left.market_at
        self._record.kills.append(
            Kill(kill.aim, kill.label, kill.cold, left.signals_at_risk, left.orders_in_flight > 0, kill.depth)
        )
        if left.begun:
            workspace = self._processes.storage.parent.name
            where = f"{workspace} after kill {len(self._record.kills)} ({kill.label or kill.aim.value.lower()})"
            found = await self._checker.check_remains(self._processes.storage)
            self._record.violations += [{**violation, "folder": where} for violation in found["violations"]]

    # -- how a kill comes about ----------------------------------------------------------------------------------------------

    def _own_arm(self, kill: PlannedKill | None, control: Control) -> Arm | None:
        """The arm that the agent's own process carries."""
        if kill is None or kill.label in BROKER_LABELS:
            return None
        if kill.aim is Aim.RECOVERY and kill.label is None:
            return Arm(None, 0, kill.place * _RECOVERY_STRETCH * self._known_pace.recovery_seconds)
        passage = 1
        if kill.fresh_row and kill.aim is not Aim.RECOVERY:
            passed = control.passed(kill.label) if kill.label else 0
            passage = self._known_pace.course.passages_to(kill.label, kill.index, self._market_at, passed)
        if kill.aim is Aim.STOP:
            return Arm(kill.label, passage, fault="stop", passages_on=1 + int(kill.delay * STOPPED_PASSAGES_MAX))
        return Arm(kill.label, passage, kill.delay * JITTER_MILLISECONDS / 1000.0 if kill.aim is Aim.INSTANT else 0.0)

    async def _kill_from_outside(self, kill: PlannedKill, agent: Agent, control: Control) -> None:
        """What the agent cannot deal itself: kills at the broker's labels and of the real command, signals to end, and the end of
        a stop."""
        if kill.aim is Aim.STOP:
            await stopped(agent.pid)
            await asyncio.sleep(STOP_SECONDS)
            send_signal(agent.pid, signal.SIGCONT)
        elif kill.label is not None and kill.label in BROKER_LABELS:
            control.order_broker(
                BrokerOrderToKill(kill.label, self._broker_passages((kill.label,), kill.place, control), agent.pid)
            )
        elif kill.cold:
            await self._place_reached(kill, control)
            if kill.aim is Aim.TERM:
                await self._ask_to_end(kill, agent)
            else:
                send_signal(agent.pid, signal.SIGKILL)

    async def _place_reached(self, kill: PlannedKill, control: Control) -> None:
        """A moment of the real command's recovery, or one of the broker's commits."""
        in_start = kill.aim is Aim.RECOVERY or (kill.aim is Aim.TERM and kill.delay < TERM_IN_START_SHARE)
        if in_start:
            await asyncio.sleep(kill.place * _RECOVERY_STRETCH * self._known_pace.cold_recovery_seconds)
            return
        passed = sum(map(control.passed, BROKER_LABELS))
        target = passed + self._broker_passages(BROKER_LABELS, kill.place, control)
        while sum(map(control.passed, BROKER_LABELS)) < target:  # noqa: ASYNC110 - another process moves the counter
            await asyncio.sleep(_LOOK_SECONDS)
        if kill.aim is Aim.INSTANT:
            await asyncio.sleep(kill.delay * JITTER_MILLISECONDS / 1000.0)

    async def _ask_to_end(self, kill: PlannedKill, agent: Agent) -> None:
        """SIGTERM, sometimes twice; it must be gone within the seconds that are promised."""
        asked = time.monotonic()
        send_signal(agent.pid, signal.SIGTERM)
        if kill.delay > 1 - TERM_TWICE_SHARE:
            await asyncio.sleep(_LOOK_SECONDS)
            send_signal(agent.pid, signal.SIGTERM)
        await asyncio.sleep(TERM_SECONDS_MAX)
        message = f"still there {time.monotonic() - asked:.0f} s after SIGTERM"
        self._record.violations.append({"invariant": "F-07", "subject": self._processes.storage.parent.name, "message": message})
        send_signal(agent.pid, signal.SIGKILL)

    def _broker_passages(self, labels: tuple[str, ...], place: float, control: Control) -> int:
        """How many passages from now lead to the place: the broker lives on, so its counts tell how far the replay is."""
        target = 1 + int(place * sum(self._known_pace.broker_passages[label] for label in labels))
        return max(1, target - sum(map(control.passed, labels)))

    @property
    def _known_pace(self) -> Pace:
        if self._pace is None:
            raise ReplayFailed("a kill was planned before the reference was known")
        return self._pace
