"""What vouches for the story as a whole: a seal over a stretch of decision events."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditSeal:
    """`root_hash` binds the events `first_event` to `last_event`, `previous_hash` the seal before (64 zeros for the first)."""

    number: int
    first_event: int
    last_event: int
    root_hash: str
    previous_hash: str
    at: datetime
