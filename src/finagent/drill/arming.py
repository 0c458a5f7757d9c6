"""Failpoints that count their passages and, when armed, end the process the way a power switch would: SIGKILL, no goodbye."""

import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from finagent.drill.control import Control
from finagent.drill.labels import LABELS, RECOVERED

Fault = Literal["none", "stop", "no memory"]


@dataclass(frozen=True, slots=True)
class Arm:
    """When this process ends: at its `passage`-th passage of `label` (None: any; 0: at its start), `delay_seconds` later.

    A delay puts the end at no label at all: at whatever instruction the process is by then. With a `fault`, the passage does not
    end the process but stops it (SIGSTOP) until somebody lets it go on, or finds no memory; it ends `passages_on` passages later.
    """

    label: str | None
    passage: int
    delay_seconds: float = 0.0
    fault: Fault = "none"
    passages_on: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class AgentFailpoints:
    """The failpoints of an agent under a drill: every passage is counted on the shared page, then perhaps the last one."""

    def __init__(self, control: Control, arm: Arm | None) -> None:
        self._control, self._arm = control, arm
        self._passages = 0
        self._lock = threading.Lock()  # labels are passed on the loop and in the writer's thread
        self.passed: list[str] = []
        if arm is not None and arm.passage == 0:
            _end_self_in(arm.delay_seconds)

    def __call__(self, label: str) -> None:
        if label not in LABELS:
            return
        with self._lock:
            self._control.count(label)
            self.passed.append(label)
            if label == RECOVERED:
                self._control.recovered_at = time.monotonic()
            arm = self._arm
            if arm is None or arm.label not in (None, label):
                return
            self._passages += 1
            if self._passages != arm.passage:
                return
            if arm.fault != "none":
                self._arm, self._passages = Arm(None, arm.passages_on), 0
        if arm.fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif arm.fault == "no memory":
            raise MemoryError(f"at {label}")
        elif arm.delay_seconds:
            _end_self_in(arm.delay_seconds)
        else:
            _end(os.getpid())


class BrokerFailpoints:
    """The failpoints of the broker's process: they end the agent, as the shared page orders. The broker itself lives on."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = threading.Lock()

    def __call__(self, label: str) -> None:
        if label not in LABELS:
            return
        with self._lock:
            self._control.count(label)
            victim = self._control.victim_of(label)
        if victim is not None:
            _end(victim)


def _end_self_in(seconds: float) -> None:
    timer = threading.Timer(seconds, _end, (os.getpid(),))
    timer.daemon = True
    timer.start()


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
