"""One suite for every durable queue: what `finagent.domain.ports.store.JobQueue` promises."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.stores import POLICY, START
from tests.contract.stores import DurableStore as Store

from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, Conflict, FinagentError, InvariantViolated
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.jobs import Job, JobStatus, Next, RunSettled
from finagent.domain.orders import Side
from finagent.domain.portfolio import Position
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.trade_plan import TradePlan


def a_job(key: str, type_: str = "score", **fields: Any) -> Effect:
    return Effect(next=(Next(type_, key, **fields),))


def keys(jobs: Sequence[Job]) -> list[str]:
    return [job.dedup_key for job in jobs]


def a_position(symbol: str, quantity: int = 0) -> Position:
    return Position(symbol, quantity, Decimal("1.10"), Decimal(0), START)


def a_run(name: str = "run-1") -> PipelineRun:
    return PipelineRun(name, "open", date(2008, 10, 1), START, RunState.RUNNING, 4, 1, 0, {}, "", None)


def a_candidate(name: str, run: str = "run-1") -> GapCandidate:
    facts = GapFacts(0.03, 100, 103, 104, 102, 103.5, 1e6, 2.0, 1e8, 5)
    return GapCandidate(name, run, name.upper(), date(2008, 10, 1), Direction.UP, f"trace-{name}", START, facts)


def a_plan(name: str) -> TradePlan:
    prices = (Decimal(104), Decimal("104.26"), Decimal(102), Decimal(108))
    return TradePlan(name, "run-1", name.upper(), Side.BUY, 10, *prices, START + timedelta(minutes=30), "risk per trade")


async def no_longer_running(store: Store, job: Job) -> None:
    """The job is not ours to acknowledge."""
    with pytest.raises(InvariantViolated, match="fenced"):
        await store.queue.submit(Effect(), job)


# -- publishing --------------------------------------------------------------------------------------------------------------


async def test_a_job_due_now_is_handed_out_running(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a", payload={"decision_id": "d", "prices": (1, 2)}, trace_id="t"))

    assert (job.type, job.priority, job.run_at, job.attempts, job.crashes, job.trace_id) == ("score", 50, START, 0, 0, "t")
    assert job.payload == {"decision_id": "d", "prices": [1, 2]}, "the payload a later process would read"
    assert store.queue.counts() == {"READY": 0, "RUNNING": 1, "DONE": 0, "SCHEDULED": 0, "DEAD": 0, "PARKED": 0}
    assert await store.queue.claim(START, 10) == []
    assert store.reads.get(Job, job.id) == job


async def test_a_later_job_waits_for_its_time(store: Store) -> None:
    later = START + timedelta(minutes=1)

    assert await store.queue.submit(a_job("a", run_at=later)) == []
    assert store.queue.next_due() == later
    assert await store.queue.claim(later - timedelta(microseconds=1), 10) == []
    assert keys(await store.queue.claim(later, 10)) == ["a"]
    assert store.queue.next_due() is None


async def test_a_key_is_published_once_for_ever(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))

    assert await store.queue.submit(a_job("a")) == []
    await store.queue.submit(Effect(), job)
    assert await store.queue.submit(a_job("a") + a_job("b") + a_job("b")) != [], "only the known keys are left out"
    assert store.reads.count(Job) == 2


async def test_ids_are_not_used_twice(store: Store) -> None:
    before = [job.id for n in range(6) for job in await store.queue.submit(a_job(f"a{n}"))]
    await store.restart()
    await store.queue.claim(START, 10)
    after = await store.queue.submit(a_job("b"))

    assert len({*before, *(job.id for job in after)}) == 7
    assert after[0].id > max(before)


async def test_a_child_keeps_the_trace_of_its_parent(store: Store) -> None:
    (parent,) = await store.queue.submit(a_job("a", trace_id="trace"))
    (child,) = await store.queue.submit(a_job("b"), parent)

    assert child.trace_id == "trace"


async def test_beyond_the_memory_limit_jobs_wait_in_the_table(store: Store) -> None:
    handed_out = await store.queue.submit(Effect(next=tuple(Next("score", f"{n:02}") for n in range(POLICY.memory_limit + 2))))

    assert len(handed_out) == POLICY.memory_limit
    assert store.queue.counts()["READY"] == 2
    assert store.queue.next_due() == START
    for job in handed_out:
        await store.queue.submit(Effect(), job)
    assert keys(await store.queue.claim(START, 10)) == ["08", "09"]
    assert keys(await store.queue.submit(a_job("new"))) == ["new"]


async def test_a_claim_leaves_alone_what_runs(store: Store) -> None:
    (running,) = await store.queue.submit(a_job("a"))

    assert await store.queue.claim(START, 10) == []
    assert store.row(running.id).status is JobStatus.RUNNING
    await store.queue.submit(Effect(), running)
    assert store.row(running.id).status is JobStatus.DONE


async def test_the_order_is_priority_then_time_then_age(store: Store) -> None:
    soon, later = START + timedelta(seconds=1), START + timedelta(seconds=2)
    waiting = (
        Next("score", "late", run_at=later),
        Next("score", "first of two", run_at=soon),
        Next("score", "second of two", run_at=soon),
        Next("score", "urgent", run_at=later, priority=1),
        Next("report", "last", run_at=soon, priority=99),
    )
    await store.queue.submit(Effect(next=waiting))

    assert keys(await store.queue.claim(later, 2)) == ["urgent", "first of two"]
    assert keys(await store.queue.claim(later, 10)) == ["second of two", "late", "last"]


async def test_a_process_alone_has_no_others_to_wait_for(store: Store) -> None:
    await store.queue.submit(a_job("a") + a_job("later", run_at=START + timedelta(minutes=1)))

    assert not await store.queue.others_at_work(START)


async def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown job type"):
        a_job("a", type_="nothing")


# -- effects -----------------------------------------------------------------------------------------------------------------


async def test_effect_and_acknowledgement_are_one(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))

    (child,) = await store.queue.submit(Effect(records=(a_position("IBM"),)) + a_job("b"), job)

    assert store.reads.get(Position, "IBM") == a_position("IBM")
    assert keys([child]) == ["b"]
    assert store.queue.counts()["DONE"] == 1


async def test_a_second_acknowledgement_stores_nothing(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))
    await store.queue.submit(Effect(), job)

    with pytest.raises(InvariantViolated, match="fenced"):
        await store.queue.submit(Effect(records=(a_position("IBM"),)) + a_job("b"), job)

    assert store.reads.count(Position) == 0
    assert store.reads.count(Job) == 1


async def test_an_acknowledgement_of_an_earlier_process_stores_nothing(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))
    await store.restart()
    (again,) = await store.queue.claim(START, 10)

    with pytest.raises(InvariantViolated, match="fenced"):
        await store.queue.submit(Effect(records=(a_position("IBM"),)), job)

    assert store.reads.count(Position) == 0
    await store.queue.submit(Effect(), again)


async def test_compare_and_set(store: Store) -> None:
    await store.queue.submit(Effect(records=(a_position("IBM", 1),)))

    await store.queue.submit(Effect(records=(Set(Position, ("IBM",), {"quantity": 2, "fees": Decimal("0.5")}, {"quantity": 1}),)))

    assert store.reads.find(Position, quantity=2, fees=Decimal("0.50")) != []


@pytest.mark.parametrize("expect", [{"quantity": 7}, {"quantity": 1, "fees": Decimal(1)}])
async def test_a_conflict_stores_nothing_and_leaves_the_job_running(store: Store, expect: dict[str, Any]) -> None:
    (job,) = await store.queue.submit(Effect(records=(a_position("IBM", 1),)) + a_job("a"))
    change = Set(Position, ("IBM",), {"quantity": 2}, expect)

    with pytest.raises(Conflict, match="IBM"):
        await store.queue.submit(Effect(records=(a_position("AAPL"), change)) + a_job("b"), job)

    assert store.reads.get(Position, "AAPL") is None
    assert store.queue.counts()["RUNNING"] == 1
    assert await store.queue.submit(a_job("b"), job) != [], "the job can still be acknowledged"


async def test_an_unmet_none_is_a_conflict_too(store: Store) -> None:
    await store.queue.submit(Effect(records=(a_run(),)))
    finished = Set(PipelineRun, ("run-1",), {"finished_at": START}, {"finished_at": None})

    await store.queue.submit(Effect(records=(finished,)))
    with pytest.raises(Conflict):
        await store.queue.submit(Effect(records=(finished,)))


@pytest.mark.parametrize(
    "records",
    [
        pytest.param((a_position("AAPL"), a_position("IBM")), id="the key is taken"),
        pytest.param((a_candidate("a", run="unknown"),), id="no such parent"),
    ],
)
async def test_a_broken_constraint_stores_nothing(store: Store, records: tuple[Any, ...]) -> None:
    (job,) = await store.queue.submit(Effect(records=(a_position("IBM"),)) + a_job("a"))

    with pytest.raises(InvariantViolated, match="refused by the database"):
        await store.queue.submit(Effect(records=records) + a_job("b"), job)

    assert store.reads.count(Position) == 1
    assert store.queue.counts()["RUNNING"] == 1


@pytest.mark.parametrize(
    "effect",
    [
        Effect(records=("no record",)),
        Effect(records=(DecisionEvent(SubjectType.RUN, "run-1", "x", START),)),
        Effect(records=(Set(Position, ("IBM",), {"colour": 1}),)),
        Effect(records=(Set(Position, ("IBM", "AAPL"), {"quantity": 1}),)),
        Effect(records=(Position("IBM", 1.5, Decimal(0), Decimal(0), START),)),  # type: ignore[arg-type]  # the point of the case
        Effect(next=(Next("score", "a", {"value": float("nan")}),)),
        Effect(next=(Next("score", "a", {"value": object()}),)),
    ],
)
async def test_what_cannot_be_stored_is_refused(store: Store, effect: Effect) -> None:
    with pytest.raises(BadInput):
        await store.queue.submit(effect)


async def test_others_of_the_same_moment_are_not_touched_by_an_error(store: Store) -> None:
    await store.queue.submit(Effect(records=(a_position("IBM"),)))

    answers = await asyncio.gather(
        store.queue.submit(Effect(records=(a_position("AAPL"),))),
        store.queue.submit(Effect(records=(a_position("MSFT"), a_position("IBM")))),
        store.queue.submit(Effect(records=(a_position("GOOG"),))),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [list, InvariantViolated, list]
    assert [position.symbol for position in store.reads.find(Position)] == ["AAPL", "GOOG", "IBM"]


async def test_a_cancelled_caller_cancels_nothing(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))
    caller = asyncio.ensure_future(store.queue.submit(Effect(records=(a_position("IBM"),)) + a_job("b"), job))
    caller.cancel()

    await store.queue.submit(a_job("c"))

    assert store.reads.get(Position, "IBM") is not None
    await store.queue.submit(a_job("d"))
    assert store.reads.find(Job, dedup_key="b")[0].epoch == 0, "nobody runs it, so it waits again"
    assert keys(await store.queue.claim(START, 10)) == ["b"]


async def test_events_are_numbered_by_subject(store: Store) -> None:
    first = DecisionEvent(SubjectType.DECISION, "d", "found", START, "t", "d", {"gap": 0.03, "side": Side.BUY})
    second = DecisionEvent(SubjectType.DECISION, "d", "scored", START, "t", "d")

    await store.queue.submit(Effect(events=(first, second, DecisionEvent(SubjectType.RUN, "r", "done", START))))
    await store.queue.submit(Effect(events=(second,)))

    kept = store.reads.find(DecisionEvent, decision_id="d")
    assert [event.kind for event in kept] == ["found", "scored", "scored"]
    assert kept[0].body == {"gap": 0.03, "side": "BUY"}


async def test_a_predicate_sees_the_effect_that_carries_it(store: Store) -> None:
    """Two candidates: the run is settled when the last of them is planned or has ended, and published just once."""
    gather = Next("gather", "gather:run-1", {"run_id": "run-1"}, when=RunSettled("run-1"))
    (job,) = await store.queue.submit(Effect(records=(a_run(), a_candidate("a"), a_candidate("b"))) + a_job("plan:b"))

    assert await store.queue.submit(Effect(records=(a_plan("a"),), next=(gather,))) == []
    outcome = DecisionOutcome("b", SignalOutcome.NO_TRADE, "score", START)
    assert keys(await store.queue.submit(Effect(records=(outcome,), next=(gather,)), job)) == ["gather:run-1"]
    assert await store.queue.submit(Effect(next=(gather,))) == []


# -- failures ----------------------------------------------------------------------------------------------------------------


async def test_a_failed_job_comes_back_one_attempt_older(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))
    retry_at = START + timedelta(seconds=5)

    assert await store.queue.fail(job, "x" * 500, retry_at) is JobStatus.SCHEDULED
    await no_longer_running(store, job)
    (again,) = await store.queue.claim(retry_at, 10)

    assert (again.attempts, again.crashes, again.run_at) == (1, 0, retry_at)
    await no_longer_running(store, job)
    await store.queue.submit(Effect(), again)


async def test_the_last_errors_are_kept_newest_first(store: Store) -> None:
    """Each with the failures by then and its time; a person who brings the job back changes neither."""
    (job,) = await store.queue.submit(a_job("a"))
    for n in range(4):
        store.clock.set(START + timedelta(minutes=n))
        retry_at = None if n == 3 else store.clock.now()
        await store.queue.fail(job, f"error {n}" + "x" * 500, retry_at)
        if retry_at is not None:
            (job,) = await store.queue.claim(retry_at, 1)
    kept = store.row(job.id).errors

    assert [(one.attempts, one.at, one.error[:7]) for one in kept] == [
        (4, START + timedelta(minutes=3), "error 3"),
        (3, START + timedelta(minutes=2), "error 2"),
        (2, START + timedelta(minutes=1), "error 1"),
    ]
    assert {len(one.error) for one in kept} == {POLICY.error_length_max}
    assert store.row(job.id).last_error == kept[0].error
    await store.queue.retry(job.id, "ann")
    assert store.row(job.id).errors == kept
    (again,) = await store.queue.claim(store.clock.now(), 1)
    await store.queue.fail(again, "once more", None)
    await store.queue.discard(job.id, "enough", "ann")
    assert [(one.attempts, one.error) for one in store.row(job.id).errors[:2]] == [
        (1, "discarded by ann: enough"),
        (1, "once more"),
    ]


async def test_an_error_of_a_job_that_is_not_ours_is_not_kept(store: Store) -> None:
    (job,) = await store.queue.submit(a_job("a"))
    await store.queue.submit(Effect(), job)

    for stranger in (job, replace(job, id=77)):
        with pytest.raises(InvariantViolated, match="fenced"):
            await store.queue.fail(stranger, "boom", None)

    assert store.row(job.id).errors == ()


async def test_a_dead_job_ends_its_candidate(store: Store) -> None:
    (job,) = await store.queue.submit(
        Effect(records=(a_run(), a_candidate("a"))) + a_job("score:a", payload={"decision_id": "a"}, trace_id="t")
    )

    assert await store.queue.fail(job, "no such model", None) is JobStatus.DEAD

    outcome = store.reads.get(DecisionOutcome, "a")
    assert outcome == DecisionOutcome("a", SignalOutcome.DEAD, "score: no such model", START)
    (event,) = store.reads.find(DecisionEvent, decision_id="a")
    assert (event.kind, event.trace_id, event.body["error"]) == ("job_dead", "t", "no such model")
    assert store.queue.counts()["DEAD"] == 1


async def test_a_dead_job_does_not_end_a_candidate_twice(store: Store) -> None:
    outcome = DecisionOutcome("a", SignalOutcome.NO_TRADE, "score", START)
    (job,) = await store.queue.submit(
        Effect(records=(a_run(), a_candidate("a"), outcome)) + a_job("score:a", payload={"decision_id": "a"})
    )

    await store.queue.fail(job, "late", None)

    assert store.reads.get(DecisionOutcome, "a") == outcome


async def test_a_job_that_may_not_die_parks(store: Store) -> None:
    (job,) = await store.queue.submit(
        Effect(records=(a_run(), a_candidate("a"))) + a_job("send:a", "send", payload={"decision_id": "a"})
    )

    assert await store.queue.fail(job, "no answer", None) is JobStatus.PARKED

    assert store.reads.get(DecisionOutcome, "a") is None
    assert [event.kind for event in store.reads.find(DecisionEvent)] == ["job_parked"]
    assert await store.queue.claim(START + timedelta(days=9), 10) == []


async def test_a_dead_job_without_candidate_tells_the_story_of_its_run_or_none(store: Store) -> None:
    of_a_run, of_nothing = await store.queue.submit(a_job("scan", "scan", payload={"run_id": "r"}) + a_job("day", "session"))

    await store.queue.fail(of_a_run, "no bars", None)
    await store.queue.fail(of_nothing, "no calendar", None)

    assert [(event.subject_type, event.subject_id) for event in store.reads.find(DecisionEvent)] == [(SubjectType.RUN, "r")]


async def test_released_jobs_wait_unharmed(store: Store) -> None:
    jobs = await store.queue.submit(a_job("a") + a_job("b"))

    await store.queue.release(jobs)
    await store.queue.release(jobs)

    again = await store.queue.claim(START, 10)
    assert [(job.dedup_key, job.attempts, job.crashes) for job in again] == [("a", 0, 0), ("b", 0, 0)]


# -- the end of a process ----------------------------------------------------------------------------------------------------


async def test_recovery_gives_running_jobs_back_one_crash_older(store: Store) -> None:
    later = START + timedelta(seconds=1)
    running, done = await store.queue.submit(a_job("running") + a_job("done") + a_job("waiting", run_at=later))
    await store.queue.submit(Effect(), done)

    rescued = await store.restart()

    assert [(job.id, job.crashes, job.attempts) for job in rescued] == [(running.id, 1, 0)]
    assert store.queue.counts() == {"READY": 1, "RUNNING": 0, "DONE": 1, "SCHEDULED": 1, "DEAD": 0, "PARKED": 0}
    assert await store.restart() == [], "a job that waited is not to blame"
    (again,) = await store.queue.claim(START, 10)
    assert (again.crashes, again.epoch) == (1, running.epoch + 2)


async def test_recovery_comes_first_and_once(store: Store) -> None:
    with pytest.raises(InvariantViolated, match="twice"):
        await store.queue.recover()
    await store.close()
    store.open()
    for early in (store.queue.submit(a_job("a")), store.queue.claim(START, 1), store.queue.prune(), store.queue.release([])):
        with pytest.raises(InvariantViolated, match="before anything else"):
            await early


async def test_suspects_run_alone_in_their_place(store: Store) -> None:
    """After two crashes with "b" and "d" running, each of them waits for what is before it and then runs by itself."""
    await store.queue.submit(a_job("b") + a_job("d"))
    await store.restart()
    await store.queue.claim(START, 10)
    await store.restart()
    waiting = [Next("score", key, run_at=START + timedelta(seconds=1), priority=p) for key, p in (("a", 1), ("c", 50), ("e", 60))]
    await store.queue.submit(Effect(next=tuple(waiting)))
    now = START + timedelta(seconds=1)
    store.clock.set(now)
    order: list[list[str]] = []

    while batch := await store.queue.claim(now, 10):
        order.append(keys(batch))
        assert await store.queue.claim(now, 10) == [], "nothing joins a suspect, and no suspect joins another"
        for job in batch:
            await store.queue.submit(Effect(), job)

    assert order == [["a"], ["b"], ["d"], ["c", "e"]]


async def test_what_a_suspect_runs_beside_waits_in_the_table(store: Store) -> None:
    await store.queue.submit(a_job("suspect"))
    for _ in range(2):
        await store.restart()
        (suspect,) = await store.queue.claim(START, 10)
    await store.restart()

    assert keys(await store.queue.submit(a_job("before", priority=1))) == ["before"]
    assert await store.queue.submit(a_job("behind")) == [], "its place is behind the suspect's"
    assert await store.queue.claim(START, 10) == [], "something else is running"
    (before,) = store.reads.find(Job, dedup_key="before")
    await store.queue.submit(Effect(), before)
    (suspect,) = await store.queue.claim(START, 10)
    assert await store.queue.submit(a_job("urgent", priority=1)) == [], "a suspect runs alone"
    assert keys(await store.queue.submit(a_job("child", priority=1), suspect)) == ["child"]


async def test_a_released_or_failed_suspect_stays_one(store: Store) -> None:
    await store.queue.submit(a_job("suspect"))
    for _ in range(2):
        await store.restart()
        (suspect,) = await store.queue.claim(START, 10)
    await store.restart()
    (suspect,) = await store.queue.claim(START, 10)
    await store.queue.release([suspect])
    (suspect,) = await store.queue.claim(START, 10)
    await store.queue.fail(suspect, "again", START)

    assert await store.queue.submit(a_job("new")) == []
    (suspect,) = await store.queue.claim(START, 10)
    assert (suspect.dedup_key, suspect.attempts) == ("suspect", 1)
    await store.queue.fail(suspect, "enough", None)
    assert keys(await store.queue.claim(START, 10)) == ["new"]
    assert keys(await store.queue.submit(a_job("free"))) == ["free"]


@pytest.mark.parametrize(("type_", "end"), [("score", JobStatus.DEAD), ("send", JobStatus.PARKED)])
async def test_a_job_that_kills_every_process_is_given_up(store: Store, type_: str, end: JobStatus) -> None:
    await store.queue.submit(
        Effect(records=(a_run(), a_candidate("a")))
        + a_job("killer", type_, payload={"decision_id": "a"}, priority=1)
        + a_job("innocent", priority=2)
    )
    deaths = 0

    while store.queue.counts()[end.name] == 0:
        await store.restart()
        await store.queue.claim(START, 10)
        deaths += 1

    assert deaths == 2 + POLICY.max_solo_crashes, "two beside others, then alone"
    (killer,) = [row for row in store.listed() if row.dedup_key == "killer"]
    assert [(one.attempts, one.error) for one in killer.errors] == [(0, killer.last_error)]
    outcome = store.reads.get(DecisionOutcome, "a")
    assert (outcome is not None and outcome.outcome is SignalOutcome.DEAD) == (end is JobStatus.DEAD)
    assert store.queue.counts()["RUNNING"] == 1, "the innocent one runs on"


async def test_ten_kills_bury_nobody(store: Store) -> None:
    """Jobs that all run when the process is killed are under suspicion together, and none of them dies of it."""
    await store.queue.submit(Effect(next=tuple(Next("score", f"{n}") for n in range(4))))
    for turn in range(10):
        await store.restart()
        for job in await store.queue.claim(START, 10):
            if turn % 3 == 2:
                await store.queue.submit(Effect(), job)

    counts = store.queue.counts()
    assert counts["DEAD"] + counts["PARKED"] == 0


# -- housekeeping ------------------------------------------------------------------------------------------------------------


async def test_old_finished_jobs_go_in_batches(store: Store) -> None:
    jobs = await store.queue.submit(Effect(next=tuple(Next("score", f"{n}") for n in range(5))))
    for job in jobs[:3]:
        await store.queue.submit(Effect(), job)
    await store.queue.fail(jobs[3], "dead", None)
    store.clock.set(START + timedelta(days=1))

    assert await store.queue.prune() == 0
    store.clock.set(START + timedelta(days=1, seconds=1))
    assert [await store.queue.prune() for _ in range(3)] == [2, 1, 0]
    assert store.queue.counts() == {"READY": 0, "RUNNING": 1, "DONE": 0, "SCHEDULED": 0, "DEAD": 1, "PARKED": 0}


async def test_jobs_that_a_person_gave_up_go_later_and_no_other_dead_ones(store: Store) -> None:
    """Also not one that only its handler's error makes look like it; a batch is filled from both kinds."""
    jobs = await store.queue.submit(Effect(next=tuple(Next("score", f"{n}") for n in range(6))))
    for job in jobs[:5]:
        await store.queue.fail(job, "ValueError: discarded by nobody", None)
    for job in jobs[:3]:
        await store.queue.discard(job.id, "known fault", "ann")
    await store.queue.submit(Effect(), jobs[5])
    store.clock.set(START + timedelta(days=3))

    assert [await store.queue.prune() for _ in range(2)] == [1, 0], "the finished one"
    store.clock.set(START + timedelta(days=3, seconds=1))
    assert [await store.queue.prune() for _ in range(3)] == [2, 1, 0]
    assert [row.dedup_key for row in store.listed()] == ["3", "4"]


async def test_observers_hear_of_every_commit_and_cannot_break_it(store: Store) -> None:
    heard: list[tuple[Effect, Job | None]] = []
    sizes: list[int] = []

    def deaf(*_: object) -> None:
        raise ValueError("not listening")

    store.queue.on_commit += [deaf, lambda effects, jobs: heard.extend(zip(effects, jobs, strict=True))]
    store.queue.on_group += [lambda size, seconds: sizes.append(size)]
    effect = Effect(records=(a_position("IBM"),)) + a_job("a")

    (job,) = await store.queue.submit(effect)
    with pytest.raises(FinagentError):
        await store.queue.submit(Effect(records=(a_position("IBM"),)))
    await store.queue.submit(Effect(), job)

    assert heard == [(effect, None), (Effect(), job)]
    assert sizes == [1, 1]


async def test_closing_commits_what_was_submitted(store: Store) -> None:
    future = store.queue.submit(Effect(records=(a_position("IBM"),)))

    await store.queue.close()
    await store.queue.close()

    assert await future == []
    assert store.reads.get(Position, "IBM") is not None
    with pytest.raises(InvariantViolated, match="closed"):
        store.queue.submit(Effect())


async def test_a_queue_that_never_started_can_be_closed(store: Store) -> None:
    await store.close()
    store.open()
