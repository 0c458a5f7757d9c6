"""Which store an address means: a file by its path, a PostgreSQL database by its URL."""

from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.database.reader import SqliteReads, StoreReads
from finagent.domain.errors import BadInput

if TYPE_CHECKING:
    from finagent.adapters.database.postgres import PostgresPolicy

Address = Path | str


def open_reads(address: Address, connect_seconds: float, statement_seconds: float) -> StoreReads:
    """The store for reading; raises Unavailable where there is none."""
    if isinstance(address, Path):
        return SqliteReads(address)
    policy = postgres_policy(connect_seconds, statement_seconds, 1)
    from finagent.adapters.database.postgres import PostgresReads

    return PostgresReads(address, policy)


def postgres_policy(connect_seconds: float, statement_seconds: float, group_operations_max: int) -> "PostgresPolicy":
    """Bounds of a server's store; raises BadInput where its driver is not installed."""
    try:
        from finagent.adapters.database.postgres import PostgresPolicy
    except ModuleNotFoundError as error:
        raise BadInput("the driver of a PostgreSQL store is missing: pip install 'finagent[postgres]'") from error
    return PostgresPolicy(connect_seconds, statement_seconds, group_operations_max)
