"""A training by the clock: begun once, looked after until it has ended, and told of once."""

from datetime import timedelta
from typing import Any

import pytest

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import Permanent
from finagent.domain.time import to_text
from finagent.services.scheduling.cron import CronEntry
from finagent.services.scheduling.scheduled_training import ScheduledTraining, TrainingsEnded, success_ratio, training_jobs


class Scripted:
    """A runner whose command ends when the test says so."""

    def __init__(self) -> None:
        self.result: TrainingsEnded | None = None
        self.kept: list[tuple[str, str]] = []

    async def ended(self, version: str) -> TrainingsEnded | None:
        return self.result

    async def keep_running(self, entry: str, version: str) -> None:
        self.kept.append((entry, version))


def test_a_training_begins_on_days_with_a_session_also_after_its_close(desk: Any) -> None:
    entries = [CronEntry("gap", "30 17 * * *"), CronEntry("before", "0 9 * * *"), CronEntry("fridays", "0 18 * * 5")]
    (job,) = training_jobs(entries, desk.session)
    assert job.payload == {"entry": "gap", "version": "gap@20081001-1730", "look": 0}
    assert job.run_at is not None
    assert to_text(job.run_at) == "2008-10-01T21:30:00.000000Z"


async def test_it_is_looked_after_until_it_has_ended_and_then_told_once(desk: Any) -> None:
    runner = Scripted()
    training = ScheduledTraining(desk.clock, runner, 60)
    (first,) = training_jobs([CronEntry("gap", "30 17 * * *")], desk.session)
    job = desk.job("train", **first.payload)
    (following,) = (await training.train(job, desk.reads)).next
    assert runner.kept == [("gap", "gap@20081001-1730")]
    assert (following.payload["look"], following.run_at) == (1, desk.clock.now() + timedelta(seconds=60))
    assert following.key != first.key

    runner.result = TrainingsEnded("gap@20081001-1730", 6, 1, False)
    effect = await training.train(desk.job("train", **following.payload), desk.reads)
    assert effect.next == ()
    (event,) = effect.events
    assert isinstance(event, DecisionEvent)
    assert (event.subject_type, event.kind) == (SubjectType.MODEL, "training_ended")
    assert event.body == {"version": "gap@20081001-1730", "finished": 6, "failed": 1, "packed": False}
    assert len(runner.kept) == 1


async def test_a_replay_trains_nothing(desk: Any) -> None:
    with pytest.raises(Permanent, match="a replay trains nothing"):
        await ScheduledTraining(desk.clock, None, 60).train(desk.job("train", version="gap@1"), desk.reads)


def test_the_ratio_is_of_trainings_and_nothing_has_none() -> None:
    ended = [TrainingsEnded("a@1", 10, 0, True), TrainingsEnded("a@2", 8, 2, False)]
    assert success_ratio(ended) == pytest.approx(0.9)
    assert success_ratio([]) != success_ratio([])
