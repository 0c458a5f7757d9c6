"""What the checker says: violations by invariant, and the counts that show it looked at something."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Invariant(Enum):
    """The rules, by the names of the fault catalogue."""

    SIGNAL = "I1"  # every candidate ends in exactly one signal outcome; a filled decision that is flat has one exit
    ORDER = "I2"  # one entry a decision, exits within it, one order an id, every order from an earlier intent
    LEDGER = "I3"  # ledger executions = fills = positions = cash
    INTEGRITY = "I7"  # file, foreign keys, chains of decision events
    STORY = "STORY"  # an intent is told in the chain of its decision
    JOBS = "JOBS"  # nothing left undone
    EQUALITY = "EQUALITY"  # the rows of the reference
    EVIDENCE = "EVIDENCE"  # there must be something to check


@dataclass(frozen=True)
class Violation:
    """One broken rule: which, on what, and how it shows."""

    invariant: Invariant
    subject: str
    message: str

    def as_json(self) -> dict[str, str]:
        return {"invariant": self.invariant.value, "subject": self.subject, "message": self.message}


@dataclass
class Report:
    """Everything found in one folder. `lost` signals and `duplicate` orders are counted as well as listed."""

    folder: str
    lost: int = 0
    duplicate: int = 0
    unequal: int = 0
    parked: int = 0
    dead_jobs: int = 0
    candidates: int = 0
    orders: int = 0
    executions: int = 0
    events: int = 0
    finished: bool = False
    violations: list[Violation] = field(default_factory=list)

    def add(self, found: Iterable[Violation]) -> int:
        """Take the violations in and say how many they were."""
        listed = list(found)
        self.violations += listed
        return len(listed)

    def as_json(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        counts = {name: value for name, value in vars(self).items() if name != "violations"}
        return {**counts, "violations": [violation.as_json() for violation in self.violations]}
