"""Symbols in which somebody else trades: found by reconciliation and in the broker's activity, released by a person."""

from datetime import datetime

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.orders import BrokerOrder, Leg
from finagent.domain.ports.store import Reads
from finagent.domain.trading_state import LockState, SymbolLock


def lock(symbol: str, reason: str, by: str, reads: Reads, at: datetime) -> Effect:
    """The symbol takes no new risk from here on; one that is locked stays as it is."""
    known = reads.get(SymbolLock, symbol)
    if known is not None and known.state is LockState.LOCKED:
        return Effect()
    event = DecisionEvent(
        SubjectType.ACCOUNT, "account", "symbol_locked", at, body={"symbol": symbol, "reason": reason, "by": by}
    )
    if known is None:
        return Effect((SymbolLock(symbol, LockState.LOCKED, reason, by, at, 0, ""),), (), (event,))
    values = {"state": LockState.LOCKED, "reason": reason, "by": by, "at": at}
    return Effect((Set(SymbolLock, (symbol,), values, {"state": known.state}),), (), (event,))


def release(known: SymbolLock, by: str, at: datetime, quantity: int, orders: tuple[str, ...]) -> Effect:
    """A person has seen what the broker holds beyond ours: that alone locks the symbol no more."""
    body = {"symbol": known.symbol, "by": by, "external_quantity": quantity, "external_orders": list(orders)}
    values = {
        "state": LockState.RELEASED,
        "by": by,
        "at": at,
        "external_quantity": quantity,
        "external_orders": " ".join(orders),
    }
    change = Set(SymbolLock, (known.symbol,), values, {"state": known.state})
    return Effect((change,), (), (DecisionEvent(SubjectType.ACCOUNT, "account", "symbol_released", at, body=body),))


def locked_symbols(reads: Reads) -> set[str]:
    """Those that take no new risk."""
    return {known.symbol for known in reads.find(SymbolLock, state=LockState.LOCKED)}


def locked_at(reads: Reads, at: datetime) -> set[str]:
    """Those that took no new risk then: locked, or with an entry that was parked."""
    locked: set[str] = set()
    for event in reads.find(DecisionEvent, kind=["symbol_locked", "symbol_released"]):
        if event.at <= at:
            (locked.add if event.kind == "symbol_locked" else locked.discard)(event.body["symbol"])
    for parked in reads.find(DecisionEvent, kind="order_parked"):
        order = reads.get(BrokerOrder, parked.body["client_order_id"])
        since = [one.at for one in reads.find(DecisionEvent, subject_id=parked.subject_id) if _ends_parking(one, parked)]
        if order is not None and order.leg is Leg.ENTRY and parked.at <= at and not any(one <= at for one in since):
            locked.add(order.symbol)
    return locked


def _ends_parking(event: DecisionEvent, parked: DecisionEvent) -> bool:
    return (
        event.at > parked.at
        and event.kind.startswith("order_")
        and event.body.get("client_order_id") == parked.body["client_order_id"]
    )


def objection(symbol: str, reads: Reads) -> str:
    """Why no new risk in the symbol may leave; empty when it may."""
    known = reads.get(SymbolLock, symbol)
    if known is None or known.state is not LockState.LOCKED:
        return ""
    return f"{symbol} is locked: {known.reason}"


def is_news(symbol: str, at: datetime, reads: Reads) -> bool:
    """Whether something that somebody else did came after a person had last looked."""
    known = reads.get(SymbolLock, symbol)
    return known is None or known.state is LockState.LOCKED or at > known.at
