"""Who watches a queue: told on the loop after each commit, and never in its way."""

from collections.abc import Callable, Sequence

import structlog

from finagent.domain.effect import Effect
from finagent.domain.jobs import Job

CommitObserver = Callable[[Sequence[Effect], Sequence[Job | None]], None]
GroupObserver = Callable[[int, float], None]
log = structlog.get_logger(__name__)


def tell(observers: Sequence[Callable[..., None]], *facts: object) -> None:
    """Each hears of it; what one of them raises is logged, and the others hear all the same."""
    for observer in observers:
        try:
            observer(*facts)
        except Exception as error:
            log.warning("commit_observer_failed", observer=repr(observer), error=repr(error), exc_info=error)
