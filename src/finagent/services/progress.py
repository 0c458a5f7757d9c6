"""What an onlooker is told while the agent works: the faces (live view, plain lines, metrics) listen here."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from finagent.domain.effect import Effect
from finagent.domain.sessions import Session


@dataclass(frozen=True, slots=True)
class StartInfo:
    """What is about to run. `instants` counts the minutes of all sessions; `trace_id` names this process in the logs."""

    mode: str
    source_id: str
    notice: str
    symbols: int
    first_session: date
    last_session: date
    sessions: int
    instants: int
    start_equity: Decimal
    seed: int
    ledger_id: str
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class RecoveryInfo:
    """What a start found of an earlier process; told only when there was one."""

    market_clock: datetime | None
    jobs_rescued: int
    jobs_by_type: dict[str, int]
    orders_open: int
    orders_unresolved: int
    positions: int
    finished: bool


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """The final figures; `duration_seconds` is wall time of this process."""

    source_id: str
    notice: str
    sessions: int
    candidates: int
    outcomes: dict[str, int]
    orders: int
    fills: int
    exits: dict[str, int]
    start_equity: Decimal
    end_equity: Decimal
    pnl: Decimal
    outcome_hash: str
    report_path: str
    duration_seconds: float
    recovered: RecoveryInfo | None = None
    examples: tuple[str, ...] = ()


class ProgressObserver(Protocol):
    """Told in the order of events, on the loop; must return at once and never raise. Telling it twice of the same commit is a
    bug of the caller, not telling it of a commit made by an earlier process is right."""

    def started(self, info: StartInfo) -> None: ...

    def recovered(self, info: RecoveryInfo) -> None: ...

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        """Market time moved to `at`; `done` of `total` instants of the whole replay are over."""
        ...

    def committed(self, effect: Effect) -> None:
        """An effect after its COMMIT."""
        ...

    def finished(self, summary: ReplaySummary) -> None: ...


class Onlookers:
    """Several observers as one."""

    def __init__(self, observers: Iterable[ProgressObserver] = ()) -> None:
        self._observers = tuple(observers)

    def started(self, info: StartInfo) -> None:
        for observer in self._observers:
            observer.started(info)

    def recovered(self, info: RecoveryInfo) -> None:
        for observer in self._observers:
            observer.recovered(info)

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        for observer in self._observers:
            observer.instant(at, session, done, total)

    def committed(self, effect: Effect) -> None:
        for observer in self._observers:
            observer.committed(effect)

    def finished(self, summary: ReplaySummary) -> None:
        for observer in self._observers:
            observer.finished(summary)
