"""Ends calls of ONNX Runtime that take longer than they may: a graph can loop for ever, and no thread can be taken from it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import RunOptions

GRACE_SECONDS = 0.25  # for a call that is late because the whole process stood still


@dataclass(eq=False, slots=True)
class _Running:
    options: "RunOptions"
    until: float
    late: bool = False


class CallWatch:
    """Calls may take `seconds`. One thread watches them, begun by a call and gone when it finds none; it wakes once in so long,
    so calls that end in time cost next to nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: set[_Running] = set()
        self._lock = threading.Lock()
        self._watched = False

    @contextmanager
    def over(self, options: "RunOptions") -> Iterator[None]:
        """Whoever runs with these options in the block is ended, by an error of ONNX Runtime, once that has taken too long."""
        call = _Running(options, time.monotonic() + self._seconds)
        with self._lock:
            self._running.add(call)
            if not self._watched:
                threading.Thread(target=self._look, name="model-calls", daemon=True).start()
                self._watched = True
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(call)

    def _look(self) -> None:
        never = threading.Event()
        while True:
            with self._lock:
                now = time.monotonic()
                for call in [call for call in self._running if call.until <= now]:
                    call.options.terminate = call.late
                    call.late, call.until = True, now + GRACE_SECONDS
                if not self._running:
                    self._watched = False
                    return
                soonest = min(call.until for call in self._running)
            never.wait(max(soonest - now, 0.0))
