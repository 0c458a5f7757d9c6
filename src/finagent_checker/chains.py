"""The hash chains of decision events, computed again from their description.

One chain a (subject_type, subject_id), numbered from 1 without a hole. `previous_hash` is the hash of the event before (64 zeros
for the first). `hash` is the lower-case hex SHA-256 of the JSON object of all other columns: keys sorted, separators without
blanks, ASCII only, integers as numbers, NULL as null, texts as they stand in the column (`body` too is one string).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator

from finagent_checker.finding import Invariant, Violation
from finagent_checker.folder import Row

GENESIS = "0" * 64


def broken_links(events: Iterable[Row]) -> Iterator[Violation]:
    """The first fault of each chain; events come ordered by subject and number."""
    subject: tuple[str, str] | None = None
    number, previous, sound = 0, GENESIS, True
    for row in events:
        if (row["subject_type"], row["subject_id"]) != subject:
            subject = (row["subject_type"], row["subject_id"])
            number, previous, sound = 0, GENESIS, True
        if not sound:
            continue
        number += 1
        fault = _fault(row, number, previous)
        if fault:
            sound = False
            yield Violation(Invariant.INTEGRITY, f"{subject[0]} {subject[1]}", f"event {row['number']}: {fault}")
        previous = row["hash"]


def event_hash(row: Row) -> str:
    """The hash that the row ought to have."""
    body = {name: value for name, value in row.items() if name != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":"), default=repr).encode()).hexdigest()


def _fault(row: Row, number: int, previous: str) -> str:
    if row["number"] != number:
        return f"number {number} is missing"
    if row["previous_hash"] != previous:
        return "previous_hash is not the hash of the event before it"
    if row["hash"] != event_hash(row):
        return "hash does not fit the row"
    return ""
