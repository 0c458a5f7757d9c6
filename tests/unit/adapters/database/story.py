"""A store with a story in it: decisions told in turns, sealed, and anchored beside it."""

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finagent.adapters.database.anchor import AnchorFile, head_of
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.seals import seal_next
from finagent.domain.decision import DecisionEvent, SubjectType

AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
LEDGER = "INSERT INTO ledger_identity VALUES (1, 'led-1', 'SIM-1', 7, '', '100000', 'settings', '2008-10-01T13:30:00.000000Z')"


class Story:
    """`connection` sees what it has not committed too; `rows` is how the code under test reads it."""

    def __init__(self, folder: Path, empty: Path) -> None:
        """`empty` is a store with every table and no rows, of which this one is a copy."""
        self.path, self.file = folder / "finagent.db", AnchorFile(folder / "anchor")
        shutil.copy(empty, self.path)
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute(LEDGER)
        self.connection.execute("INSERT INTO meta VALUES ('epoch', 3), ('next_job_id', 1001)")
        self.events = 0

    def tell(self, events: int, *, subjects: int = 5) -> None:
        """So many more events, the subjects in turns."""
        chains = EventChains("build", "settings")
        told = []
        for step in range(self.events + 1, self.events + events + 1):
            subject = f"dec-{step % subjects}"
            told.append(DecisionEvent(SubjectType.DECISION, subject, "step", AT, f"trace-{subject}", subject, {"step": step}))
        self.connection.execute("BEGIN")
        self.events = chains.append(self.connection, [chains.encode(event) for event in told], self.events)
        self.connection.execute("COMMIT")

    def seal(self, events_max: int) -> None:
        """Seal whatever has no seal, so many events a seal."""
        while seal_next(AT, events_max, self.connection, whole=False).answer:
            continue

    def anchor(self) -> None:
        """The anchor remembers the store as it is."""
        head = head_of(self, "2008-10-01T20:00:00.000000Z")
        assert head is not None
        self.file.read()
        self.file.write(head)

    def rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def close(self) -> None:
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.connection.close()
