"""One pass of the pipeline for one scheduled scan, and where each symbol of it stands."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum


class RunState(Enum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"  # found too late after a restart: recorded, not run


class Stage(Enum):
    SCAN = "SCAN"
    SCORE = "SCORE"
    PLAN = "PLAN"
    RISK = "RISK"
    EXECUTE = "EXECUTE"


class SymbolState(Enum):
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    REFUSED = "REFUSED"  # a rule said no; the reason names it
    NEAR_MISS = "NEAR_MISS"  # past the gap threshold, failed another rule
    FAILED = "FAILED"  # bad data


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """`reasons` counts the symbols that each scan rule turned away."""

    run_id: str
    entry: str
    session_date: date
    fired_at: datetime
    state: RunState
    symbols: int
    candidates: int
    failed: int
    reasons: dict[str, int]
    reason: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class SymbolRun:
    run_id: str
    symbol: str
    stage: Stage
    state: SymbolState
    reason: str
