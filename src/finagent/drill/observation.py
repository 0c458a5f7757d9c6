"""What a kill left behind, read from the dead agent's folder before anything starts again."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

# A leg goes out with the order that carries it: only requests of their own are in flight.
_AT_RISK = "SELECT count(*) FROM candidate LEFT JOIN signal_outcome USING (decision_id) WHERE signal_outcome.outcome IS NULL"
_IN_FLIGHT = """SELECT count(*) FROM order_intent LEFT JOIN broker_order USING (client_order_id)
WHERE order_intent.parent_client_order_id IS NULL AND broker_order.outcome IS NULL"""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Candidates without a signal outcome, and intents that were committed and have no recorded outcome. Not `begun`: the agent
    died before its tables were made. `market_at`: where the next start goes on."""

    signals_at_risk: int
    orders_in_flight: int
    begun: bool = True
    market_at: str = ""


NOTHING = Aftermath(0, 0, begun=False)


def observe(database: Path) -> Aftermath:
    """Count both; a database without its tables yet holds nothing at risk."""
    if not database.exists():
        return NOTHING
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    try:
        (at_risk,) = connection.execute(_AT_RISK).fetchone()
        (in_flight,) = connection.execute(_IN_FLIGHT).fetchone()
        (market_at,) = connection.execute("SELECT at FROM market_clock").fetchone() or ("",)
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return NOTHING  # killed in the migration
    finally:
        connection.close()
    return Aftermath(at_risk, in_flight, market_at=market_at)
