"""Ages are measured from work done, and judged only where there is something to judge."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from finagent.domain.effect import Effect, Set
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.trading_state import StartGate, TradingState
from finagent.services.health import HealthFacts, ReadinessPolicy, WorkProgress, reasons_not_ready
from finagent.services.progress import RecoveryInfo

POLICY = ReadinessPolicy(100, 10, 5, 1)
FACTS = HealthFacts(StartGate.OPEN, TradingState.ACTIVE, False, False, 1, 1, 1, 0.1)
RUN = PipelineRun(
    "run-1", "first", date(2008, 10, 1), datetime(2008, 10, 1, 13, 35, tzinfo=UTC), RunState.RUNNING, 4, 1, 0, {}, "", None
)


class Stopwatch:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ages_grow_until_work_is_done(session_one: Any) -> None:
    """Market time moving is a bar; a run that succeeds is a pass, at once or by a later change."""
    clock = Stopwatch()
    work = WorkProgress(clock)
    assert (work.bar_age_seconds, work.pass_age_seconds) == (None, None)

    work.instant(session_one.opens_at, session_one, 1, 10)
    work.committed(Effect(records=(RUN,)))
    clock.now = 7
    assert (work.bar_age_seconds, work.pass_age_seconds) == (7, None)

    work.committed(Effect(records=(Set(PipelineRun, ("run-1",), {"state": RunState.SUCCESS}),)))
    clock.now = 9
    assert (work.bar_age_seconds, work.pass_age_seconds) == (9, 2)
    work.committed(Effect(records=(replace(RUN, state=RunState.SUCCESS),)))
    assert work.pass_age_seconds == 0


def test_after_the_end_nothing_grows_old(session_one: Any) -> None:
    """A finished replay that is still served is ready, hours later."""
    clock = Stopwatch()
    work = WorkProgress(clock)
    work.instant(session_one.opens_at, session_one, 10, 10)
    work.recovered(RecoveryInfo(session_one.closes_at, 0, {}, 0, 0, 0, True))
    clock.now = 10_000

    assert work.bar_age_seconds is None


def test_each_limit_is_judged_alone_and_zero_judges_nothing() -> None:
    """One reason a fact past its limit; unknown ages and switched-off limits give none."""
    late = replace(FACTS, pass_age_seconds=101, bar_age_seconds=11, queue_age_seconds=6, loop_lag_seconds=1.1)

    assert reasons_not_ready(FACTS, POLICY) == []
    assert [reason.split(":")[0] for reason in reasons_not_ready(late, POLICY)] == [
        "last pass",
        "last bar",
        "oldest due job",
        "event loop lag",
    ]
    assert reasons_not_ready(late, ReadinessPolicy(0, 0, 0, 0)) == []
    assert reasons_not_ready(replace(FACTS, pass_age_seconds=None, trading_state=TradingState.HALTED), POLICY) == []
