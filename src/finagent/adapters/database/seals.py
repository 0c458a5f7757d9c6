"""Seals over decision events, written by the one writer over what has no seal yet.

A seal is one row of `audit_seal`. Seals count from 1 without a hole, and each begins at the event after the last one of the seal
before it, so together they cover every event up to the newest seal's `last_event` once.

    root_hash     = SHA-256, as lower-case hex, of the ASCII text of the `hash` columns of the events `first_event` to
                    `last_event`, one behind the other in the order of `event_id`, nothing between them
    previous_hash = the hash of the seal before, 64 zeros for the first
    hash          = SHA-256, as lower-case hex, of the JSON object of all columns of the row, in the form of the events' hashes
                    (see `events`); it is not stored: the next seal and the anchor hold it

Seals are derived: a process that dies before one leaves the events to the next. They decide nothing and no replay compares them.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from finagent.adapters.database.connection import Driver
from finagent.adapters.database.events import GENESIS
from finagent.adapters.database.registry import stored
from finagent.adapters.database.writer import Done
from finagent.domain.audit import AuditSeal
from finagent.domain.time import to_text

COLUMNS = tuple(stored(AuditSeal).codec.columns)
NEWEST = f"SELECT {', '.join(COLUMNS)} FROM audit_seal ORDER BY number DESC LIMIT 1"  # noqa: S608  constant text
_UNSEALED = "SELECT event_id, hash FROM decision_event WHERE event_id > ? ORDER BY event_id LIMIT ?"


def root_hash(hashes: Iterable[str]) -> str:
    """What binds the events with these hashes."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def seal_hash(row: tuple[Any, ...]) -> str:
    """The hash of a row of COLUMNS."""
    seal = dict(zip(COLUMNS, row, strict=True))
    return hashlib.sha256(json.dumps(seal, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def seal_next(at: datetime, events_max: int, driver: Driver, *, whole: bool) -> Done:
    """Seal the oldest `events_max` events without a seal, or what there is of them; nothing where `whole` and there are fewer.

    Runs in the writer's transaction; answers how many events are sealed now.
    """
    newest = driver.execute(NEWEST).fetchall()
    number, last_event, previous = (newest[0][0], newest[0][2], seal_hash(newest[0])) if newest else (0, 0, GENESIS)
    events = driver.execute(_UNSEALED, (last_event, events_max)).fetchall()
    if not events or (whole and len(events) < events_max):
        return Done(0, wrote=False)
    row = (number + 1, last_event + 1, events[-1][0], root_hash(hash_ for _, hash_ in events), previous, to_text(at))
    driver.execute(stored(AuditSeal).insert_sql, row)
    return Done(len(events), labels=frozenset({"seal"}))
