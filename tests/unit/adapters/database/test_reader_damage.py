"""A store whose pages are damaged is named, not taken for an empty one."""

from pathlib import Path

import pytest

from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.reader import SqliteReads
from finagent.domain.errors import Unavailable
from finagent.domain.trading_state import MarketClock
from finagent.services.failpoints import unarmed

POLICY = WriterPolicy(
    busy_timeout_seconds=1, wal_autocheckpoint_pages=1000, group_operations_max=500, database_bytes_max=0, probe_bytes=4096
)


def damage(path: Path) -> None:
    """Overwrite every page but the first, which only leads to them."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def test_a_store_damaged_before_it_is_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "finagent.db"
    upgrade(path, POLICY, unarmed)
    damage(path)

    with pytest.raises(Unavailable, match="malformed"):
        SqliteReads(path)


def test_a_store_damaged_while_it_is_open_is_named(tmp_path: Path) -> None:
    path = tmp_path / "finagent.db"
    upgrade(path, POLICY, unarmed)
    reads = SqliteReads(path)
    damage(path)
    try:
        with pytest.raises(Unavailable, match="cannot be read"):
            reads.find(MarketClock)
    finally:
        reads.close()
