"""The anchor: what the store's head was, kept outside the store, so that a store which has lost its newest part is found out.

A database file cannot tell that it is old: a deleted write-ahead log, a restored backup and a tail cut off leave it sound. The
anchor is a file of its own, best on another volume. It is written after the commits that it describes and never ahead of them
(it is read from committed state), whole or not at all: a temporary file, fsync, rename, fsync of the folder.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from finagent.adapters.database.codec import canonical_json
from finagent.adapters.database.events import GENESIS
from finagent.adapters.database.seals import COLUMNS, NEWEST, seal_hash
from finagent.adapters.durable_files import sync_folder
from finagent.domain.errors import BadInput, Unavailable
from finagent.services.failpoints import unarmed

_LEDGER = "SELECT ledger_id FROM ledger_identity"
_COUNTERS = "SELECT key, value FROM meta WHERE key IN ('epoch', 'next_job_id')"
_MARKED = "SELECT 1 FROM meta WHERE key = 'unaccepted'"
_LAST_EVENT = "SELECT event_id, hash FROM decision_event ORDER BY event_id DESC LIMIT 1"
_EVENTS = "SELECT coalesce(max(event_id), 0) FROM decision_event"
_EVENT = "SELECT hash FROM decision_event WHERE event_id = ?"
_SEAL = f"SELECT {', '.join(COLUMNS)} FROM audit_seal WHERE number = ?"  # noqa: S608  constant text
_READ_BYTES_MAX = 65_536


class Rows(Protocol):
    """Committed state, statement by statement."""

    def rows(self, sql: str, values: Any = ..., /) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """The head of a store. `epoch` and `next_job_id` are high-water marks: what is below may have been used."""

    ledger_id: str
    epoch: int
    next_job_id: int
    event_id: int
    event_hash: str
    seal_number: int
    seal_hash: str
    at: str

    def same_head(self, other: "Anchor | None") -> bool:
        """Whether both describe the same state, whenever they were written."""
        return other is not None and replace(other, at=self.at) == self

    def text(self) -> str:
        """The whole content of the file."""
        return canonical_json(asdict(self)) + "\n"


def head_of(store: Rows, at: str = "") -> Anchor | None:
    """What the anchor of the store should say now; None for a store without a ledger, which holds nothing yet."""
    ledger = store.rows(_LEDGER)
    if not ledger:
        return None
    counters = dict(store.rows(_COUNTERS))
    event_id, event_hash = (store.rows(_LAST_EVENT) or [(0, GENESIS)])[0]
    seal = store.rows(NEWEST)
    return Anchor(
        ledger[0][0],
        counters.get("epoch", 0),
        counters.get("next_job_id", 1),
        event_id,
        event_hash,
        seal[0][0] if seal else 0,
        seal_hash(seal[0]) if seal else GENESIS,
        at,
    )


def objection(anchor: Anchor | None, store: Rows, *, shared: bool = False) -> str:
    """Why the store is not the one that the anchor remembers, or a later state of it; empty when it is.

    A store with a story and no anchor is objected to, unless it is `shared`: then another host may have led until now.
    """
    head = head_of(store)
    last_event = head.event_id if head else store.rows(_EVENTS)[0][0]
    if anchor is None:
        return f"there is no anchor, but the database holds {last_event} events" if last_event and not shared else ""
    if head is None or head.ledger_id != anchor.ledger_id:
        found = f"holds ledger {head.ledger_id}" if head else "holds no ledger"
        return f"the anchor remembers ledger {anchor.ledger_id} up to event {anchor.event_id}, the database {found}"
    if last_event < anchor.event_id:
        return f"the database is older than its anchor: it ends at event {last_event}, the anchor remembers {anchor.event_id}"
    if anchor.event_id and store.rows(_EVENT, (anchor.event_id,)) != [(anchor.event_hash,)]:
        return f"event {anchor.event_id} is not the one that the anchor remembers"
    if anchor.seal_number and [seal_hash(row) for row in store.rows(_SEAL, (anchor.seal_number,))] != [anchor.seal_hash]:
        return f"seal {anchor.seal_number} is not the one that the anchor remembers"
    for name, there, remembered in (
        ("epoch", head.epoch, anchor.epoch),
        ("next_job_id", head.next_job_id, anchor.next_job_id),
    ):
        if there < remembered:
            return f"the database is older than its anchor: {name} {there}, the anchor remembers {remembered}"
    if store.rows(_MARKED):
        return "the database was not what its anchor remembers, and nobody has accepted it yet"
    return ""


class AnchorFile:
    """The file at `path`. It remembers what it last read or wrote, and refuses to write over what somebody else wrote since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text: str | None = None

    def read(self) -> Anchor | None:
        """What it says; None where there is none. Raises BadInput for a file that is no anchor, Unavailable for one that
        cannot be read."""
        self._text = self._present()
        if self._text is None:
            return None
        try:
            anchor = Anchor(**json.loads(self._text))
            sound = all(type(getattr(anchor, field.name)) is field.type for field in fields(Anchor))
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise BadInput(f"{self.path} is not an anchor")
        return anchor

    def write(self, anchor: Anchor, failpoints: Callable[[str], None] = unarmed) -> None:
        """Put it in place of what was last read or written, or of nothing. Raises BadInput where the file is another by now,
        Unavailable where it cannot be written."""
        if self._present() not in (self._text, None):
            raise BadInput(f"the anchor {self.path} was written by another process: two agents on one ledger")
        text, temporary = anchor.text(), self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            failpoints("anchor.before")
            temporary.rename(self.path)
            failpoints("anchor.after")
            sync_folder(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise Unavailable(f"the anchor {self.path} cannot be written: {error.strerror or error}") from error
        self._text = text

    def _present(self) -> str | None:
        try:
            with self.path.open("rb") as file:
                return file.read(_READ_BYTES_MAX).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"the anchor {self.path} cannot be read: {error.strerror or error}") from error
