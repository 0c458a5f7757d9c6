"""A session's timetable: everything it has to do is published once, and its close leaves no candidate untold."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.decision import DecisionOutcome, SignalOutcome
from finagent.domain.errors import Permanent
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.time import to_text
from finagent.services.pipeline.execution import ExecutionService
from finagent.services.scheduling.cron import CronEntry
from finagent.services.scheduling.trading_day import DayPolicy, TradingDay, scan_minutes, session_job

KINDS = ("scan", "flatten", "report", "reconcile", "watch", "session")
ENTRIES = (CronEntry("first", "35 9 * * *"), CronEntry("third", "0 10 * * *"))


def day_of(desk: Any, feed: Any) -> TradingDay:
    sessions = {session.date: session for session in (desk.session, desk.next_session)}
    return TradingDay(
        desk.clock,
        feed,
        DayPolicy(ENTRIES, 10, 1800, 300),
        desk.kill_switch,
        sessions.__getitem__,
        lambda after: next((session for day, session in sessions.items() if day > after), None),
    )


async def test_opening_publishes_the_whole_day_once(desk: Any, market: Any, open_feed: Any) -> None:
    desk.clock.set(desk.next_session.opens_at)
    day = day_of(desk, await open_feed())
    job = desk.job("session", date="2008-10-02")
    await desk.commit(await day.open(job, desk.reads))
    at = {kind: [run_at for _, _, run_at in desk.waiting(kind)] for kind in KINDS}

    assert at == {
        "scan": ["2008-10-02T13:35:00.000000Z", "2008-10-02T14:00:00.000000Z"],
        "flatten": ["2008-10-02T19:50:00.000000Z"],
        "report": ["2008-10-02T20:00:00.000000Z"],
        "reconcile": ["2008-10-02T14:00:00.000000Z"],
        "watch": ["2008-10-02T13:35:00.000000Z"],
        "session": [],
    }
    assert desk.reads.get(AccountSnapshot, date(2008, 10, 2), "OPEN").equity == Decimal(100_000)


async def test_opening_publishes_the_trainings_of_the_day(desk: Any, market: Any, open_feed: Any) -> None:
    day = day_of(desk, await open_feed())
    day = replace(day, policy=replace(day.policy, trainings=(CronEntry("gap", "30 17 * * *"),)))
    effect = await day.open(desk.job("session", date="2008-10-01"), desk.reads)

    assert [job.key for job in effect.next if job.type == "train"] == ["train:gap@20081001-1730:0"]


async def test_opening_publishes_the_next_session(desk: Any, market: Any, open_feed: Any) -> None:
    effect = await day_of(desk, await open_feed()).open(desk.job("session", date="2008-10-01"), desk.reads)

    assert [following.key for following in effect.next if following.type == "session"] == ["session:2008-10-02"]
    assert session_job(desk.next_session).run_at == desk.next_session.opens_at


async def test_what_the_day_before_left_over_is_closed_at_the_open(desk: Any, market: Any, open_feed: Any) -> None:
    await desk.commit(Position("IBM", 100, Decimal(-10_000), Decimal(0), desk.clock.now()))
    desk.clock.set(desk.next_session.opens_at)
    effect = await day_of(desk, await open_feed()).open(desk.job("session", date="2008-10-02"), desk.reads)
    left_over = [following for following in effect.next if following.type == "flatten" and following.run_at is None]

    assert [following.payload["entered_before"] for following in left_over] == [to_text(desk.next_session.opens_at)]
    (snapshot,) = effect.records
    assert snapshot.equity == Decimal(100_000)  # marked at its previous close while no bar is known


async def test_a_position_nobody_can_price_counts_for_nothing(desk: Any, market: Any, open_feed: Any) -> None:
    await desk.commit(Position("XOM", 100, Decimal(-10_000), Decimal(0), desk.clock.now()))
    effect = await day_of(desk, await open_feed()).close(desk.job("report", date="2008-10-01"), desk.reads)

    assert effect.records[0].equity == Decimal(90_000)


async def test_the_close_tells_the_days_result(desk: Any, market: Any, open_feed: Any) -> None:
    await desk.commit(Position("IBM", 0, Decimal("250.50"), Decimal("0.50"), desk.clock.now()))
    effect = await day_of(desk, await open_feed()).close(desk.job("report", date="2008-10-01"), desk.reads)

    assert (effect.records[0].kind, effect.records[0].equity) == ("CLOSE", Decimal(100_250))
    assert Decimal(effect.events[0].body["pnl"]) == 250


async def test_a_session_that_was_never_opened_has_no_result(desk: Any, market: Any, open_feed: Any) -> None:
    with pytest.raises(Permanent, match="2008-10-02: the session was never opened"):
        await day_of(desk, await open_feed()).close(desk.job("report", date="2008-10-02"), desk.reads)


async def test_no_candidate_is_forgotten_at_the_close(desk: Any, market: Any, open_feed: Any) -> None:
    """The job that should have judged them died with the run as its subject: they expire, and those with an order do not."""
    run = await desk.run()
    lost = await desk.planned(run, "IBM")
    ordered = await desk.approved("AAPL")
    await desk.commit(
        await ExecutionService(desk.clock, brackets=True).execute(
            desk.job("execute", decision_id=ordered.decision_id), desk.reads
        )
    )
    day = day_of(desk, await open_feed())
    await desk.commit(await day.close(desk.job("report", date="2008-10-01"), desk.reads))
    outcome = desk.reads.get(DecisionOutcome, lost.decision_id)

    assert (outcome.outcome, outcome.reason) == (SignalOutcome.EXPIRED, "no decision by the close of its session")
    assert desk.reads.get(DecisionOutcome, ordered.decision_id) is None


async def test_scan_minutes_follow_the_table_and_what_may_be_late(desk: Any) -> None:
    assert scan_minutes(ENTRIES, desk.session) == (5, 30)
    assert scan_minutes(ENTRIES, desk.session, 2) == (5, 6, 7, 30, 31, 32)
