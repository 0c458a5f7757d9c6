"""Which story a line of log belongs to: ids that travel with the task, not with every call."""

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bound_contextvars, get_contextvars


@contextmanager
def bound(*, trace_id: str = "", run_id: str = "", decision_id: str = "", symbol: str = "") -> Iterator[None]:
    """Every line logged inside, also by tasks started inside, carries the ids given; empty ones leave the outer value."""
    ids = {"trace_id": trace_id, "run_id": run_id, "decision_id": decision_id, "symbol": symbol}
    with bound_contextvars(**{name: value for name, value in ids.items() if value}):
        yield


def current_trace_id() -> str:
    """The trace of the present task; empty outside of one."""
    return str(get_contextvars().get("trace_id", ""))
