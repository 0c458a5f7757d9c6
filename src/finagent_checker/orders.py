"""I2: what stands in the broker's ledger, traced back to what we meant.

The ledger is the truth: it says which orders exist. Each must lead to exactly one intent: an order we sent by its
client_order_id, a leg that the broker made by (its parent's intent, leg).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import Folder, Row, instant


@dataclass(frozen=True)
class TracedOrder:
    """An order of the ledger with the intent that it came from (None: it came from nowhere)."""

    order: Row
    intent: Row | None

    @property
    def subject(self) -> str:
        """How a message names it."""
        return str(self.order["client_order_id"] or self.order["broker_order_id"])


def trace_orders(folder: Folder) -> list[TracedOrder]:
    """Every order of the ledger, oldest first, with its intent."""
    intents = folder.agent.rows("SELECT * FROM order_intent")
    by_id = {row["client_order_id"]: row for row in intents}
    by_leg = {(row["parent_client_order_id"], row["leg"]): row for row in intents if row["parent_client_order_id"]}
    orders = folder.broker.rows("SELECT * FROM ledger_order ORDER BY rowid")
    by_broker_id = {row["broker_order_id"]: row for row in orders}
    traced = []
    for order in orders:
        intent = by_id.get(order["client_order_id"])
        parent = by_broker_id.get(order["parent_broker_order_id"])
        if intent is None and parent is not None:
            intent = by_leg.get((parent["client_order_id"], order["leg"]))
        traced.append(TracedOrder(order, intent))
    return traced


def check_orders(folder: Folder, traced: list[TracedOrder], report: Report) -> None:
    """Count the orders and the duplicates among them; list everything that breaks I2."""
    report.orders = len(traced)
    report.duplicate = report.add(_same_id_twice(traced)) + report.add(_second_entry(folder, traced))
    report.add(_without_earlier_intent(traced))
    report.add(_unlike_intent(traced))
    report.add(_exits_beyond_entries(folder, traced))


def _same_id_twice(traced: list[TracedOrder]) -> Iterator[Violation]:
    """One order a client_order_id, and one order an intent (a leg made twice bears two ids of the broker's)."""
    ids = Counter(item.order["client_order_id"] for item in traced if item.order["client_order_id"])
    for name, count in sorted(ids.items()):
        if count > 1:
            yield Violation(Invariant.ORDER, name, f"{count} orders at the broker under one client_order_id")
    meant = Counter(item.intent["client_order_id"] for item in traced if item.intent)
    for name, count in sorted(meant.items()):
        if count > 1 and ids[name] < count:
            yield Violation(Invariant.ORDER, name, f"{count} orders at the broker from one intent")


def _second_entry(folder: Folder, traced: list[TracedOrder]) -> Iterator[Violation]:
    entries: Counter[str] = Counter()
    for item in traced:
        if item.intent and item.intent["leg"] == "ENTRY":
            entries[item.intent["decision_id"]] += 1
    for decision, count in sorted(entries.items()):
        if count > 1:
            yield Violation(Invariant.ORDER, decision, f"{count} entry orders at the broker for one decision")
    meant: Counter[str] = Counter(
        row["decision_id"] for row in folder.agent.rows("SELECT decision_id FROM order_intent WHERE leg = 'ENTRY'")
    )
    for decision, count in sorted(meant.items()):
        if count > 1 and entries[decision] <= 1:
            yield Violation(Invariant.ORDER, decision, f"{count} entry intents for one decision")


def _without_earlier_intent(traced: list[TracedOrder]) -> Iterator[Violation]:
    for item in traced:
        if item.intent is None:
            yield Violation(Invariant.ORDER, item.subject, "an order at the broker that no intent explains")
        elif instant(item.intent["committed_at"], "order_intent.committed_at") > instant(
            item.order["market_time"], "ledger_order.market_time"
        ):
            when = f"{item.order['market_time']}, its intent was committed at {item.intent['committed_at']}"
            yield Violation(Invariant.ORDER, item.subject, f"received at {when}")


def _unlike_intent(traced: list[TracedOrder]) -> Iterator[Violation]:
    """The broker got what was meant: symbol, side and type; the quantity never above the intent's."""
    for item in traced:
        if item.intent is None:
            continue
        for name in ("symbol", "side", "type"):
            if item.order[name] != item.intent[name]:
                yield Violation(
                    Invariant.ORDER, item.subject, f"{name} {item.order[name]} at the broker, {item.intent[name]} in the intent"
                )
        if int(item.order["quantity"]) > int(item.intent["quantity"]):
            yield Violation(
                Invariant.ORDER,
                item.subject,
                f"quantity {item.order['quantity']} at the broker, {item.intent['quantity']} in the intent",
            )


def _exits_beyond_entries(folder: Folder, traced: list[TracedOrder]) -> Iterator[Violation]:
    """Summed over a decision's exits, never more was filled than its entry filled."""
    origin = {item.order["broker_order_id"]: item.intent for item in traced if item.intent}
    entered: dict[str, int] = defaultdict(int)
    left: dict[str, int] = defaultdict(int)
    for row in folder.broker.rows("SELECT broker_order_id, quantity FROM ledger_execution"):
        intent = origin.get(row["broker_order_id"])
        if intent is not None:
            book = entered if intent["leg"] == "ENTRY" else left
            book[intent["decision_id"]] += int(row["quantity"])
    for decision, quantity in sorted(left.items()):
        if quantity > entered[decision]:
            yield Violation(Invariant.ORDER, decision, f"exits filled {quantity}, its entry {entered[decision]}")
