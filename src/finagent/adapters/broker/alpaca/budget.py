"""How many requests may go: ours is a share of the broker's limit, part of it for cancels and look-ups alone."""

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

MINUTE_SECONDS = 60.0
PAUSE_SECONDS_MAX = 300.0
RETRIES_PER_REQUEST = 0.2  # a broker in trouble gets at most 1.2 times the requests
RETRIES_AHEAD_MAX = 10.0


class RateBudget:
    """A token bucket that holds a minute's requests, corrected by what the broker says is left. `reserved` of them only urgent
    requests may take; after a 429 the others wait until the broker's window ends. `monotonic` gives seconds."""

    def __init__(self, per_minute: int, share: float, reserved: int, monotonic: Callable[[], float]) -> None:
        self._capacity = max(1.0, per_minute * share)
        self._margin = per_minute - self._capacity  # what others under the same keys may use
        self._reserved = reserved
        self._monotonic = monotonic
        self._tokens = self._capacity
        self._filled_at = monotonic()
        self._paused_until = self._filled_at
        self._retries = RETRIES_AHEAD_MAX

    def take(self, *, urgent: bool) -> bool:
        """Take one request out of the budget, if it is there."""
        now = self._monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._capacity / MINUTE_SECONDS)
        self._filled_at = now
        if self._tokens < (1 if urgent else 1 + self._reserved) or (not urgent and now < self._paused_until):
            return False
        self._tokens -= 1
        self._retries = min(RETRIES_AHEAD_MAX, self._retries + RETRIES_PER_REQUEST)
        return True

    def take_retry(self) -> bool:
        """Whether a failed read may be made again."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True

    def correct(self, headers: Mapping[str, str]) -> None:
        """Believe X-RateLimit-Remaining where it leaves us less than we thought; a cancel is worth a try all the same."""
        remaining = _number(headers.get("X-RateLimit-Remaining"))
        if remaining is not None:
            self._tokens = min(self._tokens, max(float(self._reserved), remaining - self._margin))

    def throttled(self, headers: Mapping[str, str]) -> None:
        """429: only what is reserved may go until the window ends: Retry-After, or X-RateLimit-Reset by the broker's clock."""
        self._tokens = min(self._tokens, float(self._reserved))
        pause = _number(headers.get("Retry-After"))
        if pause is None:
            reset, now = _number(headers.get("X-RateLimit-Reset")), _instant(headers.get("Date"))
            pause = reset - now if reset is not None and now is not None else 0.0
        self._paused_until = self._monotonic() + min(max(pause, 0.0), PAUSE_SECONDS_MAX)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _instant(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
