"""Names derived from what they name, so that a second execution meets the same identity (design 6)."""

import hashlib
from datetime import datetime

from finagent.domain.time import to_text

CLIENT_ORDER_ID_LENGTH_MAX = 48  # what every broker we know takes


def digest(*parts: str | int, length: int = 32) -> str:
    """Lower-case hex SHA-256 of the parts joined with the unit separator, cut to `length` characters."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:length]


def run_id(ledger_id: str, entry: str, fired_at: datetime) -> str:
    """Identity of one pass of the pipeline: the ledger, the schedule entry and the fire time."""
    return "run-" + digest(ledger_id, entry, to_text(fired_at), length=16)


def decision_id(run: str, symbol: str) -> str:
    """Identity of the story of one candidate."""
    return "dec-" + digest(run, symbol, length=20)


def trace_id(decision: str) -> str:
    """W3C trace id (32 hex characters) of a decision or a run."""
    return digest("trace", decision)


def client_order_id(account: str, ledger_id: str, decision: str, leg: str, generation: int) -> str:
    """Identity of an order as the broker sees it; a new generation only after the old one is terminal."""
    name = "fa-" + digest(account, ledger_id, decision, leg, generation)
    assert len(name) <= CLIENT_ORDER_ID_LENGTH_MAX
    return name
