"""When a broker does not answer, stop asking, and find out with one request at a time whether it does again."""

from collections.abc import Callable


class CircuitBreaker:
    """Opens after `failures_max` calls in a row without an answer (none, or 5xx); after `open_seconds` one probe may go, whose
    answer closes it. `monotonic` gives seconds."""

    def __init__(self, failures_max: int, open_seconds: float, monotonic: Callable[[], float]) -> None:
        self._failures_max = failures_max
        self._open_seconds = open_seconds
        self._monotonic = monotonic
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        return self._opened_at is not None

    def admits(self, *, probe: bool) -> bool:
        """Whether a call may go now; with `probe` it may be the one that finds out. Each one admitted is answered or failed."""
        if self._opened_at is None:
            return True
        if not probe or self._probing or self._monotonic() - self._opened_at < self._open_seconds:
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        """The broker said something, be it no."""
        self._failures, self._opened_at, self._probing = 0, None, False

    def failed(self) -> None:
        """A call ended without an answer."""
        self._failures += 1
        self._probing = False
        if self._failures >= self._failures_max:
            self._opened_at = self._monotonic()
