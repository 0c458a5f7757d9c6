"""Health means work done: how long since a bar, since a pass, since a job fell due; never "the process is up"."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from finagent.domain.effect import Effect, Set
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.sessions import Session
from finagent.domain.trading_state import StartGate, TradingState
from finagent.services.progress import RecoveryInfo, ReplaySummary, StartInfo


@dataclass(frozen=True, slots=True)
class ReadinessPolicy:
    """The ages past which the agent does not do its work; 0 judges nothing."""

    pass_age_seconds_max: float
    bar_age_seconds_max: float
    queue_age_seconds_max: float
    loop_lag_seconds_max: float


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What readiness is judged on. An age is None before the first of its kind and once the market is over (`finished`).
    `held_back` says why the store is not to be traded on."""

    start_gate: StartGate
    trading_state: TradingState
    disk_full: bool
    finished: bool
    pass_age_seconds: float | None
    bar_age_seconds: float | None
    queue_age_seconds: float | None
    loop_lag_seconds: float
    held_back: str = ""


def reasons_not_ready(facts: HealthFacts, policy: ReadinessPolicy) -> list[str]:
    """Why work does not get done; empty when it does. HALTED is a state a person chose, not a fault."""
    reasons = []
    if facts.start_gate is not StartGate.OPEN:
        reasons.append(f"start gate is {facts.start_gate.value}")
    if facts.held_back:
        reasons.append(facts.held_back)
    if facts.disk_full:
        reasons.append("disk is full")
    for name, value, limit in (
        ("last pass", facts.pass_age_seconds, policy.pass_age_seconds_max),
        ("last bar", facts.bar_age_seconds, policy.bar_age_seconds_max),
        ("oldest due job", facts.queue_age_seconds, policy.queue_age_seconds_max),
        ("event loop lag", facts.loop_lag_seconds, policy.loop_lag_seconds_max),
    ):
        if limit and value is not None and value > limit:
            reasons.append(f"{name}: {value:.1f} s, limit {limit:g} s")
    return reasons


class WorkProgress:
    """A ProgressObserver that remembers when work was last done, on the `monotonic` clock that it is given (seconds)."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._bar_at: float | None = None
        self._pass_at: float | None = None
        self.finished_replay = False

    @property
    def bar_age_seconds(self) -> float | None:
        """Since market time last moved."""
        return self._age(self._bar_at)

    @property
    def pass_age_seconds(self) -> float | None:
        """Since a run of the pipeline was last completed."""
        return self._age(self._pass_at)

    def started(self, info: StartInfo) -> None:
        self._bar_at = self._monotonic()

    def recovered(self, info: RecoveryInfo) -> None:
        self.finished_replay = info.finished

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        self._bar_at = self._monotonic()

    def committed(self, effect: Effect) -> None:
        if any(_completes_a_pass(record) for record in effect.records):
            self._pass_at = self._monotonic()

    def finished(self, summary: ReplaySummary) -> None:
        self.finished_replay = True

    def _age(self, since: float | None) -> float | None:
        return None if since is None or self.finished_replay else self._monotonic() - since


def _completes_a_pass(record: object) -> bool:
    if isinstance(record, Set):
        return record.record_type is PipelineRun and record.values.get("state") is RunState.SUCCESS
    return isinstance(record, PipelineRun) and record.state is RunState.SUCCESS
