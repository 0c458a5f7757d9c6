"""What a job keeps of its errors: the newest few, as JSON text in its row."""

import json
from datetime import datetime

from finagent.adapters.database.codec import canonical_json
from finagent.domain.time import from_text, to_text
from finagent.services.forensics.job_history import JobError


def remembered(before: str | None, attempts: int, at: datetime, error: str, kept: int) -> str:
    """The newest `kept` of the errors so far and one more, the newest last; `attempts` counts the failures of its handler."""
    errors = [*(json.loads(before) if before else ()), {"attempts": attempts, "at": to_text(at), "error": error}]
    return canonical_json(errors[-kept:])


def newest_first(kept: str | None) -> tuple[JobError, ...]:
    """What `remembered` has written."""
    return tuple(JobError(one["attempts"], from_text(one["at"]), one["error"]) for one in reversed(json.loads(kept or "[]")))
