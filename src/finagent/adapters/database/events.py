"""Decision events on their chains.

One chain a subject (`subject_type`, `subject_id`): `number` counts from 1, `previous_hash` is the hash of the event before it (64
zeros for the first), and

    hash = SHA-256, as lower-case hex, of the UTF-8 text of the JSON object that holds every column of the row but `hash`

with the column names as keys in sorted order, no blanks (separators "," and ":"), everything outside ASCII escaped, integers as
numbers, NULL as null, and all else as the very text of the column: `body` is one JSON string with the stored text in it, not an
object. In Python: `json.dumps(row_without_hash, sort_keys=True, separators=(",", ":"))`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert

from finagent.adapters.database import tables
from finagent.adapters.database.codec import canonical_json
from finagent.adapters.database.connection import Driver
from finagent.adapters.database.registry import compiled, stored
from finagent.domain.decision import DecisionEvent

GENESIS = "0" * 64
_HEAD = "SELECT number, hash FROM decision_event WHERE subject_type = ? AND subject_id = ? ORDER BY number DESC LIMIT 1"
_COLUMNS = tuple(tables.decision_event.columns.keys())
_INSERT = compiled(insert(tables.decision_event).values({name: bindparam(name) for name in _COLUMNS}))


def event_hash(row: dict[str, Any]) -> str:
    """The hash of a row that has every column but `hash`."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EventChains:
    """Appends events inside the writer's transaction; `build_hash` and `settings_hash` name the program that wrote them."""

    build_hash: str
    settings_hash: str

    def encode(self, event: DecisionEvent) -> dict[str, Any]:
        """The columns that do not depend on the chain."""
        codec = stored(DecisionEvent).codec
        values = dict(zip(codec.columns, codec.encode(event), strict=True))
        return {**values, "body": canonical_json(event.body), "build_hash": self.build_hash, "settings_hash": self.settings_hash}

    def append(self, driver: Driver, events: Sequence[dict[str, Any]], last_event_id: int) -> int:
        """Insert each event behind the present head of its chain; returns the last event id."""
        heads: dict[tuple[str, str], tuple[int, str]] = {}
        rows = []
        for event_id, columns in enumerate(events, last_event_id + 1):
            subject = columns["subject_type"], columns["subject_id"]
            number, previous_hash = heads.get(subject) or self._head(driver, subject)
            row = {**columns, "event_id": event_id, "number": number + 1, "previous_hash": previous_hash}
            row["hash"] = event_hash(row)
            heads[subject] = number + 1, row["hash"]
            rows.append([row[name] for name in _COLUMNS])
        if rows:
            driver.executemany(_INSERT, rows)
        return last_event_id + len(rows)

    def _head(self, driver: Driver, subject: tuple[str, str]) -> tuple[int, str]:
        found = driver.execute(_HEAD, subject).fetchall()
        return (found[0][0], found[0][1]) if found else (0, GENESIS)
