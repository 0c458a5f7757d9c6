"""Bugs in the durable queue: each is one part of it built wrong and put in the place of the right one."""

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import ModuleType
from typing import Any, ClassVar

from finagent.adapters.database.connection import Driver, StoreConnection
from finagent.adapters.database.events import GENESIS, EventChains
from finagent.adapters.database.writer import Done, Ticket, Writer
from finagent.adapters.job_queue import rows, sql, sqlite
from finagent.adapters.job_queue.by_hand import HandOperations
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


class Reworded:
    """The queue with other words in its statements."""

    def __init__(self, *words: tuple[str, str]) -> None:
        self._words = words

    def plant(self) -> None:
        """In this process, for good."""
        for before, after in self._words:
            statements = [name for name, text in vars(rows).items() if isinstance(text, str) and before in text]
            assert statements, before
            for name in statements:
                setattr(rows, name, getattr(rows, name).replace(before, after))


class ClockStandsStill(HandOperations):
    """No commit says which instant it belongs to: a start begins the day again."""

    def _carry_clock(self, driver: Driver, now: str) -> frozenset[str]:
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
                self._run(connection, [ticket])
            super()._end_transaction(connection, group)


class HeadsInMemory(EventChains):
    """The heads of the chains are remembered, not read: a new process links to nothing."""

    __slots__ = ()
    known: ClassVar[set[tuple[str, str]]] = set()

    def _head(self, driver: Driver, subject: tuple[str, str]) -> tuple[int, str]:
        number, head = super()._head(driver, subject)
        remembered = head if subject in self.known else GENESIS
        self.known.add(subject)
        return number, remembered


clock_stands_still = Planted(sqlite, "HandOperations", ClockStandsStill)
nothing_is_rescued = Planted(sqlite, "HandOperations", NothingIsRescued)
buried_at_once = Planted(sqlite, "HandOperations", BuriedAtOnce)
cursor_left_open = Planted(sqlite, "HandOperations", CursorLeftOpen)
told_before_commit = Planted(sql, "Writer", ToldBeforeCommit)
run_again = Planted(sql, "Writer", RunAgain)
heads_in_memory = Planted(sqlite, "EventChains", HeadsInMemory)

unfenced = Reworded(("epoch = ? AND fence = ?", "(epoch = ? OR TRUE) AND (fence = ? OR TRUE)"))
attempts_not_counted = Reworded(("attempts = attempts + 1", "attempts = attempts"))
keys_forgotten = Reworded(("ON CONFLICT (dedup_key) DO NOTHING", ""))
live_jobs_rescued = Reworded(
    ("status = 'READY' ORDER BY", "status IN ('READY', 'RUNNING') ORDER BY"),
    ("status IN ('READY', 'SCHEDULED')", "status IN ('READY', 'SCHEDULED', 'RUNNING')"),
)
