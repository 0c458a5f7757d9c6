"""What was decided and what came of it, as ordered rows that are equal whenever two replays are.

Left out on purpose: wall times, host, attempts, epochs, database and broker ids, how often an order was sent or looked up.
Identity is the market's: session, scan time, symbol, leg, generation.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from finagent.domain.money import plain
from finagent.domain.orders import OrderIntent
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.store import Reads
from finagent.domain.time import to_text
from finagent.services.reporting.stories import Story, collect

Row = dict[str, Any]
_INTENT_FIELDS = ("side", "quantity", "type", "limit_price", "stop_price", "order_class", "time_in_force", "rank", "reason")
_PLAN_FIELDS = ("side", "quantity", "entry", "entry_limit", "stop", "target", "valid_until", "reason")


def canonical_rows(reads: Reads) -> list[Row]:
    """Every decision's rows in order of scan time and symbol, then the account at each session's open and close."""
    rows = [row for story in collect(reads) for row in _story_rows(story)]
    snapshots = sorted(reads.find(AccountSnapshot), key=lambda one: (one.session_date, one.at, one.kind))
    rows += [{"row": "account", **_picked(one, ("session_date", "kind", "cash", "equity"))} for one in snapshots]
    return rows


def canonical_text(rows: Iterable[Row]) -> str:
    """One JSON object a line: keys sorted, no spaces, decimals as text, times in UTC."""
    return "".join(json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n" for row in rows)


def outcome_hash(reads: Reads) -> str:
    """SHA-256 of the canonical text of everything in the store."""
    return hash_of(canonical_rows(reads))


def hash_of(rows: Iterable[Row]) -> str:
    """SHA-256 of the canonical text of the rows, in lower-case hex."""
    return hashlib.sha256(canonical_text(rows).encode()).hexdigest()


def as_plain(value: Any) -> Any:
    """A domain value as what JSON knows, each in one text form."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(as_plain(key)): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_plain(item) for item in value]
    return value


def _story_rows(story: Story) -> Iterator[Row]:
    candidate = story.candidate
    subject = {"session": candidate.session_date.isoformat(), "scan": to_text(candidate.as_of), "symbol": candidate.symbol}
    yield {"row": "candidate", **subject, "direction": candidate.direction.value, **as_plain(candidate.facts)}
    if story.prediction:
        yield {"row": "prediction", **subject, **_picked(story.prediction, ("model_version", "data_spec_hash", "score"))}
    if story.plan:
        yield {"row": "plan", **subject, **_picked(story.plan, _PLAN_FIELDS)}
    if story.verdict:
        yield {
            "row": "verdict",
            **subject,
            **_picked(story.verdict, ("rank", "verdict", "code", "limit_value", "value", "quantity", "notional", "checks")),
        }
    names = {intent.client_order_id: f"{intent.leg.value}/{intent.generation}" for intent in story.intents}
    for intent in story.intents:
        yield {"row": "intent", **subject, **_leg(intent, names), **_picked(intent, _INTENT_FIELDS)}
        order = story.orders.get(intent.client_order_id)
        if order:
            yield {
                "row": "order",
                **subject,
                "order": names[intent.client_order_id],
                **_picked(order, ("state", "filled_quantity", "average_price")),
            }
    for fill in story.fills:
        yield {
            "row": "fill",
            **subject,
            "order": names.get(fill.client_order_id, "unknown"),
            **_picked(fill, ("side", "quantity", "price", "fee", "filled_at")),
        }
    if story.outcome:
        yield {"row": "outcome", **subject, **_picked(story.outcome, ("outcome", "reason"))}
    if story.exit:
        yield {"row": "exit", **subject, **_picked(story.exit, ("kind", "at"))}


def _leg(intent: OrderIntent, names: dict[str, str]) -> Row:
    parent = intent.parent_client_order_id
    return {"order": names[intent.client_order_id], "parent": names.get(parent, "unknown") if parent else None}


def _picked(record: Any, names: tuple[str, ...]) -> Row:
    return {name: as_plain(getattr(record, name)) for name in names}
