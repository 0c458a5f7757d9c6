"""The one writer: a thread that owns the only read-write connection and commits in groups.

There is no timer: what is submitted while the previous commit runs goes into the next one. Each operation runs in a SAVEPOINT, so
an error undoes that operation only. What an error means:

* of one operation (a constraint, a conflict, a value that cannot be bound): its caller gets it, the rest of the group commits.
* SQLITE_FULL: SQLite has undone the whole transaction, at COMMIT too (its commit record is the last thing written, and the next
  commit overwrites what was). Every caller of the group gets Transient, and `disk_full` holds until a probe write succeeds.
* an I/O error, corruption, any other error of COMMIT: nobody knows what is on the disk. `abort` ends the process; the next start
  finds out. The group is never run again.
"""

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from finagent.adapters.database.engine import WriterPolicy, writer_engine
from finagent.domain.effect import Effect
from finagent.domain.errors import FinagentError, InvariantViolated, Transient, Unavailable
from finagent.domain.jobs import Job
from finagent.services.failpoints import Failpoints

EXIT_CODE_UNKNOWN_OUTCOME = 4  # the disk is what is not there
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FATAL = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_OF_THE_GROUP = _FATAL | _BUSY | {sqlite3.SQLITE_FULL}


@dataclass(frozen=True, slots=True)
class Done:
    """What an operation did: its caller's answer, whether it wrote at all, the failpoint labels of what it wrote, and for the
    observers the effects with the job that each acknowledged."""

    answer: Any
    wrote: bool = True
    labels: frozenset[str] = frozenset()
    effects: tuple[tuple[Effect, Job | None], ...] = ()


Operation = Callable[[sqlite3.Connection], Done]
Abort = Callable[[str], None]


class Memory(Protocol):
    """What operations keep in memory beside the tables: it goes back with the transaction that is undone."""

    def save(self) -> Any: ...

    def restore(self, saved: Any) -> None: ...


@dataclass(slots=True)
class Ticket:
    """One submitted operation and its caller."""

    run: Operation
    future: asyncio.Future[Any]
    done: Done | None = field(default=None)
    error: Exception | None = field(default=None)


def exit_at_once(reason: str) -> NoReturn:
    """The default `abort`: nothing may run any more that could act on an outcome nobody knows."""
    sys.stderr.write(f"finagent: database writer stopped: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_CODE_UNKNOWN_OUTCOME)


class Writer:
    """Started on an event loop; `submit` and `close` are called on that loop, operations and failpoints run on the thread."""

    def __init__(
        self,
        path: Path,
        *,
        policy: WriterPolicy,
        memory: Memory,
        failpoints: Failpoints,
        abort: Abort,
        committed: Callable[[Sequence[Ticket], float], None],
    ) -> None:
        self._path, self._policy, self._memory = path, policy, memory
        self._failpoints, self._abort, self._committed = failpoints, abort, committed
        self._inbox: SimpleQueue[list[Ticket] | None] = SimpleQueue()
        self._pending: list[Ticket] = []
        self._waiting: deque[Ticket] = deque()
        self._broken: FinagentError | None = None
        self.closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self.disk_full = False

    # -- on the loop ---------------------------------------------------------------------------------------------------------

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Put the operation under way, behind all earlier ones. Cancelling the future does not cancel the operation."""
        if self.closing:
            raise InvariantViolated("the writer is closed")
        if self._loop is None:
            self._start()
        assert self._loop is not None
        ticket = Ticket(operation, self._loop.create_future())
        if not self._pending:
            self._loop.call_soon(self._flush)  # all that this turn of the loop submits travels together
        self._pending.append(ticket)
        return ticket.future

    async def close(self) -> None:
        """Commit what was submitted, copy the log back into the file, end the thread. Closing twice, or unstarted, is fine."""
        self.closing = True
        if self._thread is None or self._ended is None:
            return
        self._flush()
        self._inbox.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, name="database-writer", daemon=True)
        self._thread.start()

    def _flush(self) -> None:
        if self._pending:
            self._inbox.put(self._pending)
            self._pending = []

    def _resolve(self, group: Sequence[Ticket], seconds: float) -> None:
        for ticket in group:
            if ticket.future.done():
                continue
            if ticket.error is not None:
                ticket.future.set_exception(ticket.error)
            elif ticket.done is not None:
                ticket.future.set_result(ticket.done.answer)
        self._committed(group, seconds)

    # -- on the thread -------------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        assert self._loop is not None
        assert self._ended is not None
        engine = writer_engine(self._path, self._policy)
        connection = self._open(engine)
        while group := self._gather():
            started = time.perf_counter()
            if self._broken is None and connection is not None:
                self._commit(_driver(connection), group)
            for ticket in group:
                if self._broken is not None:
                    ticket.error = type(self._broken)(str(self._broken))
            self._loop.call_soon_threadsafe(self._resolve, group, time.perf_counter() - started)
        if connection is not None:
            if self._broken is None:
                _fold_log(_driver(connection))
            connection.close()
        engine.dispose()
        self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _open(self, engine: Engine) -> Connection | None:
        try:
            return engine.connect()
        except (DBAPIError, sqlite3.Error) as error:
            self._broken = Unavailable(f"cannot write the database {self._path}: {getattr(error, 'orig', error)}")
            return None

    def _gather(self) -> list[Ticket]:
        """The next group: waits for its first operation only; empty when the writer is closing and all is done."""
        size = self._policy.group_operations_max
        open_ = bool(self._waiting) or self._take(self._inbox.get())
        while open_ and len(self._waiting) < size:
            try:
                open_ = self._take(self._inbox.get_nowait())
            except Empty:
                break
        if not open_:
            self._inbox.put(None)  # to be met again when the rest is committed
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), size))]

    def _take(self, tickets: list[Ticket] | None) -> bool:
        self._waiting.extend(tickets or ())
        return tickets is not None

    def _commit(self, driver: sqlite3.Connection, group: Sequence[Ticket]) -> None:
        if self.disk_full and not self._probe(driver):
            self._undo(driver, group, Transient(f"disk full: no room to write {self._path}"))
            return
        saved = self._memory.save()
        try:
            driver.execute("BEGIN IMMEDIATE")
            for ticket in group:
                self._run(driver, ticket)
            self._end_transaction(driver, group)
        except sqlite3.Error as error:
            self._memory.restore(saved)
            self._group_failed(driver, group, error)
        except Exception as error:  # noqa: BLE001 - not SQLite's: a fault of ours between BEGIN and COMMIT, the process ends
            self._break(f"{type(error).__name__}: {error}")

    def _run(self, driver: sqlite3.Connection, ticket: Ticket) -> None:
        """One operation in its SAVEPOINT; raises the errors that concern the whole group."""
        saved = self._memory.save()
        driver.execute("SAVEPOINT operation")
        try:
            ticket.done = ticket.run(driver)
        except Exception as error:  # whatever an operation raises belongs to its caller
            if isinstance(error, sqlite3.Error) and _code(error) in _OF_THE_GROUP:
                raise
            ticket.error = _translated(error)
            self._memory.restore(saved)
            driver.execute("ROLLBACK TO operation")
        driver.execute("RELEASE operation")

    def _end_transaction(self, driver: sqlite3.Connection, group: Sequence[Ticket]) -> None:
        done = [ticket.done for ticket in group if ticket.done is not None]
        if not any(each.wrote for each in done):
            driver.execute("ROLLBACK")
            return
        labels = sorted(frozenset[str]().union(*(each.labels for each in done)))
        for label in labels:
            self._failpoints(f"{label}.before")
        try:
            driver.execute("COMMIT")
        except sqlite3.Error as error:
            if _code(error) != sqlite3.SQLITE_FULL:
                self._break(f"COMMIT: {error}")
                return
            raise
        for label in labels:
            self._failpoints(f"{label}.after")

    def _group_failed(self, driver: sqlite3.Connection, group: Sequence[Ticket], error: sqlite3.Error) -> None:
        if _code(error) == sqlite3.SQLITE_FULL:
            self.disk_full = True
            self._undo(driver, group, Transient(f"disk full: no room to write {self._path}"))
        elif _code(error) in _BUSY:
            self._undo(driver, group, Transient(f"another program holds the write lock of {self._path}"))
        else:
            self._break(str(error))

    def _undo(self, driver: sqlite3.Connection, group: Sequence[Ticket], error: FinagentError) -> None:
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        for ticket in group:
            ticket.done, ticket.error = None, type(error)(str(error))

    def _break(self, reason: str) -> None:
        self._broken = InvariantViolated(f"the outcome of a commit is unknown ({reason}): only a new start can tell")
        self._abort(reason)

    def _probe(self, driver: sqlite3.Connection) -> bool:
        """Whether there is room again: a block is written and deleted, each in a commit of its own."""
        try:
            driver.execute("REPLACE INTO meta (key, value) VALUES ('probe', zeroblob(?))", (self._policy.probe_bytes,))
            driver.execute("DELETE FROM meta WHERE key = 'probe'")
        except sqlite3.Error as error:
            if _code(error) not in _BUSY | {sqlite3.SQLITE_FULL}:
                self._break(str(error))
            return False
        self.disk_full = False
        return True


def _fold_log(driver: sqlite3.Connection) -> None:
    """Copy the log back into the file; where there is no room for it, what was committed stays in the log."""
    with suppress(sqlite3.Error):
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for an error of the driver itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _translated(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error):
        return InvariantViolated(f"refused by the database: {error}")
    return error
