"""The story of one candidate: its events and its two endings."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class SubjectType(Enum):
    DECISION = "DECISION"
    RUN = "RUN"
    MODEL = "MODEL"
    TRADING_STATE = "TRADING_STATE"
    ACCOUNT = "ACCOUNT"


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """One step of a story, as a service states it; number and hashes are added inside the commit (one chain a subject)."""

    subject_type: SubjectType
    subject_id: str
    kind: str
    at: datetime
    trace_id: str = ""
    decision_id: str | None = None
    body: dict[str, Any] = field(default_factory=dict)


class SignalOutcome(Enum):
    """Exactly one a candidate (design 2)."""

    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    RISK_DENIED = "RISK_DENIED"
    NO_TRADE = "NO_TRADE"
    EXPIRED = "EXPIRED"
    DEAD = "DEAD"


@dataclass(frozen=True, slots=True)
class DecisionOutcome:
    """The one signal outcome of a candidate; a second one violates the primary key and stops its effect."""

    decision_id: str
    outcome: SignalOutcome
    reason: str
    at: datetime


class ExitKind(Enum):
    STOP = "STOP"
    TARGET = "TARGET"
    TIME = "TIME"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class DecisionExit:
    """How a filled decision became flat."""

    decision_id: str
    kind: ExitKind
    at: datetime
