"""What every durable queue promises a person: `retry` and `discard` of `finagent.domain.ports.store.JobQueue`."""

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest
from tests.contract.stores import POLICY, START
from tests.contract.stores import DurableStore as Store

from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.jobs import JOB_TRANSITIONS, WAITS_FOR_A_PERSON, Job, JobStatus, Next
from finagent.domain.runs import PipelineRun, RunState


async def stuck(store: Store, type_: str = "score", error: str = "boom", **payload: Any) -> Job:
    """A job whose handler failed for good: DEAD, or PARKED for a type that parks."""
    (job,) = await store.queue.submit(Effect(next=(Next(type_, f"{type_}:1", payload, trace_id="trace"),)))
    await store.queue.fail(job, error, None)
    return job


async def with_candidate(store: Store, name: str) -> None:
    run = PipelineRun("run-1", "open", date(2008, 10, 1), START, RunState.RUNNING, 4, 1, 0, {}, "", None)
    facts = GapFacts(0.03, 100, 103, 104, 102, 103.5, 1e6, 2.0, 1e8, 5)
    candidate = GapCandidate(name, "run-1", name.upper(), date(2008, 10, 1), Direction.UP, "trace", START, facts)
    await store.queue.submit(Effect(records=(run, candidate)))


def last_event(store: Store) -> DecisionEvent:
    return store.reads.find(DecisionEvent)[-1]


# -- retry -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["score", "resolve"])
async def test_a_retried_job_waits_as_if_it_had_never_failed(store: Store, type_: str) -> None:
    """Also a parked one; it is due now, not when it failed, and remembers that it ran."""
    job = await stuck(store, type_, decision_id="d")
    store.clock.set(START + timedelta(hours=1))

    assert await store.queue.retry(job.id, "ann") is JobStatus.READY

    row = store.row(job.id)
    assert (row.status, row.attempts, row.crashes, row.last_error) == (JobStatus.READY, 0, 0, "boom")
    assert (row.run_at, row.started_at, row.finished_at) == (START + timedelta(hours=1), None, None)
    assert store.queue.next_due() == START + timedelta(hours=1)
    (again,) = await store.queue.claim(store.clock.now(), 10)
    assert (again.id, again.payload, again.ran_before) == (job.id, {"decision_id": "d", "retried": True}, True)
    assert not job.ran_before
    await store.queue.submit(Effect(), again)
    assert store.queue.counts()["DONE"] == 1


async def test_a_retried_killer_is_out_of_quarantine(store: Store) -> None:
    """Given up because the process died with it, it is claimed beside others, and has all its process ends again."""
    (job,) = await store.queue.submit(Effect(next=(Next("score", "killer"),)))
    for _ in range(POLICY.max_solo_crashes + 2):
        await store.restart()
        await store.queue.claim(START, 10)
    assert store.row(job.id).status is JobStatus.DEAD

    await store.queue.retry(job.id, "ann")
    (other,) = await store.queue.submit(Effect(next=(Next("report", "other"),)))

    (again,) = await store.queue.claim(START, 10)
    assert (other.dedup_key, again.dedup_key, again.crashes) == ("other", "killer", 0)
    await store.queue.submit(Effect(), other)
    for _ in range(POLICY.max_solo_crashes + 1):
        await store.restart()
        await store.queue.claim(START, 10)
    assert store.row(job.id).status is JobStatus.RUNNING, "as many process ends as the first time, not fewer"


async def test_an_earlier_claim_of_a_retried_job_stays_fenced_off(store: Store) -> None:
    """A handler that was given up and ran on has the same attempt number as the one of today."""
    job = await stuck(store)
    await store.queue.retry(job.id, "ann")
    (again,) = await store.queue.claim(START, 10)
    assert again.attempts == job.attempts

    with pytest.raises(InvariantViolated, match="fenced"):
        await store.queue.submit(Effect(next=(Next("plan", "from the past"),)), job)

    await store.queue.submit(Effect(), again)
    assert store.queue.counts()["DONE"] == 1


async def test_jobs_that_run_while_one_is_retried_are_still_ours(store: Store) -> None:
    job = await stuck(store)
    (other,) = await store.queue.submit(Effect(next=(Next("report", "other"),)))

    await store.queue.retry(job.id, "ann")

    await store.queue.submit(Effect(), other)
    assert store.row(other.id).status is JobStatus.DONE


async def test_a_retried_job_dies_again_and_its_candidate_keeps_its_outcome(store: Store) -> None:
    """The candidate ended when the job died first: its outcome stays the one it had."""
    await with_candidate(store, "d")
    job = await stuck(store, decision_id="d")
    await store.queue.retry(job.id, "ann")
    (again,) = await store.queue.claim(START, 10)

    assert await store.queue.fail(again, "still broken", None) is JobStatus.DEAD

    assert store.reads.find(DecisionOutcome) == [DecisionOutcome("d", SignalOutcome.DEAD, "score: boom", START)]
    assert store.row(job.id).last_error == "still broken"


# -- discard -----------------------------------------------------------------------------------------------------------------


async def test_a_discarded_parked_job_is_dead_and_ends_its_candidate(store: Store) -> None:
    await with_candidate(store, "d")
    job = await stuck(store, "execute", decision_id="d")
    assert store.row(job.id).status is JobStatus.PARKED
    assert store.reads.count(DecisionOutcome) == 0

    assert await store.queue.discard(job.id, "delisted", "ann") is JobStatus.DEAD

    row = store.row(job.id)
    assert (row.status, row.last_error) == (JobStatus.DEAD, "discarded by ann: delisted (before: boom)")
    reason = "execute: discarded by ann: delisted"
    assert store.reads.find(DecisionOutcome) == [DecisionOutcome("d", SignalOutcome.DEAD, reason, START)]
    assert await store.queue.claim(START, 10) == []


async def test_a_discarded_dead_job_keeps_the_outcome_of_its_candidate(store: Store) -> None:
    await with_candidate(store, "d")
    job = await stuck(store, decision_id="d")

    assert await store.queue.discard(job.id, "known fault", "ann") is JobStatus.DEAD

    assert store.reads.find(DecisionOutcome) == [DecisionOutcome("d", SignalOutcome.DEAD, "score: boom", START)]
    assert store.row(job.id).last_error == "discarded by ann: known fault (before: boom)"


async def test_a_long_reason_is_cut(store: Store) -> None:
    job = await stuck(store, error="")

    await store.queue.discard(job.id, "x" * 500, "ann")

    assert store.row(job.id).last_error == ("discarded by ann: " + "x" * 500)[: POLICY.error_length_max]


async def test_a_discarded_job_about_orders_does_not_come_back(store: Store) -> None:
    """Its candidate has ended; another one may be given a second thought."""
    order, score = await stuck(store, "send"), await stuck(store)
    for job in (order, score):
        await store.queue.discard(job.id, "done by hand at the broker", "ann")

    with pytest.raises(BadInput, match=f"send job {order.id} is about an order"):
        await store.queue.retry(order.id, "ann")

    assert store.row(order.id).status is JobStatus.DEAD
    assert await store.queue.retry(score.id, "ann") is JobStatus.READY


# -- both --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        ({"decision_id": "d"}, (SubjectType.DECISION, "d", "d")),
        ({"run_id": "r"}, (SubjectType.RUN, "r", None)),
        ({}, (SubjectType.ACCOUNT, "account", None)),
    ],
)
async def test_who_asked_is_in_the_story(store: Store, payload: dict[str, Any], subject: tuple[Any, ...]) -> None:
    """Of the decision or the run, else of the account."""
    job = await stuck(store, "resolve", **payload)
    known = {"job": job.id, "type": "resolve", "key": "resolve:1", "crashes": 0, "was": "PARKED", "error": "boom"}

    await store.queue.retry(job.id, "ann")
    told = last_event(store)
    assert (told.kind, told.body) == ("job_retried", known | {"attempts": 1, "by": "ann"})
    assert (told.subject_type, told.subject_id, told.decision_id, told.trace_id) == (*subject, "trace")

    (again,) = await store.queue.claim(START, 10)
    await store.queue.fail(again, "boom", None)
    await store.queue.discard(job.id, "no use", "bob")
    told = last_event(store)
    assert (told.kind, told.body) == ("job_discarded", known | {"attempts": 1, "by": "bob", "reason": "no use"})
    assert (told.subject_type, told.subject_id, told.decision_id, told.trace_id) == (*subject, "trace")


async def in_status(store: Store, status: JobStatus) -> int:
    """The id of a job in that status."""
    later = START + timedelta(hours=1) if status is JobStatus.SCHEDULED else None
    handed_out = await store.queue.submit(Effect(next=(Next("report", "one", run_at=later),)))
    if status is JobStatus.READY:
        await store.queue.release(handed_out)
    if status is JobStatus.DONE:
        await store.queue.submit(Effect(), handed_out[0])
    (only,) = [row.id for row in store.listed()]
    assert store.row(only).status is status
    return only


@pytest.mark.parametrize("status", [status for status in JobStatus if status not in WAITS_FOR_A_PERSON])
async def test_only_what_waits_for_a_person_is_moved(store: Store, status: JobStatus) -> None:
    """Nothing is stored for any other job, and the message says its status."""
    job_id = await in_status(store, status)
    before = store.row(job_id)

    for asked in (store.queue.retry(job_id, "ann"), store.queue.discard(job_id, "why not", "ann")):
        with pytest.raises(BadInput, match=f"report job {job_id} is {status.value}"):
            await asked

    assert store.row(job_id) == before
    assert store.reads.count(DecisionEvent) == 0


async def test_an_unknown_job_is_named(store: Store) -> None:
    for asked in (store.queue.retry(77, "ann"), store.queue.discard(77, "why not", "ann")):
        with pytest.raises(BadInput, match="there is no job 77"):
            await asked


async def test_of_two_at_the_same_moment_one_is_refused(store: Store) -> None:
    job = await stuck(store)

    answers = await asyncio.gather(
        store.queue.retry(job.id, "ann"), store.queue.discard(job.id, "no", "bob"), return_exceptions=True
    )

    assert answers[0] is JobStatus.READY
    assert isinstance(answers[1], BadInput)
    assert store.row(job.id).status is JobStatus.READY


async def test_it_lasts_beyond_the_process(store: Store) -> None:
    first = await stuck(store)
    await store.queue.retry(first.id, "ann")

    await store.restart()

    (again,) = await store.queue.claim(START, 10)
    assert (again.id, again.attempts, again.crashes) == (first.id, 0, 0)


def test_the_moves_of_a_person_are_in_the_table() -> None:
    assert all(JobStatus.READY in JOB_TRANSITIONS[status] for status in WAITS_FOR_A_PERSON)
    assert JobStatus.DEAD in JOB_TRANSITIONS[JobStatus.PARKED]
