"""I3: the broker's executions, our fills, positions and cash are the same story, to the last decimal."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import cache

from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import Folder, Row, amount, instant
from finagent_checker.orders import TracedOrder


def check_ledger(folder: Folder, traced: list[TracedOrder], report: Report) -> None:
    """Compare executions with fills, fills with positions and orders, and all of them with the cash on both sides."""
    executions = folder.broker.rows("SELECT * FROM ledger_execution ORDER BY execution_id")
    fills = [_named_by_broker(row, executions) for row in folder.agent.rows("SELECT * FROM fill ORDER BY execution_id")]
    report.executions = len(executions)
    report.add(_each_once(executions, "ledger_execution"))
    report.add(_each_once(fills, "fill"))
    if report.finished:
        report.add(_executions_equal_fills(executions, fills, traced))
        report.add(_broker_quantities(executions, traced))
    else:
        report.add(_fills_are_executions(executions, fills))
    report.add(_positions(folder, fills))
    report.add(_locks(folder))
    report.add(_order_quantities(folder, fills))
    report.add(_cash(folder, fills, finished=report.finished))


def _locks(folder: Folder) -> Iterator[Violation]:
    """Nobody else trades in a replay: a locked symbol says that broker and agent once told different stories."""
    for row in folder.agent.rows("SELECT symbol, reason FROM symbol_lock ORDER BY symbol"):
        yield Violation(Invariant.LEDGER, row["symbol"], f"locked, and nobody else trades: {row['reason']}")


def _named_by_broker(fill: Row, executions: list[Row]) -> Row:
    """The simulated Alpaca tells an execution as `TIME::UUID`, where the UUID is made of its id in the ledger."""
    _, told_as, uuid = fill["execution_id"].partition("::")
    names = [row["execution_id"] for row in executions if told_as and _uuid_of(row["execution_id"]) == uuid]
    return {**fill, "execution_id": names[0]} if names else fill


@cache
def _uuid_of(execution_id: str) -> str:
    word = hashlib.sha256(f"execution\x1f{execution_id}".encode()).hexdigest()
    return f"{word[:8]}-{word[8:12]}-4{word[12:15]}-8{word[15:18]}-{word[18:30]}"


def _each_once(rows: list[Row], table: str) -> Iterator[Violation]:
    for name, count in Counter(row["execution_id"] for row in rows).items():
        if count > 1:
            yield Violation(Invariant.LEDGER, name, f"{count} rows in {table}")


def _fills_are_executions(executions: list[Row], fills: list[Row]) -> Iterator[Violation]:
    known = {row["execution_id"] for row in executions}
    for row in fills:
        if row["execution_id"] not in known:
            yield Violation(Invariant.LEDGER, row["execution_id"], "a fill of ours that the broker never executed")


def _executions_equal_fills(executions: list[Row], fills: list[Row], traced: list[TracedOrder]) -> Iterator[Violation]:
    origin = {item.order["broker_order_id"]: item for item in traced}
    ours = {row["execution_id"]: row for row in fills}
    for row in executions:
        name = row["execution_id"]
        fill = ours.pop(name, None)
        item = origin.get(row["broker_order_id"])
        if fill is None:
            yield Violation(
                Invariant.LEDGER, name, f"executed at the broker ({row['quantity']} at {row['price']}), no fill of ours"
            )
            continue
        pairs: list[tuple[str, object, object]] = [
            ("quantity", Decimal(row["quantity"]), Decimal(fill["quantity"])),
            ("price", amount(row["price"], name), amount(fill["price"], name)),
            ("fee", amount(row["fee"], name), amount(fill["fee"], name)),
            ("time", instant(row["market_time"], name), instant(fill["filled_at"], name)),
        ]
        if item is not None:
            pairs += [(column, item.order[column], fill[column]) for column in ("symbol", "side")]
        if item is not None and item.intent is not None:
            pairs += [(column, item.intent[column], fill[column]) for column in ("client_order_id", "decision_id")]
        for column, theirs, mine in pairs:
            if theirs != mine:
                yield Violation(Invariant.LEDGER, name, f"{column} {theirs} at the broker, {mine} in our fill")
    for name in sorted(ours):
        yield Violation(Invariant.LEDGER, name, "a fill of ours that the broker never executed")


def _broker_quantities(executions: list[Row], traced: list[TracedOrder]) -> Iterator[Violation]:
    """The ledger agrees with itself: an order's filled quantity is the sum of its executions."""
    total: Counter[str] = Counter()
    for row in executions:
        total[row["broker_order_id"]] += int(row["quantity"])
    for item in traced:
        said, summed = int(item.order["filled_quantity"]), total[item.order["broker_order_id"]]
        if said != summed or summed > int(item.order["quantity"]):
            quantity = item.order["quantity"]
            yield Violation(
                Invariant.LEDGER, item.subject, f"ledger says {said} of {quantity} filled, executions add up to {summed}"
            )


def _positions(folder: Folder, fills: list[Row]) -> Iterator[Violation]:
    quantity: dict[str, int] = defaultdict(int)
    cash_flow: dict[str, Decimal] = defaultdict(Decimal)
    fees: dict[str, Decimal] = defaultdict(Decimal)
    for row in fills:
        symbol, signed = row["symbol"], int(row["quantity"]) * (1 if row["side"] == "BUY" else -1)
        quantity[symbol] += signed
        cash_flow[symbol] -= signed * amount(row["price"], row["execution_id"])
        fees[symbol] += amount(row["fee"], row["execution_id"])
    positions = {row["symbol"]: row for row in folder.agent.rows("SELECT * FROM position")}
    for symbol in sorted(set(quantity) | set(positions)):
        position = positions.get(symbol)
        if position is None:
            yield Violation(Invariant.LEDGER, symbol, f"fills of {quantity[symbol]} shares net, no position")
            continue
        said = (int(position["quantity"]), amount(position["cash_flow"], symbol), amount(position["fees"], symbol))
        if said != (quantity[symbol], cash_flow[symbol], fees[symbol]):
            summed = f"{quantity[symbol]} shares, cash flow {cash_flow[symbol]}, fees {fees[symbol]}"
            yield Violation(
                Invariant.LEDGER,
                symbol,
                f"position says {said[0]} shares, cash flow {said[1]}, fees {said[2]}; fills add up to {summed}",
            )


def _order_quantities(folder: Folder, fills: list[Row]) -> Iterator[Violation]:
    total: Counter[str] = Counter()
    for row in fills:
        total[row["client_order_id"]] += int(row["quantity"])
    orders = {
        row["client_order_id"]: row for row in folder.agent.rows("SELECT client_order_id, filled_quantity FROM broker_order")
    }
    for name in sorted(set(total) - set(orders)):
        yield Violation(Invariant.LEDGER, name, "fills of an order we do not know")
    for name, row in sorted(orders.items()):
        if int(row["filled_quantity"]) != total[name]:
            yield Violation(
                Invariant.LEDGER, name, f"our order says {row['filled_quantity']} filled, fills add up to {total[name]}"
            )


def _cash(folder: Folder, fills: list[Row], *, finished: bool) -> Iterator[Violation]:
    """Start cash and fills give our snapshots of the account and, at the end, the broker's own cash."""
    identity = folder.agent.rows("SELECT start_cash FROM ledger_identity")
    if not identity and not fills and not finished:
        return  # stopped before its first effect
    if len(identity) != 1:
        yield Violation(Invariant.LEDGER, "ledger_identity", f"{len(identity)} rows, not one")
        return
    start = amount(identity[0]["start_cash"], "ledger_identity.start_cash")
    for row in folder.agent.rows("SELECT session_date, kind, at, cash FROM account_snapshot ORDER BY at"):
        expected = start + sum((_cash_of(fill) for fill in fills if fill["filled_at"] <= row["at"]), Decimal())
        if amount(row["cash"], "account_snapshot.cash") != expected:
            subject = f"account_snapshot {row['session_date']} {row['kind']}"
            yield Violation(Invariant.LEDGER, subject, f"cash {row['cash']}, start and fills give {expected}")
    if finished:
        expected = start + sum((_cash_of(fill) for fill in fills), Decimal())
        for row in folder.broker.rows("SELECT cash FROM ledger_account"):
            if amount(row["cash"], "ledger_account.cash") != expected:
                yield Violation(Invariant.LEDGER, "cash", f"{row['cash']} at the broker, start and fills give {expected}")


def _cash_of(fill: Row) -> Decimal:
    signed = int(fill["quantity"]) * (1 if fill["side"] == "BUY" else -1)
    return -signed * amount(fill["price"], fill["execution_id"]) - amount(fill["fee"], fill["execution_id"])
