"""Trainings by the clock: a job starts the training in a process of its own, looks after it, and says what came of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Protocol

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.jobs import Job, Next
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.sessions import Session
from finagent.services.scheduling.cron import EXCHANGE_ZONE, CronEntry, fire_times

TRAINING = "training"


@dataclass(frozen=True, slots=True)
class TrainingsEnded:
    """What one command has left: how many of its trainings came to their end, and whether a package was made of them."""

    version: str
    finished: int
    failed: int
    packed: bool


class TrainingRunner(Protocol):
    """Has `finagent models train` run beside the agent, as the schedule's `entry` wants it."""

    async def ended(self, version: str) -> TrainingsEnded | None:
        """None while nothing is known to have come of it."""
        ...

    async def keep_running(self, entry: str, version: str) -> None:
        """Start it where it does not run; it goes on where it was. Permanent where it refused what it was asked, Transient where
        it broke down."""
        ...


def success_ratio(ended: Sequence[TrainingsEnded]) -> float:
    """Of all trainings of those commands; NaN where there was none."""
    trainings = sum(each.finished + each.failed for each in ended)
    return sum(each.finished for each in ended) / trainings if trainings else float("nan")


def training_jobs(entries: Sequence[CronEntry], session: Session) -> list[Next]:
    """What begins on the day of the session, from its open to midnight in New York."""
    midnight = session.opens_at.astimezone(EXCHANGE_ZONE).replace(hour=23, minute=59)
    return [_look(entry.name, at, 0, at) for entry in entries for at in fire_times(entry, session, midnight)]


def _look(entry: str, fired_at: datetime, number: int, at: datetime) -> Next:
    version = f"{entry}@{fired_at.astimezone(EXCHANGE_ZONE):%Y%m%d-%H%M}"
    return Next("train", f"train:{version}:{number}", {"entry": entry, "version": version, "look": number}, at)


@dataclass(frozen=True, slots=True)
class ScheduledTraining:
    """`runner` is None in a replay, which trains nothing. A look every `look_seconds` until it has ended."""

    clock: Clock
    runner: TrainingRunner | None
    look_seconds: float

    async def train(self, job: Job, _reads: Reads) -> Effect:
        """Permanent in a replay, and as the runner says."""
        if self.runner is None:
            raise Permanent(f"train {job.payload['version']}: a replay trains nothing")
        version, now = job.payload["version"], self.clock.now()
        ended = await self.runner.ended(version)
        if ended is not None:
            return Effect(events=(DecisionEvent(SubjectType.MODEL, TRAINING, "training_ended", now, body=asdict(ended)),))
        await self.runner.keep_running(job.payload["entry"], version)
        number = job.payload["look"] + 1
        at = now + timedelta(seconds=self.look_seconds)
        return Effect(next=(Next("train", f"train:{version}:{number}", {**job.payload, "look": number}, at),))
