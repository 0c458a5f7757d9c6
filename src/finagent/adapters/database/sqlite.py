"""The writer's connection to a SQLite file."""

import sqlite3
from contextlib import suppress
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from finagent.adapters.database.connection import Fate
from finagent.adapters.database.engine import WriterPolicy, writer_engine
from finagent.domain.errors import Unavailable
from finagent.services.failpoints import Failpoints, around, unarmed

_FATES = {
    sqlite3.SQLITE_FULL: Fate.FULL,
    sqlite3.SQLITE_BUSY: Fate.BUSY,
    sqlite3.SQLITE_LOCKED: Fate.BUSY,
    **dict.fromkeys(
        (
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_NOMEM,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_PROTOCOL,
        ),
        Fate.UNKNOWN,
    ),
}


class SqliteConnection:
    """See `StoreConnection`. Any error of COMMIT but a full disk leaves the outcome unknown; SQLite undoes a commit that did not
    fit (its record is the last thing written, and the next commit overwrites what was)."""

    def __init__(self, path: Path, policy: WriterPolicy, failpoints: Failpoints = unarmed) -> None:
        self.where, self._probe_bytes, self._failpoints = str(path), policy.probe_bytes, failpoints
        self._engine = writer_engine(path, policy)
        try:
            self._connection = self._engine.connect()
        except (DBAPIError, sqlite3.Error) as error:
            self._engine.dispose()
            raise Unavailable(f"cannot write the database {path}: {getattr(error, 'orig', error)}") from error
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self.driver = driver

    def begin(self) -> None:
        """Take the write lock."""
        self.driver.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Durable when it returns."""
        self.driver.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        if self.driver.in_transaction:
            self.driver.execute("ROLLBACK")

    def fate(self, error: Exception, *, committing: bool = False) -> Fate | None:
        """By the primary result code."""
        if not isinstance(error, sqlite3.Error):
            return None
        found = _FATES.get(int(getattr(error, "sqlite_errorcode", 0)) & 0xFF, Fate.OPERATION)
        return Fate.UNKNOWN if committing and found is not Fate.FULL else found

    def probe(self) -> None:
        """A block of the size that the policy names."""
        self.driver.execute("REPLACE INTO meta (key, value) VALUES ('probe', zeroblob(?))", (self._probe_bytes,))
        self.driver.execute("DELETE FROM meta WHERE key = 'probe'")

    def close(self, *, sound: bool) -> None:
        """Copy the log back into the file; where there is no room for it, what was committed stays in the log."""
        if sound:
            with suppress(sqlite3.Error), around(self._failpoints, "checkpoint"):
                self.driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()
        self._engine.dispose()
