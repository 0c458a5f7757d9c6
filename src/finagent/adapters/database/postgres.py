"""The store on PostgreSQL: asyncpg behind the synchronous verbs of the writer and of the reads.

Statements are written once, for both databases, with `?` for each value; here they become `$1`, `$2`, ... A statement that runs
for many rows becomes one over arrays: a round trip costs more than all of its rows.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import asyncpg

from finagent.adapters.database.connection import Fate
from finagent.adapters.database.reader import OLDER, StoreReads
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.telemetry.redaction import without_password

T = TypeVar("T")
_LOST = (OSError, TimeoutError, asyncpg.InterfaceError)
_FATES = {  # by SQLSTATE, or its class of two characters
    "53": Fate.FULL,
    "40": Fate.BUSY,
    "55P03": Fate.BUSY,
    "08": Fate.LOST,
    "57": Fate.LOST,
    "25006": Fate.LOST,  # a server that has become read-only is not the one that we wrote to
    "58": Fate.UNKNOWN,
    "XX": Fate.UNKNOWN,
}
_IDLED_IN_TRANSACTION = "25P03"
_COUNT = re.compile(r"\d+$")


@dataclass(frozen=True, slots=True)
class PostgresPolicy:
    """`connect_seconds` until a server that does not answer is not there, `statement_seconds` until a statement is given up,
    `group_operations_max` operations of one commit."""

    connect_seconds: float
    statement_seconds: float
    group_operations_max: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a statement, and how many it touched."""

    rows: list[tuple[Any, ...]]
    rowcount: int

    def fetchall(self) -> list[tuple[Any, ...]]:
        """As a cursor's."""
        return self.rows


class PostgresSession:
    """One connection on a loop of its own; every call blocks the one thread that uses it. A lost connection stays lost until
    `open`."""

    def __init__(self, url: str, policy: PostgresPolicy, **server_settings: str) -> None:
        self.where = without_password(url)
        self._url, self._policy, self._server_settings = url, policy, server_settings
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}
        try:
            self.open()
        except (*_LOST, asyncpg.PostgresError, ValueError) as error:
            self._loop.close()
            raise Unavailable(f"cannot reach the database {self.where}: {error or type(error).__name__}") from error

    def open(self) -> None:
        """Connect, unless the connection stands."""
        if self._connection is None or self._connection.is_closed():
            self._prepared.clear()
            self._connection = self._run(
                asyncpg.connect(
                    self._url,
                    timeout=self._policy.connect_seconds,
                    command_timeout=self._policy.statement_seconds,
                    server_settings={"application_name": "finagent", **self._server_settings},
                )
            )

    def command(self, sql: str) -> None:
        """Words without values, such as BEGIN."""
        self._run(self._connection.execute(sql))

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Answer:
        """One statement."""
        return self._run(self._execute(numbered(sql), values))

    def executemany(self, sql: str, values: Sequence[Sequence[Any]]) -> Answer:
        """One statement for many rows of values, in one round trip."""
        return self._run(self._executemany(sql, values)) if values else Answer([], 0)

    def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows by the server's own loader."""
        self._run(self._connection.copy_records_to_table(table, columns=columns, records=rows))

    def forget(self) -> None:
        """Drop the connection without a word to the server."""
        if self._connection is not None:
            self._connection.terminate()

    def close(self) -> None:
        """Say good-bye and end the loop."""
        if not self._connection.is_closed():
            try:
                self._run(self._connection.close(timeout=self._policy.connect_seconds))
            except (*_LOST, asyncpg.PostgresError):
                self.forget()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _execute(self, sql: str, values: Sequence[Any]) -> Answer:
        prepared = await self._statement(sql)
        rows = await prepared.fetch(*values)
        counted = _COUNT.search(prepared.get_statusmsg())
        return Answer([tuple(row) for row in rows], int(counted[0]) if counted else -1)

    async def _executemany(self, sql: str, values: Sequence[Sequence[Any]]) -> Answer:
        kinds = tuple(kind.name for kind in (await self._statement(numbered(sql))).get_parameters())
        return await self._execute(over_arrays(sql, kinds), [list(column) for column in zip(*values, strict=True)])

    async def _statement(self, sql: str) -> Any:
        prepared = self._prepared.get(sql)
        if prepared is None:
            prepared = self._prepared[sql] = await self._connection.prepare(sql)
        return prepared


class PostgresConnection:
    """See `StoreConnection`. A connection lost before COMMIT takes its transaction with it; lost in COMMIT, nobody knows."""

    def __init__(self, url: str, policy: PostgresPolicy, silence_seconds: float) -> None:
        """`silence_seconds`: a process that falls silent inside a transaction (stopped, cut off) loses it, and with it the locks
        for which all others wait."""
        self.driver = PostgresSession(
            url,
            policy,
            synchronous_commit="on",  # the server may default to less: what was acknowledged must survive its power cut
            idle_in_transaction_session_timeout=str(int(silence_seconds * 1000)),
        )
        self.where = self.driver.where

    def begin(self) -> None:
        """Open a transaction that sees, statement by statement, what others have committed."""
        self.driver.open()
        self.driver.command("BEGIN")

    def commit(self) -> None:
        """Durable when it returns."""
        self.driver.command("COMMIT")

    def rollback(self) -> None:
        """A server that does not hear it has undone the transaction by itself."""
        try:
            self.driver.command("ROLLBACK")
        except (*_LOST, asyncpg.PostgresError):
            self.driver.forget()

    def fate(self, error: Exception, *, committing: bool = False) -> Fate | None:
        """Whatever goes wrong with COMMIT, only the server knows what came of it; one that ended the session because it idled in
        its transaction had not seen any COMMIT."""
        found = fate_of(error)
        idled = getattr(error.__cause__, "sqlstate", None) == _IDLED_IN_TRANSACTION
        return Fate.UNKNOWN if found and committing and not idled else found

    def probe(self) -> None:
        """The smallest commit there is: the server says whether it has room."""
        self.driver.open()
        self.driver.execute("INSERT INTO meta (key, value) VALUES ('probe', 0) ON CONFLICT (key) DO UPDATE SET value = 0")

    def close(self, *, sound: bool) -> None:
        """Nothing to compact: the server does that."""
        del sound
        self.driver.close()


class PostgresReads(StoreReads):
    """One read-only connection in a thread of its own, which the loop waits for: some 0.2 ms a read on the same machine."""

    def __init__(self, url: str, policy: PostgresPolicy) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database-reader")
        try:
            self._session = self._ask(lambda: PostgresSession(url, policy, default_transaction_read_only="on"))
        except Unavailable:
            self._thread.shutdown()
            raise

    def rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """See `StoreReads`. A read is safe to repeat: a connection that was lost is opened again, once at least."""
        try:
            return self._ask(lambda: self._session.execute(sql, values)).rows
        except asyncpg.UndefinedTableError as error:
            raise Unavailable(f"nothing has run in the database {self._session.where} yet") from error
        except asyncpg.UndefinedColumnError as error:
            raise BadInput(f"{OLDER}: {error}") from error
        except (*_LOST, asyncpg.PostgresError) as error:
            if fate_of(error) is not Fate.LOST:
                raise
        while True:
            try:
                return self._ask(lambda: self._again(sql, values)).rows
            except Transient:
                if not self.once_more():
                    raise

    def close(self) -> None:
        """See `StoreReads`."""
        self._ask(self._session.close)
        self._thread.shutdown()

    def _again(self, sql: str, values: Any) -> Answer:
        try:
            self._session.forget()
            self._session.open()
            return self._session.execute(sql, values)
        except (*_LOST, asyncpg.PostgresError) as error:
            kind = Transient if fate_of(error) is Fate.LOST else Unavailable
            raise kind(f"cannot read the database {self._session.where}: {error or type(error).__name__}") from error

    def _ask(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()


def fate_of(error: Exception) -> Fate | None:
    """By the SQLSTATE of what the server says; what never came back is lost."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return _FATES.get(state) or _FATES.get(state[:2], Fate.OPERATION)
    return Fate.LOST if isinstance(error, _LOST) else None


@cache
def numbered(sql: str) -> str:
    """Each `?` as `$1`, `$2`, ... from the left."""
    head, *rest = sql.split("?")
    return head + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))


@cache
def over_arrays(sql: str, kinds: tuple[str, ...]) -> str:
    """The statement of one row of values as one over an array a value, whose PostgreSQL types are `kinds`.

    Takes `INSERT ... VALUES (...)`, with or without ON CONFLICT, and `UPDATE ... WHERE ...`.
    """
    head, *rest = sql.split("?")
    names = [f"value.v{number}" for number in range(1, len(kinds) + 1)]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, start=1))
    source = f"unnest({arrays}) AS value ({', '.join(name.removeprefix('value.') for name in names)})"
    body = head + "".join(name + part for name, part in zip(names, rest, strict=True))
    if " WHERE " in body.replace("\n", " "):
        return re.sub(r"\sWHERE\s", f" FROM {source} WHERE ", body, count=1)
    return re.sub(r"VALUES\s*\((.*?)\)(?=\s*(ON CONFLICT|$))", rf"SELECT \1 FROM {source}", body, count=1, flags=re.DOTALL)  # noqa: S608 - our own
