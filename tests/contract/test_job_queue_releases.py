"""F-64: jobs of an older release run in this one, jobs of a newer one wait, on every durable queue."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.stores import POLICY, START
from tests.contract.stores import DurableStore as Store

from finagent.domain.decision import DecisionEvent, DecisionOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput
from finagent.domain.jobs import JOB_TYPES, Job, JobStatus, JobType, Next
from finagent.domain.payloads import Release

LIMIT = 10


def named(payload: dict[str, Any]) -> dict[str, Any]:
    """Version 1 -> 2: `decision` has become `decision_id`."""
    return {"decision_id": payload["decision"]}


def listed(payload: dict[str, Any]) -> dict[str, Any]:
    """Version 2 -> 3: several decisions a job."""
    return {"decision_ids": [payload["decision_id"]]}


UPCASTERS = {("score", 1): named, ("score", 2): listed}
PAYLOADS: dict[int, dict[str, Any]] = {1: {"decision": "d"}, 2: {"decision_id": "d"}, 3: {"decision_ids": ["d"]}}


def release(version: int) -> Release:
    """The release that writes `score` payloads of that version."""
    types = JOB_TYPES | {"score": replace(JOB_TYPES["score"], version=version)}
    return Release(types, {each: up for each, up in UPCASTERS.items() if each[1] < version})


async def installed(store: Store, of: Release) -> list[Job]:
    """The process of the release before ends, one of this release starts."""
    store.policy = replace(POLICY, release=of, error_length_max=500)
    return await store.restart()


async def waiting(store: Store, key: str, type_: str = "score", **fields: Any) -> None:
    """A job that nobody has taken yet."""
    await store.queue.release(await store.queue.submit(Effect(next=(Next(type_, key, **fields),))))


def only(store: Store, status: JobStatus) -> int:
    """The id of the one job in that status."""
    (found,) = [row.id for row in store.listed() if row.status is status]
    return found


# -- upgrade -----------------------------------------------------------------------------------------------------------------


async def test_two_versions_in_turn_lose_and_double_nothing(store: Store) -> None:
    """A soak: each release publishes, the next one runs what it finds, and all that a handler sees is the version it knows."""
    ran: Counter[str] = Counter()
    for turn, version in enumerate((1, 2, 2, 3, 3)):
        await installed(store, release(version))
        for n in range(4):
            later = START + timedelta(seconds=turn + 1)
            await waiting(store, f"{turn}:{n}", payload=PAYLOADS[version], run_at=later if n % 2 else None)
        now = START + timedelta(seconds=turn)
        store.clock.set(now)
        claimed = await store.queue.claim(now, LIMIT)
        assert {(job.payload_version, str(job.payload)) for job in claimed} == {(version, str(PAYLOADS[version]))}
        for job in claimed[:-1]:  # the last one is left RUNNING to the next release
            await store.queue.submit(Effect(), job)
            ran[job.dedup_key] += 1
    store.clock.set(START + timedelta(minutes=1))
    await store.restart()
    while batch := await store.queue.claim(store.clock.now(), LIMIT):
        for job in batch:
            assert job.payload == PAYLOADS[3]
            await store.queue.submit(Effect(), job)
            ran[job.dedup_key] += 1

    assert set(ran.values()) == {1}
    assert store.queue.counts() == {"READY": 0, "RUNNING": 0, "DONE": 20, "SCHEDULED": 0, "DEAD": 0, "PARKED": 0}


async def test_the_stored_row_keeps_what_was_written(store: Store) -> None:
    await installed(store, release(1))
    await waiting(store, "a", payload=PAYLOADS[1])
    await installed(store, release(3))

    (job,) = await store.queue.claim(START, LIMIT)

    kept = store.reads.get(Job, job.id)
    assert kept is not None
    assert (kept.payload, kept.payload_version) == (PAYLOADS[1], 1)
    assert (job.payload, job.payload_version, job.fence) == (PAYLOADS[3], 3, kept.fence)
    await store.queue.fail(job, "again", START)
    (again,) = await store.queue.claim(START, LIMIT)
    assert again.payload == PAYLOADS[3]
    await store.queue.submit(Effect(), again)


async def test_a_job_that_came_back_remembers_it_through_an_upgrade(store: Store) -> None:
    """An upcaster knows nothing of the mark, and a send asks the broker first because of it."""
    await installed(store, release(1))
    (job,) = await store.queue.submit(Effect(next=(Next("score", "a", PAYLOADS[1]),)))
    await store.queue.fail(job, "boom", None)
    await store.queue.retry(job.id, "ann")
    await installed(store, release(3))

    (again,) = await store.queue.claim(START, LIMIT)

    assert again.ran_before
    assert again.payload == PAYLOADS[3] | {"retried": True}


async def test_what_is_handed_out_at_once_has_the_version_of_the_release(store: Store) -> None:
    await installed(store, release(2))

    (job,) = await store.queue.submit(Effect(next=(Next("score", "a", PAYLOADS[2]),)))

    assert (job.payload, job.payload_version) == (PAYLOADS[2], 2)
    assert store.reads.find(Job) == [job]


# -- downgrade ---------------------------------------------------------------------------------------------------------------


async def test_a_newer_payload_is_parked_and_those_behind_it_run(store: Store) -> None:
    """More of them than one claim may take, due at different times, of a type that otherwise dies."""
    await installed(store, release(3))
    for n in range(3):
        await waiting(store, f"new:{n}", payload={"decision_id": "d"}, priority=1, trace_id="t")
    await waiting(store, "later", payload=PAYLOADS[3], priority=1, run_at=START + timedelta(seconds=1))
    await waiting(store, "plan", "plan")
    await installed(store, release(2))

    (job,) = await store.queue.claim(START, 1)

    assert job.type == "plan"
    assert store.queue.counts()["PARKED"] == 3
    parked = next(row for row in store.listed() if row.dedup_key == "new:0")
    assert (parked.attempts, parked.finished_at) == (0, START)
    for said in ("its payload has version 3", "this one runs version 2", f"`finagent jobs retry {parked.id}`"):
        assert said in parked.last_error
    told = store.reads.find(DecisionEvent)
    assert [(event.kind, event.subject_id, event.trace_id) for event in told] == [("job_parked", "d", "t")] * 3
    assert told[0].body["error"] == parked.last_error
    assert [(one.attempts, one.error) for one in parked.errors] == [(0, parked.last_error)]
    assert store.reads.count(DecisionOutcome) == 0
    assert await store.queue.claim(START, LIMIT) == []
    assert await store.queue.claim(START + timedelta(seconds=1), LIMIT) == [], "parked, and nothing is left"
    assert store.queue.next_due() is None


async def test_a_parked_one_runs_after_the_upgrade_and_not_before(store: Store) -> None:
    await installed(store, release(3))
    await waiting(store, "a", payload=PAYLOADS[3])
    await installed(store, release(2))
    assert await store.queue.claim(START, LIMIT) == []
    parked = only(store, JobStatus.PARKED)

    with pytest.raises(BadInput, match="for another release: its payload has version 3"):
        await store.queue.retry(parked, "ann")

    assert store.row(parked).status is JobStatus.PARKED
    await installed(store, release(3))
    assert await store.queue.retry(parked, "ann") is JobStatus.READY
    (job,) = await store.queue.claim(START, LIMIT)
    assert job.payload == PAYLOADS[3] | {"retried": True}
    await store.queue.submit(Effect(), job)


@pytest.fixture
def telepathy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A newer release with a type that this one does not have, of the service given; `undo()` is the downgrade."""
    monkeypatch.setitem(JOB_TYPES, "telepathy", JobType("telepathy", request.param, JOB_TYPES["score"].phase, 1))
    return monkeypatch


@pytest.mark.parametrize("telepathy", ["scoring", "mind reading"], indirect=True)
async def test_an_unknown_type_is_parked(store: Store, telepathy: pytest.MonkeyPatch) -> None:
    await waiting(store, "read minds", "telepathy", payload={"minds": 1})
    await waiting(store, "score")
    telepathy.undo()
    await installed(store, POLICY.release)

    (job,) = await store.queue.claim(START, LIMIT)

    assert job.type == "score"
    assert await store.queue.claim(START, LIMIT) == []
    parked = store.row(only(store, JobStatus.PARKED))
    assert "telepathy job" in parked.last_error
    assert "no such type (payload version 1)" in parked.last_error
    (event,) = store.reads.find(DecisionEvent)
    assert (event.kind, event.subject_type) == ("job_parked", SubjectType.ACCOUNT)
    with pytest.raises(BadInput, match="no such type"):
        await store.queue.retry(parked.id, "ann")
    assert await store.queue.discard(parked.id, "no minds here", "ann") is JobStatus.DEAD
    with pytest.raises(BadInput, match="no such type"):
        await store.queue.retry(parked.id, "ann")


@pytest.mark.parametrize("telepathy", ["scoring"], indirect=True)
@pytest.mark.parametrize("claims", [3, 2 + POLICY.max_solo_crashes])
async def test_a_suspect_of_an_unknown_type_is_parked(store: Store, telepathy: pytest.MonkeyPatch, claims: int) -> None:
    """Left RUNNING by the newer release, which died with it; nobody can say what hangs on it, so it is not DEAD."""
    await waiting(store, "read minds", "telepathy")
    for _ in range(claims):
        await store.restart()
        assert len(await store.queue.claim(START, LIMIT)) == 1
    telepathy.undo()
    await installed(store, POLICY.release)

    assert await store.queue.claim(START, LIMIT) == []

    assert store.row(only(store, JobStatus.PARKED)).type == "telepathy"
    handed_out = await store.queue.submit(Effect(next=(Next("plan", "free"),)))
    assert [job.dedup_key for job in handed_out] == ["free"], "its quarantine has ended with it"


# -- what cannot be brought up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "upcasters", "why"),
    [
        (PAYLOADS[1], {}, "this one runs version 3 and knows no way from 1"),
        ({"odd": 1}, UPCASTERS, "its payload of version 1 cannot become version 2 of 3: KeyError: 'decision'"),
    ],
)
async def test_a_payload_that_cannot_be_brought_up_is_parked(
    store: Store, payload: dict[str, Any], upcasters: Any, why: str
) -> None:
    await installed(store, release(1))
    await waiting(store, "odd", payload=payload)
    await waiting(store, "plan", "plan")
    await installed(store, Release(release(3).types, upcasters))

    assert [job.type for job in await store.queue.claim(START, LIMIT)] == ["plan"]
    assert why in store.row(only(store, JobStatus.PARKED)).last_error
