"""Time as stored: aware UTC, one text form that sorts like the instant it names."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from finagent.domain.errors import BadInput

EXCHANGE_ZONE = ZoneInfo("America/New_York")


def to_text(instant: datetime) -> str:
    """`2008-10-01T13:35:00.000000Z`; raises BadInput for a naive datetime."""
    if instant.tzinfo is None:
        raise BadInput(f"naive time {instant!r}: every instant carries its zone")
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_text(text: str) -> datetime:
    """Inverse of `to_text`; raises BadInput for a text that names no instant."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is not an instant") from error
    if instant.tzinfo is None:
        raise BadInput(f"{text!r} names no zone")
    return instant
