"""When a schedule entry fires within a session: cron expressions in exchange time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

import pendulum
from cronsim import CronSim, CronSimError

from finagent.domain.errors import BadInput
from finagent.domain.sessions import MINUTE, Session

EXCHANGE_ZONE = pendulum.timezone("America/New_York")
CRON_FIELDS = 5  # minute, hour, day of month, month, day of week: nothing happens between two bars


@dataclass(frozen=True, slots=True)
class CronEntry:
    """A named cron expression of five fields, wall time in New York: `35 9 * * *` is 09:35 there on every session."""

    name: str
    expression: str

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInput(f"schedule: the entry with expression {self.expression!r} has no name")
        if len(self.expression.split()) != CRON_FIELDS:
            raise BadInput(
                f"schedule entry {self.name!r}: {self.expression!r} must have five fields"
                " (minute hour day-of-month month day-of-week)"
            )
        try:
            next(CronSim(self.expression, datetime(2000, 1, 1)))  # noqa: DTZ001 - cron runs on wall time
        except CronSimError as error:
            raise BadInput(f"schedule entry {self.name!r}: {self.expression!r} is no cron expression: {error}") from error
        except StopIteration:
            raise BadInput(f"schedule entry {self.name!r}: {self.expression!r} never fires") from None


def fire_times(entry: CronEntry, session: Session, until: datetime | None = None) -> tuple[datetime, ...]:
    """The instants at which the entry fires from the session's open to its close, or `until`, both included; UTC, increasing.

    Whatever lies outside the session's own hours, which are shorter on a half day, does not fire.
    """
    edges = (session.opens_at, until or session.closes_at)
    opens, last = (edge.astimezone(EXCHANGE_ZONE).replace(tzinfo=None) for edge in edges)
    walls = takewhile(lambda wall: wall <= last, CronSim(entry.expression, opens - MINUTE))
    return tuple(wall.replace(tzinfo=EXCHANGE_ZONE).astimezone(UTC) for wall in walls)
