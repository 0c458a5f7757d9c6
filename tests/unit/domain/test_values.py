"""Frozen values refuse what cannot be: sessions, bars, plans, facts, limits, predictions."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from finagent.domain.bars import SessionBars
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, Conflict, FinagentError, InvariantViolated, Permanent, Transient, Unavailable
from finagent.domain.gap import GapFacts
from finagent.domain.jobs import (
    JOB_TRANSITIONS,
    JOB_TYPES,
    SEND_ENTRY_PRIORITY,
    Job,
    JobStatus,
    Next,
    Phase,
    RetryPolicy,
)
from finagent.domain.orders import Side
from finagent.domain.portfolio import flat
from finagent.domain.prediction import Prediction
from finagent.domain.risk import RiskProfile
from finagent.domain.sessions import Session
from finagent.domain.time import from_text, to_text
from finagent.domain.trade_plan import PRICE_USD_MAX, TradePlan
from finagent.domain.trading_state import MarketClock, StartGate, TradingState

OPEN = datetime(2008, 10, 1, 13, 30, tzinfo=UTC)
SESSION = Session(date(2008, 10, 1), OPEN, OPEN + timedelta(minutes=390))
LONG = TradePlan(
    "dec-1",
    "run-1",
    "IBM",
    Side.BUY,
    10,
    Decimal("100.01"),
    Decimal("100.26"),
    Decimal("99.00"),
    Decimal("102.03"),
    OPEN,
    "drawn up by hand",
)


def test_a_session_counts_its_complete_bars() -> None:
    assert SESSION.minutes == 390
    assert SESSION.minute_of(OPEN - timedelta(hours=1)) == 0
    assert SESSION.minute_of(OPEN + timedelta(seconds=59)) == 0
    assert SESSION.minute_of(OPEN + timedelta(seconds=60)) == 1
    assert SESSION.minute_of(OPEN + timedelta(days=1)) == 390
    assert [SESSION.minute_of(SESSION.instant_of(minute)) for minute in range(391)] == list(range(391))


def test_a_session_needs_zones_and_a_close_after_its_open() -> None:
    with pytest.raises(BadInput, match="naive"):
        Session(date(2008, 10, 1), OPEN.replace(tzinfo=None), SESSION.closes_at)
    with pytest.raises(BadInput, match="closes before it opens"):
        Session(date(2008, 10, 1), OPEN, OPEN)


def test_bars_have_a_row_a_minute_and_a_column_a_symbol() -> None:
    opened, high, low, close, volume = (np.full((390, 2), 100.0 + n) for n in range(5))
    bars = SessionBars(SESSION, ("AAPL", "IBM"), opened, high, low, close, volume, np.zeros((390, 2), dtype=np.uint8))
    first = bars.block(1)

    assert first.at == OPEN + timedelta(minutes=1)
    assert [float(column[0]) for column in (first.open, first.high, first.low, first.close, first.volume)] == [
        100.0,
        101.0,
        102.0,
        103.0,
        104.0,
    ]
    with pytest.raises(BadInput, match=r"2008-10-01: volume has shape \(389, 2\)"):
        replace(bars, volume=np.ones((389, 2)))


def test_a_long_plan_climbs_from_stop_to_target_and_a_short_one_mirrors_it() -> None:
    short = replace(LONG, side=Side.SELL, stop=LONG.target, target=LONG.stop, entry=LONG.entry_limit, entry_limit=LONG.entry)

    assert (short.target, short.entry_limit, short.entry, short.stop) == (LONG.stop, LONG.entry, LONG.entry_limit, LONG.target)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    "change",
    [
        {"stop": Decimal("100.01")},
        {"stop": Decimal(0)},
        {"stop": Decimal(-1)},
        {"entry_limit": Decimal("102.03")},
        {"target": Decimal("100.26")},
        {"entry": Decimal("100.27")},
    ],
)
def test_plans_with_prices_out_of_order_are_refused(side: Side, change: dict[str, Any]) -> None:
    if side is Side.BUY:
        with pytest.raises(BadInput, match="prices out of order"):
            replace(LONG, **change)
    else:
        with pytest.raises(BadInput, match="prices out of order"):
            replace(LONG, side=Side.SELL)


def test_a_price_that_no_share_has_is_refused() -> None:
    with pytest.raises(BadInput, match="USD a share is more than"):
        replace(LONG, target=Decimal(PRICE_USD_MAX + 1))


@pytest.mark.parametrize("quantity", [0, -3])
def test_a_plan_is_for_some_shares(quantity: int) -> None:
    with pytest.raises(BadInput, match="quantity"):
        replace(LONG, quantity=quantity)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_by_the_name_of_its_field(bad: float) -> None:
    facts = GapFacts(0.02, 100.0, 102.0, 103.0, 101.0, 102.5, 1e5, 1.4, 1e8, 5)
    half = Decimal("0.5")
    profile = RiskProfile(half, half, half, half, 5, 20, 60, half, 180.0, short_selling=False)

    with pytest.raises(BadInput, match=r"GapFacts\.relative_volume"):
        replace(facts, relative_volume=bad)
    with pytest.raises(BadInput, match=r"Prediction\.score"):
        Prediction("dec-1", "v1", "spec", bad, OPEN)
    with pytest.raises(BadInput, match=r"RiskProfile\.gross_leverage_max"):
        replace(profile, gross_leverage_max=Decimal(repr(bad)))
    with pytest.raises(BadInput, match=r"TradePlan\.target"):
        replace(LONG, target=Decimal(repr(bad)))


def test_effects_add_up_in_order() -> None:
    change = Set(MarketClock, (1,), {"state": "FINISHED"})
    both = Effect(records=(LONG,), next=(Next("scan", "scan:1"),)) + Effect(records=(change,), next=(Next("scan", "scan:2"),))

    assert both.records == (LONG, change)
    assert [following.key for following in both.next] == ["scan:1", "scan:2"]


def test_a_job_of_an_unknown_type_cannot_be_published() -> None:
    with pytest.raises(BadInput, match="'dance'"):
        Next("dance", "dance:1")


def test_a_job_knows_its_kind() -> None:
    job = Job(1, "send", {}, 1, 70, OPEN, 0, 0, 1, "trace", "send:1")

    assert (job.kind.queue, job.kind.phase, job.kind.parks) == ("sender", Phase.SEND, True)


def test_priorities_follow_the_phases_and_entries_are_sent_after_every_exit() -> None:
    kinds = sorted(JOB_TYPES.values(), key=lambda kind: kind.priority)

    assert [kind.phase for kind in kinds] == sorted(kind.phase for kind in kinds)
    assert max(kind.priority for kind in kinds) < SEND_ENTRY_PRIORITY


def test_orders_and_exits_park_and_everything_else_may_die() -> None:
    parking = {kind.name for kind in JOB_TYPES.values() if kind.parks}

    assert parking == {"resolve", "expire", "protect", "flatten", "close_out", "execute", "send", "trade_update"}


def test_only_a_person_brings_a_dead_or_parked_job_back_and_nothing_a_finished_one() -> None:
    assert set(JOB_TRANSITIONS) == set(JobStatus)
    assert JOB_TRANSITIONS[JobStatus.DONE] == frozenset()
    assert {before for before, after in JOB_TRANSITIONS.items() if JobStatus.PARKED in after} == {
        JobStatus.READY,
        JobStatus.SCHEDULED,
        JobStatus.RUNNING,
    }


def test_back_off_doubles_up_to_its_cap_and_jitters_by_half() -> None:
    policy = RetryPolicy(5, 5.0, 300.0)

    assert [policy.delay_seconds(attempts, 0.5) for attempts in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert policy.delay_seconds(0, 0.0) == 2.5
    assert policy.delay_seconds(0, 0.999) == pytest.approx(7.5, abs=0.01)
    assert policy.delay_seconds(5_000, 0.5) == 300


def test_errors_say_what_the_caller_does_about_them() -> None:
    assert issubclass(Conflict, Transient)
    assert issubclass(BadInput, Permanent)
    assert issubclass(Unavailable, Permanent)
    assert not issubclass(InvariantViolated, Transient | Permanent)
    assert all(issubclass(error, FinagentError) for error in (Transient, Permanent, InvariantViolated))


def test_new_risk_only_while_active() -> None:
    assert [state for state in TradingState if state.new_risk] == [TradingState.ACTIVE]
    assert [gate.name for gate in StartGate] == ["STARTING", "RECONCILING", "OPEN"]


def test_a_symbol_never_traded_is_worth_nothing() -> None:
    assert flat("IBM", OPEN).value(Decimal(100)) == 0


@pytest.mark.parametrize("text", ["yesterday", "2008-10-01T13:35:00.000000", "2008-10-01"])
def test_a_text_that_names_no_instant_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=text):
        from_text(text)


def test_a_naive_instant_has_no_text() -> None:
    with pytest.raises(BadInput, match="naive"):
        to_text(datetime(2008, 10, 1, 13, 35))  # noqa: DTZ001 - the naive time is the point
