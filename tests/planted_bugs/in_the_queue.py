"""Bugs in the durable queue: each is one part of it built wrong and put in the place of the right one."""

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from types import ModuleType
from typing import Any, ClassVar

from finagent.adapters.database import events
from finagent.adapters.database.connection import Driver, StoreConnection
from finagent.adapters.database.effects import EncodedEffect
from finagent.adapters.database.events import GENESIS, EventChains, event_hash
from finagent.adapters.database.writer import Done, Ticket, Writer
from finagent.adapters.job_queue import rows, sql, sqlite
from finagent.adapters.job_queue.by_hand import HandOperations
from finagent.adapters.job_queue.operations import EncodedNext
from finagent.bootstrap import Application, build_application
from finagent.domain.effect import Effect
from finagent.domain.jobs import Job
from finagent.settings import Settings


class Planted:
    """`build_application` with a part of a module exchanged; the process belongs to the bug."""

    def __init__(self, module: ModuleType, name: str, part: type) -> None:
        self._module, self._name, self._part = module, name, part

    def plant(self) -> None:
        """In this process, for good."""
        setattr(self._module, self._name, self._part)

    def __call__(self, settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
        self.plant()
        return build_application(settings, **overrides)


class ClockStandsStill(HandOperations):
    """No commit says which instant it belongs to: a start begins the day again."""

    def _carry_clock(self, driver: Driver, at: datetime) -> frozenset[str]:
        return frozenset()


class NothingIsRescued(HandOperations):
    """What the last process left RUNNING stays so."""

    def _rescue(
        self, driver: Driver, left: Sequence[tuple[Any, ...]], at: datetime
    ) -> tuple[list[Job], tuple[tuple[Effect, Job | None], ...]]:
        return [], ()


class BuriedAtOnce(HandOperations):
    """A job that ran when its process died is taken for the culprit the first time."""

    def _rescue(
        self, driver: Driver, left: Sequence[tuple[Any, ...]], at: datetime
    ) -> tuple[list[Job], tuple[tuple[Effect, Job | None], ...]]:
        first = [rows.job(row[:-1]) for row in left[:1]]
        rescued, effects = super()._rescue(driver, left[1:], at)
        return rescued, (*effects, *((self._bury_killer(driver, job, 1, at), job) for job in first))


class LiveJobsRescued(HandOperations):
    """Before it claims, it gives back whatever is RUNNING: also what its own handlers are at."""

    def claim(self, now: datetime, limit: int, at: datetime, driver: Driver) -> Done:
        self._rescue(driver, driver.execute(rows.RUNNING).fetchall(), at)
        self.memory.running = 0
        return super().claim(now, limit, at, driver)


class KeysForgotten(HandOperations):
    """A key that was published before is published again."""

    published = 0

    def _publish(self, driver: Driver, encoded: EncodedNext, parent: Job | None, at: datetime) -> Job | None:
        self.published += 1
        key = f"{encoded.next.key}#{self.memory.epoch}.{self.published}"
        return super()._publish(driver, replace(encoded, next=replace(encoded.next, key=key)), parent, at)


class Unfenced(HandOperations):
    """Whoever has the id of a job may acknowledge it."""

    def submit(
        self, effect: EncodedEffect, publish: Sequence[EncodedNext], job: Job | None, at: datetime, driver: Driver
    ) -> Done:
        if job is not None:
            ((epoch, fence),) = driver.execute("SELECT epoch, fence FROM job_queue WHERE id = ?", (job.id,)).fetchall()
            job = replace(job, epoch=epoch, fence=fence)
        return super().submit(effect, publish, job, at, driver)


class AttemptsNotCounted(HandOperations):
    """A failure leaves the count of attempts as it was."""

    def fail(self, job: Job, error: str, retry_at: datetime | None, at: datetime, driver: Driver) -> Done:
        done = super().fail(job, error, retry_at, at, driver)
        driver.execute("UPDATE job_queue SET attempts = attempts - 1 WHERE id = ?", (job.id,))
        return done


class CursorLeftOpen(HandOperations):
    """The row that RETURNING gives is not read: the statement is under way when COMMIT comes."""

    def recover(self, at: datetime, driver: Driver) -> Done:
        done = super().recover(at, driver)
        self.unread = driver.execute(rows.EPOCH)
        return done


class ToldBeforeCommit(Writer):
    """Callers hear of their effects, and get the jobs that follow, a little before COMMIT."""

    def _end_transaction(self, connection: StoreConnection, group: Sequence[Ticket]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._resolve, group, 0.0)
        time.sleep(0.1)
        super()._end_transaction(connection, group)


class RunAgain(Writer):
    """Now and then it takes a COMMIT for failed and runs the whole group once more."""

    commits = 0

    def _end_transaction(self, connection: StoreConnection, group: Sequence[Ticket]) -> None:
        super()._end_transaction(connection, group)
        self.commits += 1
        if self.commits % 7 == 0:
            connection.begin()
            for ticket in group:
                self._run(connection, ticket)
            super()._end_transaction(connection, group)


class HeadsInMemory(EventChains):
    """The heads of the chains are remembered, not read: a new process links to nothing."""

    __slots__ = ()
    heads: ClassVar[dict[tuple[str, str], str]] = {}

    def append(self, driver: Driver, columns: dict[str, Any], event_id: int) -> None:
        subject = (columns["subject_type"], columns["subject_id"])
        head = driver.execute(events._HEAD, subject).fetchall()
        number = head[0][0] if head else 0
        row = {**columns, "event_id": event_id, "number": number + 1, "previous_hash": self.heads.get(subject, GENESIS)}
        row["hash"] = self.heads[subject] = event_hash(row)
        driver.execute(events._INSERT, [row[name] for name in events._COLUMNS])


clock_stands_still = Planted(sqlite, "HandOperations", ClockStandsStill)
nothing_is_rescued = Planted(sqlite, "HandOperations", NothingIsRescued)
buried_at_once = Planted(sqlite, "HandOperations", BuriedAtOnce)
live_jobs_rescued = Planted(sqlite, "HandOperations", LiveJobsRescued)
unfenced = Planted(sqlite, "HandOperations", Unfenced)
attempts_not_counted = Planted(sqlite, "HandOperations", AttemptsNotCounted)
keys_forgotten = Planted(sqlite, "HandOperations", KeysForgotten)
cursor_left_open = Planted(sqlite, "HandOperations", CursorLeftOpen)
told_before_commit = Planted(sql, "Writer", ToldBeforeCommit)
run_again = Planted(sql, "Writer", RunAgain)
heads_in_memory = Planted(sqlite, "EventChains", HeadsInMemory)
