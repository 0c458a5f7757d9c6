"""Two replays of the same day must tell the same story, row by row.

Identity is the market's (session, scan, symbol, leg, generation). Left out: wall times, attempts, epochs, ids of databases and
brokers, how often an order was sent or looked up.
"""

import json
from collections import Counter
from collections.abc import Iterator

from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import Book, Row

DIFFERENCES_SHOWN = 5

# table -> (its query, what identifies a row beside the decision)
_DECISION_ROWS: tuple[tuple[str, str], ...] = (
    ("candidate", "SELECT * FROM candidate"),
    ("feature", "SELECT * FROM feature_vector"),
    ("prediction", "SELECT * FROM prediction"),
    ("plan", "SELECT * FROM trade_plan"),
    ("verdict", "SELECT * FROM risk_decision"),
    ("intent", "SELECT * FROM order_intent"),
    ("order", "SELECT decision_id, client_order_id, state, filled_quantity, average_price FROM broker_order"),
    ("fill", "SELECT decision_id, client_order_id, symbol, side, quantity, price, fee, filled_at FROM fill"),
    ("outcome", "SELECT decision_id, outcome, reason FROM signal_outcome"),
    ("exit", "SELECT decision_id, kind, at FROM decision_exit"),
)
# Names derived from the ledger's identity, and when we happened to commit: not part of the story.
_LEFT_OUT = frozenset({"decision_id", "run_id", "trace_id", "client_order_id", "parent_client_order_id"})


def check_equality(agent: Book, reference: Book, report: Report) -> None:
    """Count the rows that stand in one of the two and not in the other; name the first of them."""
    ours, theirs = Counter(canonical_rows(agent)), Counter(canonical_rows(reference))
    surplus, absent = ours - theirs, theirs - ours
    report.unequal = surplus.total() + absent.total()
    shown = sorted([(line, "only here") for line in surplus] + [(line, "only in the reference") for line in absent])
    report.add(Violation(Invariant.EQUALITY, line, where) for line, where in shown[:DIFFERENCES_SHOWN])


def canonical_rows(agent: Book) -> Iterator[str]:
    """Every row of every decision as one line of text, and the account at each session's open and close."""
    stories = {
        row["decision_id"]: f"{row['session_date']} {row['as_of']} {row['symbol']}"
        for row in agent.rows("SELECT decision_id, session_date, as_of, symbol FROM candidate")
    }
    orders = {
        row["client_order_id"]: f"{row['leg']}/{row['generation']}"
        for row in agent.rows("SELECT client_order_id, leg, generation FROM order_intent")
    }
    for kind, query in _DECISION_ROWS:
        for row in agent.rows(query):
            subject = stories.get(row["decision_id"], "no candidate")
            order = orders.get(row.get("client_order_id", ""), "")
            parent = orders.get(row.get("parent_client_order_id") or "", "")
            facts = {name: _plain(value) for name, value in row.items() if name not in _LEFT_OUT}
            yield _line(" ".join(filter(None, (subject, kind, order, parent and f"of {parent}"))), facts)
    for row in agent.rows("SELECT session_date, kind, cash, equity FROM account_snapshot"):
        yield _line(f"{row['session_date']} account {row['kind']}", row)


def _line(subject: str, facts: Row) -> str:
    return f"{subject}: {json.dumps(facts, sort_keys=True, separators=(',', ':'), default=repr)}"


def _plain(value: object) -> object:
    """JSON texts are compared by what they say, byte strings by their bytes."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
