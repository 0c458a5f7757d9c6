"""What is submitted in one moment is committed together, and each caller gets the answer that it would have got alone."""

import asyncio
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.stores import START, DurableStore, InMemoryStore

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import Conflict, InvariantViolated
from finagent.domain.jobs import Job, Next
from finagent.domain.portfolio import Position

NEIGHBOURS = 20


def an_effect(name: str) -> Effect:
    event = DecisionEvent(SubjectType.RUN, "run-1", "noted", START, "trace", None, {"name": name})
    return Effect((Position(name, 1, Decimal(0), Decimal(0), START),), (Next("score", name),), (event,))


def answer_of(answer: Any) -> Any:
    """What a caller can tell of an answer, but for ids, of which the stores keep their own."""
    return [job.dedup_key for job in answer] if isinstance(answer, list) else type(answer)


def state_of(store: DurableStore) -> Any:
    """Jobs, records and stories, but for ids."""
    jobs = [(job.dedup_key, job.status.name, job.priority, job.attempts, job.trace_id, job.run_at) for job in store.listed()]
    events = [(event.subject_id, event.kind, event.body) for event in store.reads.find(DecisionEvent)]
    return sorted(jobs), store.reads.find(Position), events


async def a_conflict(store: DurableStore) -> tuple[Effect, Job | None, Any]:
    return Effect((Set(Position, ("unknown",), {"quantity": 2}),)), None, Conflict


async def a_broken_constraint(store: DurableStore) -> tuple[Effect, Job | None, Any]:
    return an_effect("there-before"), None, InvariantViolated


async def a_twin(store: DurableStore) -> tuple[Effect, Job | None, Any]:
    return an_effect("left-3"), None, InvariantViolated


async def a_key_of_old(store: DurableStore) -> tuple[Effect, Job | None, Any]:
    return Effect(next=(Next("score", "there-before"),)), None, []


async def a_fenced_job(store: DurableStore) -> tuple[Effect, Job | None, Any]:
    (job,) = await store.queue.submit(Effect(next=(Next("score", "lost"),)))
    await store.queue.submit(Effect(), job)
    return an_effect("too-late"), job, InvariantViolated


@pytest.mark.parametrize("offence", [a_conflict, a_broken_constraint, a_twin, a_key_of_old, a_fenced_job])
async def test_one_offender_among_many_stands_alone(store: DurableStore, offence: Any) -> None:
    await store.queue.release(await store.queue.submit(an_effect("there-before")))
    effect, job, expected = await offence(store)

    answers = await asyncio.gather(
        *(store.queue.submit(an_effect(f"left-{number}")) for number in range(NEIGHBOURS)),
        store.queue.submit(effect, job),
        *(store.queue.submit(an_effect(f"right-{number}")) for number in range(NEIGHBOURS)),
        return_exceptions=True,
    )

    assert answer_of(answers.pop(NEIGHBOURS)) == expected
    assert all(isinstance(answer, list) for answer in answers)
    handed_out = [one.dedup_key for answer in answers if isinstance(answer, list) for one in answer]
    assert handed_out == [f"left-{number}" for number in range(store.policy.memory_limit)]
    names = ["there-before", *(f"{side}-{number}" for side in ("left", "right") for number in range(NEIGHBOURS))]
    assert [position.symbol for position in store.reads.find(Position)] == sorted(names)
    assert [event.body["name"] for event in store.reads.find(DecisionEvent)] == names
    ids = [job.id for job in store.listed()]
    assert len(set(ids)) == len(ids)


class Draw:
    """One random submission after the other, some of which cannot succeed; the same for every store of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def group(self) -> list[tuple[Effect, str | None]]:
        """What is submitted in one moment: the effects, each with the key of the job that it acknowledges."""
        return [(self._effect(), self._key() if self._random.random() < 0.5 else None) for _ in range(self._random.randint(1, 9))]

    def _effect(self) -> Effect:
        draw = self._random
        records: list[Any] = []
        for _ in range(draw.choice([0, 0, 1, 2])):
            if draw.random() < 0.8:
                records.append(Position(f"S{draw.randint(0, 60)}", 1, Decimal(0), Decimal(0), START))
            else:
                records.append(Set(Position, (f"S{draw.randint(0, 9)}",), {"quantity": draw.randint(0, 9)}))
        published = tuple(
            Next("score", self._key(), run_at=draw.choice([None, START + timedelta(hours=1)]), priority=draw.choice([None, 7]))
            for _ in range(draw.choice([0, 1, 1, 2]))
        )
        events = tuple(
            DecisionEvent(SubjectType.RUN, f"run-{draw.randint(0, 2)}", "noted", START, "trace", None, {"n": draw.random()})
            for _ in range(draw.choice([0, 0, 1]))
        )
        return Effect(tuple(records), published, events)

    def _key(self) -> str:
        return f"job-{self._random.randint(0, 80)}"


@pytest.mark.parametrize("seed", range(4))
async def test_together_is_as_one_after_the_other(store: DurableStore, seed: int) -> None:
    alone = InMemoryStore()
    alone.open()
    await alone.queue.recover()
    held: dict[DurableStore, dict[str, Job]] = {store: {}, alone: {}}

    for group in [Draw(seed * 100 + number).group() for number in range(30)]:
        mine, theirs = ([(effect, held[one].get(key or "")) for effect, key in group] for one in (store, alone))
        together = await asyncio.gather(*(store.queue.submit(*each) for each in mine), return_exceptions=True)
        in_turn = [(await asyncio.gather(alone.queue.submit(effect, job), return_exceptions=True))[0] for effect, job in theirs]

        assert list(map(answer_of, together)) == list(map(answer_of, in_turn))
        for one, answers in ((store, together), (alone, in_turn)):
            held[one].update({job.dedup_key: job for answer in answers if isinstance(answer, list) for job in answer})
    assert state_of(store) == state_of(alone)
    await alone.close()
