"""The story by month, in plain files that can be verified without the store and without this program.

`YYYY-MM.jsonl.gz` holds one JSON object a line, keys sorted, no blanks: {"row": {column: value}, "table": name}. First come the
events of the month in the order of `event_id`, then the other tables in the order of their keys, last the seals over the events.
`YYYY-MM.json` beside it says what is in it: rows by table, the first and last event, the number and hash of each seal, and the
SHA-256 of the uncompressed lines. A month is there once its manifest is.

Nothing is deleted from the store: its chains and seals are verified from their beginning, and seven years of them fit on a disk.
"""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, bindparam, select

from finagent.adapters.database import tables
from finagent.adapters.database.anchor import Rows
from finagent.adapters.database.codec import canonical_json
from finagent.adapters.database.events import event_hash
from finagent.adapters.database.registry import compiled
from finagent.adapters.database.seals import COLUMNS, seal_hash
from finagent.adapters.durable_files import sync_file, sync_folder
from finagent.domain.errors import Unavailable

EVENTS_A_PAGE = 2_000
_EVENT = tuple(tables.decision_event.columns.keys())
_DATED: tuple[tuple[Table, str], ...] = (
    (tables.feature_vector, "known_at"),
    (tables.fill, "filled_at"),
    (tables.order_intent, "committed_at"),
    (tables.prediction, "created_at"),
)
_EVENTS = f"SELECT {', '.join(_EVENT)} FROM decision_event WHERE at >= ? AND at < ? AND event_id > ? ORDER BY event_id LIMIT ?"  # noqa: S608  constant text
_SEALS = f"SELECT {', '.join(COLUMNS)} FROM audit_seal WHERE last_event >= ? AND first_event <= ? ORDER BY number"  # noqa: S608  constant text
_EDGES = "SELECT min(at), max(at) FROM decision_event"
_SEALED = "SELECT coalesce(max(last_event), 0) FROM audit_seal"


@dataclass(frozen=True, slots=True)
class Month:
    """What came of one month: WRITTEN, VERIFIED (it was there and is what the store says), UNSEALED (not yet), or DIFFERS, with
    the reason."""

    month: str
    outcome: str
    rows: dict[str, int]
    reason: str = ""


def closed_months(store: Rows, before: str | None) -> list[str]:
    """The months of the story, oldest first, up to the one before `before` (YYYY-MM), or before that of the newest event."""
    first, last = store.rows(_EDGES)[0]
    if first is None:
        return []
    month, end, found = first[:7], min(before or last[:7], _following(last[:7])), []
    while month < end:
        found.append(month)
        month = _following(month)
    return found


def archive_month(store: Rows, folder: Path, month: str) -> Month:
    """Write the month, or verify what is there against the store. Raises Unavailable where the folder cannot be written."""
    manifest, lines = folder / f"{month}.json", folder / f"{month}.jsonl.gz"
    try:
        if manifest.exists():
            return _verified(store, manifest, lines, month)
        folder.mkdir(parents=True, exist_ok=True)
        return _written(store, manifest, lines, month)
    except OSError as error:
        raise Unavailable(f"{lines} cannot be written or read: {error.strerror or error}") from error


def _written(store: Rows, manifest: Path, lines: Path, month: str) -> Month:
    told = _Told(store, month)
    partial = lines.with_name(f".{lines.name}.new")
    with partial.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        for line in told.lines():
            packed.write(line)
    if told.unsealed:
        partial.unlink()
        return Month(
            month, "UNSEALED", dict(told.rows), "its last events have no seal yet: the agent seals at the end of a session"
        )
    sync_file(partial)
    partial.rename(lines)
    text = canonical_json(told.manifest()) + "\n"
    reason = _fault(lines, json.loads(text))
    if reason:
        return Month(month, "DIFFERS", dict(told.rows), reason)
    partial = manifest.with_name(f".{manifest.name}.new")
    partial.write_text(text)
    sync_file(partial)
    partial.rename(manifest)
    sync_folder(manifest.parent)
    return Month(month, "WRITTEN", dict(told.rows))


def _verified(store: Rows, manifest: Path, lines: Path, month: str) -> Month:
    told = _Told(store, month)
    for _ in told.lines():
        continue
    try:
        said = json.loads(manifest.read_text())
    except ValueError:
        return Month(month, "DIFFERS", dict(told.rows), f"{manifest} is not a manifest")
    reason = _fault(lines, said) if said == json.loads(canonical_json(told.manifest())) else "the store says otherwise by now"
    return Month(month, "DIFFERS" if reason else "VERIFIED", dict(told.rows), reason)


class _Told:
    """One month as lines; what the manifest says is known once they were all told."""

    def __init__(self, store: Rows, month: str) -> None:
        self._store, self._month = store, month
        self._digest = hashlib.sha256()
        self._seals: list[tuple[Any, ...]] = []
        self.first_event = self.last_event = 0
        self.rows: Counter[str] = Counter()

    @property
    def unsealed(self) -> bool:
        return bool(self._store.rows(_SEALED)[0][0] < self.last_event)

    def lines(self) -> Iterator[bytes]:
        bounds = (self._month, _following(self._month))
        after = 0
        while page := self._store.rows(_EVENTS, (*bounds, after, EVENTS_A_PAGE)):
            for row in page:
                yield self._line("decision_event", _EVENT, row)
            self.first_event, after = self.first_event or page[0][0], page[-1][0]
        self.last_event = after
        for table, dated in _DATED:
            column, names = table.c[dated], tuple(table.columns.keys())
            found = compiled(select(table).where(column >= bindparam("since"), column < bindparam("until")))
            for row in sorted(self._store.rows(found, bounds), key=lambda row: str(row[0])):
                yield self._line(table.name, names, row)
        self._seals = self._store.rows(_SEALS, (self.first_event, self.last_event)) if self.last_event else []
        for row in self._seals:
            yield self._line("audit_seal", COLUMNS, row)

    def manifest(self) -> dict[str, Any]:
        return {
            "month": self._month,
            "rows": dict(self.rows),
            "first_event": self.first_event,
            "last_event": self.last_event,
            "seals": [{"number": row[0], "hash": seal_hash(row)} for row in self._seals],
            "sha256": self._digest.hexdigest(),
        }

    def _line(self, table: str, names: tuple[str, ...], row: tuple[Any, ...]) -> bytes:
        self.rows[table] += 1
        line = (canonical_json({"table": table, "row": dict(zip(names, row, strict=True))}) + "\n").encode()
        self._digest.update(line)
        return line


def _fault(lines: Path, manifest: dict[str, Any]) -> str:
    """What is wrong with the file by itself; empty when nothing is."""
    digest, rows = hashlib.sha256(), Counter[str]()
    try:
        with gzip.open(lines) as packed:
            for line in packed:
                digest.update(line)
                told = json.loads(line)
                rows[told["table"]] += 1
                if told["table"] == "decision_event" and told["row"].pop("hash") != event_hash(told["row"]):
                    return f"event {told['row']['event_id']} does not fit its hash"
    except (OSError, EOFError, ValueError, KeyError) as error:
        return f"{lines} cannot be read: {error!r}"
    return (
        "" if (digest.hexdigest(), dict(rows)) == (manifest["sha256"], manifest["rows"]) else f"{lines} is not what was written"
    )


def _following(month: str) -> str:
    year, number = int(month[:4]), int(month[5:7])
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"
