"""What seals, anchor and verification cost on this disk, and whether every change of one row of a long story is found.

`python tests/benchmarks/audit_verify.py [EVENTS] [MUTATIONS] [MUTATED_EVENTS]` prints one JSON document: milliseconds of the
writer for a seal over a thousand events, milliseconds of the anchor's thread, events verified a second, and which of the dealt
mutations (an edit of a column, a deletion, an exchange, a cut) of a story of MUTATED_EVENTS events were missed. Exit 3 for one.
"""

import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finagent.adapters.database import tables
from finagent.adapters.database.anchor import AnchorFile, head_of
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.events import EventChains
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.seals import seal_next
from finagent.adapters.database.verification import verify
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.services.failpoints import unarmed

AT = datetime(2008, 10, 1, 13, 35, tzinfo=UTC)
POLICY = WriterPolicy(5, 1000, group_operations_max=500, database_bytes_max=0, probe_bytes=65536)
SEAL_EVENTS, EVENTS_A_DECISION = 1000, 8
LEDGER = "INSERT INTO ledger_identity VALUES (1, 'led-1', 'SIM-1', 7, '', '100000', 'settings', '2008-10-01T13:30:00.000000Z')"
COLUMNS = [column.name for column in tables.decision_event.columns if column.name != "event_id"]


class Told:
    """A store with so many events, sealed and anchored."""

    def __init__(self, folder: Path, events: int) -> None:
        folder.mkdir()
        path = folder / "finagent.db"
        upgrade(path, POLICY, unarmed)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("BEGIN")
        self.connection.execute(LEDGER)
        chains = EventChains("0123456789abcdef", "0123456789abcdef")
        for number in range(1, events + 1):
            chains.append(self.connection, [chains.encode(event(number))], number - 1)
        self.seal_milliseconds = []
        for _ in range(-(-events // SEAL_EVENTS)):
            started = time.perf_counter()
            seal_next(AT, SEAL_EVENTS, self.connection, whole=False)
            self.seal_milliseconds.append((time.perf_counter() - started) * 1000)
        self.connection.execute("COMMIT")
        self.file = AnchorFile(folder / "anchor")
        self.anchor_milliseconds = [self._anchor(number) for number in range(100)]

    def _anchor(self, number: int) -> float:
        head = head_of(self, f"{number}")
        assert head is not None
        started = time.perf_counter()
        self.file.write(head)
        return (time.perf_counter() - started) * 1000

    def rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()


def event(number: int) -> DecisionEvent:
    subject = f"dec-{number // EVENTS_A_DECISION:016d}"
    body = {"number": number, "score": 0.123456, "model": "gap-and-go-formula-1", "note": "x" * 160}
    return DecisionEvent(SubjectType.DECISION, subject, "candidate_scored", AT, f"{number:032d}", subject, body)


def mutation(draw: random.Random, events: int) -> list[str]:
    """Statements that change one row, exchange two, or cut the tail."""
    of, kind = draw.randint(1, events), draw.choice(["edit", "edit", "edit", "delete", "exchange", "cut"])
    if kind == "edit":
        column = draw.choice(COLUMNS)
        change = f"{column} + {events}" if column == "number" else f"coalesce({column}, '') || ' '"
        return [f"UPDATE decision_event SET {column} = {change} WHERE event_id = {of}"]
    if kind == "exchange":
        to = of % events + 1
        return [f"UPDATE decision_event SET event_id = {a} WHERE event_id = {b}" for a, b in ((0, of), (of, to), (to, 0))]
    return [f"DELETE FROM decision_event WHERE event_id {'=' if kind == 'delete' else '>='} {of}"]


def found(told: Told, statements: list[str]) -> bool:
    """Whether the store is judged unsound while the changes are in force."""
    told.connection.execute("BEGIN")
    for statement in statements:
        told.connection.execute(statement)
    faults = verify(told, AnchorFile(told.file.path)).faults
    told.connection.execute("ROLLBACK")
    return bool(faults)


def main(events: int = 200_000, mutations: int = 1000, mutated_events: int = 10_000) -> int:
    """Print the figures; 3 when a mutation was missed or a sound story was not."""
    with tempfile.TemporaryDirectory() as folder:
        told = Told(Path(folder) / "long", events)
        started = time.perf_counter()
        sound = verify(told, AnchorFile(told.file.path)).faults == []
        seconds = time.perf_counter() - started
        short, draw = Told(Path(folder) / "short", mutated_events), random.Random(7)
        missed = [statements for _ in range(mutations) if not found(short, statements := mutation(draw, mutated_events))]
        document = {
            "events": events,
            "seal_milliseconds": round(statistics.median(told.seal_milliseconds), 2),
            "anchor_milliseconds": {
                "p50": round(statistics.median(told.anchor_milliseconds), 2),
                "max": round(max(told.anchor_milliseconds), 2),
            },
            "verified_events_per_second": round(events / seconds),
            "sound": sound,
            "mutations": mutations,
            "mutated_events": mutated_events,
            "missed": missed,
        }
    print(json.dumps(document, indent=2))
    return 3 if missed or not sound else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
