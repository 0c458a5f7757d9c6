"""What can go wrong, split by what the caller does about it.

FinagentError
├─ Transient          try again, with jitter and within a budget
│  └─ Conflict        a compare-and-set met another version: run the handler again on fresh reads
├─ Permanent          never try again: dead letter, say why
│  ├─ BadInput        settings, arguments or data a person must correct (exit code 2)
│  └─ Unavailable     something outside is not there: disk, port, broker, server (exit code 4)
├─ InvariantViolated  our own rules do not hold any more: halt
└─ Interrupted        a person asked for an orderly end before it could be done (exit code 130)
"""


class FinagentError(Exception):
    """Root of every error that finagent raises on purpose."""


class Transient(FinagentError):
    """The same call may succeed later: retry with jitter, within a budget."""


class Conflict(Transient):
    """A compare-and-set found another version than the one that the decision was based on."""


class Permanent(FinagentError):
    """The same call can never succeed: dead-letter it and say why."""


class BadInput(Permanent):
    """Settings, arguments or data that a person must correct; the message names the thing and the cure."""


class Unavailable(Permanent):
    """Something outside the process is not there (disk full, port taken, broker or server down)."""


class InvariantViolated(FinagentError):
    """A rule of our own is broken; nothing may be guessed: halt and page."""


class Interrupted(FinagentError):
    """An orderly end was asked for before the call could answer."""
