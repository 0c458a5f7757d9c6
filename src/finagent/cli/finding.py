"""What an examination says of one thing."""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """OK; OPTIONAL: only something else needs it; MISSING: what this mode needs is not there."""

    OK = "ok"
    OPTIONAL = "optional"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and what to do about it."""

    name: str
    verdict: Verdict
    text: str
    cure: str = ""
