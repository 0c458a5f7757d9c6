"""The one writer: a thread that owns the only read-write connection and commits in groups.

There is no timer: what is submitted while the previous commit runs goes into the next one. What waits stands in lanes: what is
urgent comes into the very next group, and a bulk load gets what room is left, up to a bound, in groups without anything urgent.

Each operation runs in a SAVEPOINT, so an error undoes that operation only. Neighbours that can be carried out together share one;
where they are the whole group, its transaction is theirs. When anything about them is off, what they did is undone and they run
one by one, which is what decides. What an error means is the connection's to say (`Fate`):

* of one operation (a constraint, a conflict, a value that cannot be bound): its caller gets it, the rest of the group commits.
* no room, a foreign lock, a server that went away before COMMIT: the whole transaction is undone. As long as `once_more` says so
  (not for room) it is run again, and nothing before it; then every caller of the group gets Transient. After FULL, `disk_full`
  holds until a probe write succeeds.
* an I/O error, corruption, an error of COMMIT: nobody knows what is stored. `abort` ends the process; the next start finds out.
  The group is never run again.
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, NoReturn, Protocol

from finagent.adapters.database.connection import Driver, Fate, StoreConnection
from finagent.domain.effect import Effect
from finagent.domain.errors import FinagentError, InvariantViolated, Transient, Unavailable
from finagent.domain.jobs import Job, JobStatus
from finagent.services.failpoints import Failpoints

EXIT_CODE_UNKNOWN_OUTCOME = 4  # the disk, or the server, is what is not there

_UNDONE: dict[Fate, str] = {
    Fate.FULL: "disk full: no room to write",
    Fate.BUSY: "another program holds the write lock of",
    Fate.LOST: "no connection to",
}


class Moved(NamedTuple):
    """A job that nobody runs as of this commit, and the state that it was left in."""

    job_id: int
    type: str
    status: JobStatus


@dataclass(slots=True)
class Done:
    """What an operation did: its caller's answer, whether it wrote at all, the failpoint labels of what it wrote, for the
    observers the effects with the job that each acknowledged, and for a carrier the other jobs that nobody runs any more."""

    answer: Any
    wrote: bool = True
    labels: frozenset[str] = frozenset()
    effects: tuple[tuple[Effect, Job | None], ...] = ()
    moved: Sequence[Moved] = ()


Operation = Callable[[Driver], Done]
Connect = Callable[[], StoreConnection]
Abort = Callable[[str], None]
OnceMore = Callable[[], bool]  # after a pause: whether a store that is away may be asked again


class Lane(IntEnum):
    """Which operations go first; within a lane they keep their order."""

    URGENT = 0
    NORMAL = 1
    BULK = 2


class Memory(Protocol):
    """What operations keep in memory beside the tables: it goes back with the transaction that is undone."""

    def save(self) -> Any: ...

    def restore(self, saved: Any) -> None: ...


@dataclass(slots=True)
class Ticket:
    """One submitted operation and its caller."""

    run: Operation
    future: asyncio.Future[Any]
    serial: bool
    part: Any
    lane: Lane
    rows: int
    done: Done | None = field(default=None)
    error: Exception | None = field(default=None)


def exit_at_once(reason: str) -> NoReturn:
    """The default `abort`: nothing may run any more that could act on an outcome nobody knows."""
    with suppress(OSError):  # a log on the same full disk must not keep the process alive
        sys.stderr.write(f"finagent: database writer stopped: {reason}\n")
        sys.stderr.flush()
    os._exit(EXIT_CODE_UNKNOWN_OUTCOME)


Together = Callable[[Sequence[Any], Driver], Sequence[Done]]
Aside = Callable[[StoreConnection, Callable[[], None]], Any]


class Writer:
    """Started on an event loop; `submit` and `close` are called on that loop, the rest runs on the thread.

    `connect` opens the connection there; `guard` runs first in every transaction, and what it raises ends the process: it is
    for a writer that may have been replaced by another one. It is told whether an operation of the group is `serial`, that is,
    reads or writes what only one writer of the store may at a time. `together` carries out the parts of several operations as
    one after the other would, or raises.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        group_operations_max: int,
        bulk_rows_max: int,
        memory: Memory,
        failpoints: Failpoints,
        abort: Abort,
        committed: Callable[[Sequence[Ticket], float], None],
        guard: Callable[[Driver, bool], None],
        together: Together,
        once_more: OnceMore,
    ) -> None:
        self._connect, self._group_operations_max, self._memory, self._guard = connect, group_operations_max, memory, guard
        self._together, self._bulk_rows_max, self._once_more = together, bulk_rows_max, once_more
        self._failpoints, self._abort, self._committed = failpoints, abort, committed
        self._inbox: SimpleQueue[list[Ticket] | None] = SimpleQueue()
        self._pending: list[Ticket] = []
        self._waiting: dict[Lane, deque[Ticket]] = {lane: deque() for lane in Lane}
        self._asides: deque[tuple[Aside, asyncio.Future[Any]]] = deque()
        self._connection: StoreConnection | None = None
        self._broken: FinagentError | None = None
        self.closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self.disk_full = False

    # -- on the loop ---------------------------------------------------------------------------------------------------------

    def submit(
        self, operation: Operation, *, serial: bool = True, part: Any = None, lane: Lane = Lane.NORMAL, rows: int = 1
    ) -> asyncio.Future[Any]:
        """Put the operation under way, behind all earlier ones of its lane. Cancelling the future does not cancel the operation.

        With a `part` it may be carried out together with neighbours that have one; `rows` says how much it writes.
        """
        if self.closing:
            raise InvariantViolated("the writer is closed")
        if self._loop is None:
            self._start()
        assert self._loop is not None
        ticket = Ticket(operation, self._loop.create_future(), serial, part, lane, rows)
        if not self._pending:
            self._loop.call_soon(self._flush)  # all that this turn of the loop submits travels together
        self._pending.append(ticket)
        return ticket.future

    def aside(self, task: Aside) -> asyncio.Future[Any]:
        """Run a long task on the connection, outside of any transaction.

        Between its steps it calls what it is given, and the next group is committed there, if one waits: no commit waits longer
        than a step. That call raises Unavailable at the end of the writer.
        """
        future = asyncio.get_running_loop().create_future()
        self._asides.append((task, future))
        self.submit(lambda _driver: Done(None, wrote=False), serial=False, lane=Lane.BULK)  # the thread looks behind each group
        return future

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
        """The thread: an error that nothing foresaw ends the process, since who waits for a commit would wait for ever."""
        assert self._loop is not None
        assert self._ended is not None
        try:
            self._work(self._loop)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._break(f"{type(error).__name__}: {error}")
        self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = self._open()
        while group := self._gather():
            self._carry_out(loop, group)
            while self._asides:
                self._step_aside(loop, *self._asides.popleft())
        if self._connection is not None:
            self._connection.close(sound=True)

    def _carry_out(self, loop: asyncio.AbstractEventLoop, group: Sequence[Ticket]) -> None:
        started = time.perf_counter()
        while self._broken is None and self._connection is not None:
            if self._commit(self._connection, group) or not self._once_more():
                break
        if self._broken is not None and self._connection is not None:
            self._connection.close(sound=False)  # what it holds must not wait for the end of the process
            self._connection = None
        for ticket in group:
            if self._broken is not None:
                ticket.error = type(self._broken)(str(self._broken))
        loop.call_soon_threadsafe(self._resolve, group, time.perf_counter() - started)

    def _step_aside(self, loop: asyncio.AbstractEventLoop, task: Aside, future: asyncio.Future[Any]) -> None:
        def let_pass() -> None:
            if any(self._waiting.values()) or not self._inbox.empty():
                try:
                    self._carry_out(loop, self._gather())
                except Exception as error:
                    self._break(f"{type(error).__name__}: {error}")  # of the group's callers, not of the task's
                    raise
            if self.closing or self._connection is None:
                raise Unavailable("the agent stops")

        def end(act: Callable[[Any], None], what: object) -> None:
            if not future.done():
                act(what)

        try:
            let_pass()
            assert self._connection is not None
            loop.call_soon_threadsafe(end, future.set_result, task(self._connection, let_pass))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked for the task
            loop.call_soon_threadsafe(end, future.set_exception, error)

    def _open(self) -> StoreConnection | None:
        try:
            return self._connect()
        except Unavailable as error:
            self._broken = error
            return None

    def _gather(self) -> list[Ticket]:
        """The next group: waits for its first operation only; empty when the writer is closing and all is done."""
        open_ = any(self._waiting.values()) or self._take(self._inbox.get())
        while open_:
            try:
                open_ = self._take(self._inbox.get_nowait())
            except Empty:
                break
        if not open_:
            self._inbox.put(None)  # to be met again when the rest is committed
        group = self._from(Lane.URGENT, self._group_operations_max)
        urgent = bool(group)
        group += self._from(Lane.NORMAL, self._group_operations_max - len(group))
        return group if urgent else group + self._some_bulk(self._group_operations_max - len(group))

    def _from(self, lane: Lane, size: int) -> list[Ticket]:
        waiting = self._waiting[lane]
        return [waiting.popleft() for _ in range(min(len(waiting), size))]

    def _some_bulk(self, size: int) -> list[Ticket]:
        """As many as stay within the bound of rows, but one at least."""
        waiting, group, rows = self._waiting[Lane.BULK], list[Ticket](), 0
        while waiting and len(group) < size and (not group or rows + waiting[0].rows <= self._bulk_rows_max):
            rows += waiting[0].rows
            group.append(waiting.popleft())
        return group

    def _take(self, tickets: list[Ticket] | None) -> bool:
        for ticket in tickets or ():
            self._waiting[ticket.lane].append(ticket)
        return tickets is not None

    def _commit(self, connection: StoreConnection, group: Sequence[Ticket]) -> bool:
        """False where all is undone and the same may succeed at once."""
        if self.disk_full and not self._probe(connection):
            self._undo(connection, group, Fate.FULL)
            return True
        for ticket in group:
            ticket.done = ticket.error = None
        saved = self._memory.save()
        try:
            self._begin(connection, group)
            runs = _runs(group)
            if len(runs) != 1:
                for run in runs:
                    self._run(connection, run)
            elif not self._try(connection, runs[0]):
                connection.rollback()  # the transaction is the SAVEPOINT of the only run
                self._memory.restore(saved)
                if len(group) == 1:
                    return True
                self._begin(connection, group)
                self._one_by_one(connection, runs[0])
            self._end_transaction(connection, group)
        except Exception as error:  # noqa: BLE001 - a fault of ours between BEGIN and COMMIT ends the process too
            self._memory.restore(saved)
            fate = connection.fate(error)
            if fate is not None and fate in _UNDONE:
                self._undo(connection, group, fate)
                return fate is Fate.FULL
            if isinstance(error, InvariantViolated):  # the guard's: nothing is stored, and nothing more may be
                self._broken = error
                self._abort(str(error))
            else:
                self._break(str(error) if fate else f"{type(error).__name__}: {error}")
        return True

    def _begin(self, connection: StoreConnection, group: Sequence[Ticket]) -> None:
        connection.begin()
        self._guard(connection.driver, any(ticket.serial for ticket in group))

    def _run(self, connection: StoreConnection, tickets: Sequence[Ticket]) -> None:
        """One operation, or several together, in a SAVEPOINT; raises the errors that concern the whole group."""
        driver, saved = connection.driver, self._memory.save()
        driver.execute("SAVEPOINT operation")
        done = self._try(connection, tickets)
        if not done:
            self._memory.restore(saved)
            driver.execute("ROLLBACK TO operation")
        driver.execute("RELEASE operation")
        if not done and len(tickets) > 1:
            self._one_by_one(connection, tickets)

    def _one_by_one(self, connection: StoreConnection, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._run(connection, [ticket])

    def _try(self, connection: StoreConnection, tickets: Sequence[Ticket]) -> bool:
        """Whether it succeeded; otherwise what it wrote is still to be undone, and a single operation has its error."""
        try:
            if len(tickets) == 1:
                tickets[0].done = tickets[0].run(connection.driver)
            else:
                done = self._together([ticket.part for ticket in tickets], connection.driver)
                for ticket, each in zip(tickets, done, strict=True):
                    ticket.done = each
        except Exception as error:  # whatever an operation raises belongs to its caller
            fate = connection.fate(error)
            if fate not in (None, Fate.OPERATION):
                raise
            if len(tickets) == 1:
                tickets[0].error = error if fate is None else InvariantViolated(f"refused by the database: {error}")
            return False
        return True

    def _end_transaction(self, connection: StoreConnection, group: Sequence[Ticket]) -> None:
        done = [ticket.done for ticket in group if ticket.done is not None]
        if not any(each.wrote for each in done):
            connection.rollback()
            return
        labels = sorted(frozenset[str]().union(*{each.labels for each in done}))
        for label in labels:
            self._failpoints(f"{label}.before")
        try:
            connection.commit()
        except Exception as error:
            if connection.fate(error, committing=True) is not Fate.UNKNOWN:
                raise
            self._break(f"COMMIT: {error}")
            return
        for label in labels:
            self._failpoints(f"{label}.after")

    def _undo(self, connection: StoreConnection, group: Sequence[Ticket], fate: Fate) -> None:
        """Nothing of the group is stored; each caller may try again."""
        self.disk_full = fate is Fate.FULL
        connection.rollback()
        for ticket in group:
            ticket.done, ticket.error = None, Transient(f"{_UNDONE[fate]} {connection.where}")

    def _break(self, reason: str) -> None:
        self._broken = InvariantViolated(f"the outcome of a commit is unknown ({reason}): only a new start can tell")
        self._abort(reason)

    def _probe(self, connection: StoreConnection) -> bool:
        """Whether there is room again."""
        try:
            connection.probe()
        except Exception as error:  # noqa: BLE001 - judged by the connection, as above
            fate = connection.fate(error)
            if fate is None or fate not in _UNDONE:
                self._break(str(error))
            return False
        self.disk_full = False
        return True


def _runs(group: Sequence[Ticket]) -> list[list[Ticket]]:
    """What of the group is carried out at once: neighbours that have a part together, the others alone."""
    runs: list[list[Ticket]] = []
    for ticket in group:
        if ticket.part is not None and runs and runs[-1][0].part is not None:
            runs[-1].append(ticket)
        else:
            runs.append([ticket])
    return runs
