"""The seals over the decision events and the anchor beside the store, computed again from their description.

Seals count from 1, each begins at the event after the last one of the seal before. `root_hash` is the lower-case hex SHA-256 of
the `hash` columns of the events that it covers, as one ASCII text in the order of `event_id`. `previous_hash` is the hash of the
seal before (64 zeros for the first), and the hash of a seal is that of the JSON object of all its columns, in the form in which
events are hashed. The anchor is a JSON object in a file of its own: it names a ledger, an event and a seal with their hashes, and
two counters that never go back.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from finagent_checker.chains import GENESIS
from finagent_checker.finding import Invariant, Violation
from finagent_checker.folder import Book, Row


def broken_seals(seals: Iterable[Row], hashes: dict[int, str]) -> Iterator[Violation]:
    """What is wrong with the seals, which come in the order of their numbers; `hashes` are those of the events by their id."""
    number, last, previous = 0, 0, GENESIS
    for row in seals:
        first, last_event = (value if isinstance(value, int) else -1 for value in (row["first_event"], row["last_event"]))
        covered = range(first, last_event + 1)
        root = hashlib.sha256("".join(hashes.get(event, "?") for event in covered).encode()).hexdigest()
        if (row["number"], first) != (number + 1, last + 1) or not covered:
            yield _wrong(row["number"], f"does not follow seal {number}, which ends at event {last}")
        elif row["previous_hash"] != previous:
            yield _wrong(row["number"], "previous_hash is not the hash of the seal before it")
        elif row["root_hash"] != root:
            yield _wrong(row["number"], f"does not fit the events {first} to {last_event}")
        number, last, previous = row["number"], last_event, seal_hash(row)


def seal_hash(row: Row) -> str:
    """The hash of a seal."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":"), default=repr).encode()).hexdigest()


def forgotten(path: Path, agent: Book, hashes: dict[int, str]) -> Iterator[Violation]:
    """What the anchor remembers and the store does not have."""
    if not path.is_file():
        if hashes:
            yield _lost(path, "there is no anchor")
        return
    try:
        anchor = json.loads(path.read_text())
        names = ("ledger_id", "event_id", "event_hash", "seal_number", "seal_hash", "epoch", "next_job_id")
        ledger_id, event_id, event_hash, number, seal, epoch, next_job_id = (anchor[name] for name in names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield _lost(path, f"cannot be read: {error!r}")
        return
    if [row["ledger_id"] for row in agent.rows("SELECT ledger_id FROM ledger_identity")] != [ledger_id]:
        yield _lost(path, f"is of ledger {ledger_id}")
    if event_id and hashes.get(event_id) != event_hash:
        yield _lost(path, f"remembers event {event_id}; the store ends at {max(hashes, default=0)}, or has another one there")
    if number and [seal_hash(row) for row in agent.rows("SELECT * FROM audit_seal WHERE number = ?", number)] != [seal]:
        yield _lost(path, f"remembers seal {number}, which is not there or another one")
    counters = {row["key"]: row["value"] for row in agent.rows("SELECT key, value FROM meta")}
    if counters.get("epoch", 0) < epoch or counters.get("next_job_id", 1) < next_job_id:
        yield _lost(path, f"remembers epoch {epoch} and job ids up to {next_job_id}, the store is behind: {counters}")
    if "unaccepted" in counters:
        yield _lost(path, "the store was not what it remembers, and nobody has accepted that")


def _wrong(number: object, message: str) -> Violation:
    return Violation(Invariant.INTEGRITY, f"seal {number}", message)


def _lost(path: Path, message: str) -> Violation:
    return Violation(Invariant.INTEGRITY, f"anchor {path.name}", message)
