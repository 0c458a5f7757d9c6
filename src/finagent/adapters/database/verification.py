"""Whether a store is sound: the file, its references, every chain of events, every seal, and its head against the anchor.

Only read, in pages, so that it runs beside an agent: events and seals are only ever added, and the anchor is read before them.
SQLite has no checksum of its own over its pages; the chains are what finds a changed byte in the story.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from finagent.adapters.database import tables
from finagent.adapters.database.anchor import Anchor, AnchorFile, Rows, objection
from finagent.adapters.database.events import GENESIS, event_hash
from finagent.adapters.database.reader import SqliteReads
from finagent.adapters.database.seals import COLUMNS, seal_hash
from finagent.domain.errors import BadInput, Unavailable

EVENTS_A_PAGE = 2_000
_EVENT_COLUMNS = tuple(tables.decision_event.columns.keys())
_EVENTS = f"SELECT {', '.join(_EVENT_COLUMNS)} FROM decision_event WHERE event_id > ? ORDER BY event_id LIMIT ?"  # noqa: S608  constant text
_SEALS = f"SELECT {', '.join(COLUMNS)} FROM audit_seal ORDER BY number"  # noqa: S608  constant text
_INTEGRITY = "PRAGMA integrity_check(20)"
_REFERENCES = "PRAGMA foreign_key_check"
_ID, _SUBJECT_TYPE, _SUBJECT, _NUMBER, _PREVIOUS, _HASH = (
    _EVENT_COLUMNS.index(name) for name in ("event_id", "subject_type", "subject_id", "number", "previous_hash", "hash")
)


class Part(Enum):
    """What a fault was found in."""

    FILE = "FILE"
    REFERENCE = "REFERENCE"
    CHAIN = "CHAIN"
    SEAL = "SEAL"
    ANCHOR = "ANCHOR"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `event_id` is the first event that it concerns, where there is one."""

    part: Part
    message: str
    event_id: int | None = None


@dataclass(slots=True)
class Soundness:
    """What was looked at, and what is wrong with it."""

    events: int = 0
    seals: int = 0
    anchor: Anchor | None = None
    faults: list[Fault] = field(default_factory=list)

    @property
    def first_bad_event(self) -> int | None:
        """The lowest event that a chain breaks at; where the chains hold, the first one under a seal that does not fit."""
        named = [(fault.part is not Part.CHAIN, fault.event_id) for fault in self.faults if fault.event_id is not None]
        return min(named)[1] if named else None


def verify_file(path: Path, anchor_file: AnchorFile | None) -> Soundness:
    """`verify` of a SQLite file, which may be none; raises Unavailable where there is no file."""
    if not path.is_file():
        raise Unavailable(f"no database at {path}: nothing has run in this folder yet")
    try:
        reads = SqliteReads(path)
    except Unavailable as error:
        return Soundness(faults=[Fault(Part.FILE, str(error))])
    try:
        return verify(reads, anchor_file)
    finally:
        reads.close()


def verify(store: Rows, anchor_file: AnchorFile | None, *, shared: bool = False) -> Soundness:
    """Everything that is wrong with the store; without an anchor file (a backup) its head is taken as it is.

    A `shared` store is on a server, which answers for its pages and references itself.
    """
    found = Soundness()
    try:
        found.anchor = anchor_file.read() if anchor_file else None
    except (BadInput, Unavailable) as error:
        found.faults.append(Fault(Part.ANCHOR, str(error)))
        anchor_file = None
    try:
        if not shared:
            found.faults += _file_faults(store)
        found.faults += _Events(store, found).faults()
        why = objection(found.anchor, store, shared=shared) if anchor_file else ""
    except Unavailable as error:
        why = ""
        found.faults.append(Fault(Part.FILE, str(error)))
    if why:
        found.faults.append(Fault(Part.ANCHOR, why))
    return found


def _file_faults(store: Rows) -> Iterator[Fault]:
    for (said,) in store.rows(_INTEGRITY):
        if said != "ok":
            yield Fault(Part.FILE, said)
    for name, row, of, _ in store.rows(_REFERENCES):
        yield Fault(Part.REFERENCE, f"row {row} of {name}: no such {of}")


class _Events:
    """One pass over all events in the order in which they were written, with the seals beside them."""

    def __init__(self, store: Rows, found: Soundness) -> None:
        self._store, self._found = store, found
        self._heads: dict[tuple[str, str], tuple[int, str] | None] = {}  # None: broken, and said so

    def faults(self) -> Iterator[Fault]:
        seals = self._store.rows(_SEALS)
        self._found.seals = len(seals)
        bounds = iter(_bounds(seals))
        seal, digest, last = next(bounds, None), hashlib.sha256(), 0
        for row in self._rows():
            event_id = row[_ID]
            if event_id != last + 1:
                yield Fault(Part.CHAIN, f"event {last + 1} is missing: {event_id} follows {last}", last + 1)
            last = event_id
            fault = self._chain_fault(row)
            if fault is not None:
                yield fault
            while seal is not None and event_id > seal.last:
                yield seal.fault("does not fit the events that are there")
                seal, digest = next(bounds, None), hashlib.sha256()
            if seal is None or event_id < seal.first:
                continue
            digest.update(str(row[_HASH]).encode())
            if event_id == seal.last:
                if digest.hexdigest() != seal.root_hash:
                    yield seal.fault("does not fit the events that are there")
                seal, digest = next(bounds, None), hashlib.sha256()
        if seal is not None:
            yield Fault(Part.SEAL, f"seal {seal.number} ends at event {seal.last}, the database at {last}", last + 1)
        yield from _seal_faults(seals)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        last = 0
        while page := self._store.rows(_EVENTS, (last, EVENTS_A_PAGE)):
            yield from page
            last = page[-1][_ID]
            self._found.events += len(page)

    def _chain_fault(self, row: tuple[Any, ...]) -> Fault | None:
        """The first fault of a chain; what comes behind it is not judged again."""
        subject = (row[_SUBJECT_TYPE], row[_SUBJECT])
        head = self._heads.get(subject, (0, GENESIS))
        if head is None:
            return None
        number, previous = head[0] + 1, head[1]
        self._heads[subject] = (number, row[_HASH])
        if row[_NUMBER] != number:
            said = f"number {row[_NUMBER]} stands where {number} should"
        elif row[_PREVIOUS] != previous:
            said = "previous_hash is not the hash of the event before"
        elif row[_HASH] != _hash_of(row):
            said = "hash does not fit the row"
        else:
            return None
        self._heads[subject] = None
        return Fault(Part.CHAIN, f"event {row[_ID]} ({subject[0]} {subject[1]}, number {row[_NUMBER]}): {said}", row[_ID])


@dataclass(frozen=True, slots=True)
class _Bounds:
    number: int
    first: int
    last: int
    root_hash: str

    def fault(self, said: str) -> Fault:
        return Fault(Part.SEAL, f"seal {self.number} over events {self.first} to {self.last} {said}", self.first)


def _bounds(seals: list[tuple[Any, ...]]) -> Iterator[_Bounds]:
    return (_Bounds(*row[:4]) for row in seals)


def _seal_faults(seals: list[tuple[Any, ...]]) -> Iterator[Fault]:
    """What is wrong with the seals among themselves."""
    number, last, previous = 0, 0, GENESIS
    for row in seals:
        seal = _Bounds(*row[:4])
        if seal.number != number + 1:
            yield seal.fault(f"is not seal {number + 1}")
        elif seal.first != last + 1 or seal.last < seal.first:
            yield seal.fault(f"does not begin behind event {last}")
        elif row[4] != previous:
            yield seal.fault("has a previous_hash that is not the hash of the seal before")
        number, last, previous = seal.number, seal.last, seal_hash(row)


def _hash_of(row: tuple[Any, ...]) -> str:
    """The hash that the row ought to have; nothing where a value is of no type that an event has."""
    try:
        return event_hash(dict(zip(_EVENT_COLUMNS[:-1], row, strict=False)))
    except (TypeError, ValueError):
        return ""
