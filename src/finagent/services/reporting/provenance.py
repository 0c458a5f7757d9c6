"""Where a store's data is from, as the store itself says it."""

import json

from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import LedgerIdentity


def data_notice(reads: Reads) -> str:
    """What every screen says of the data: the source's notice where the ledger keeps it, else the source's id."""
    identity = next(iter(reads.find(LedgerIdentity)), None)
    if identity is None:
        return "no data yet"
    try:
        key = json.loads(identity.replay_key)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        return identity.replay_key or "live data"
    return str(key.get("notice") or key.get("source_id") or "unknown")
