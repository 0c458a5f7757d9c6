"""Symbols in which somebody else trades: found by reconciliation and in the broker's activity, released by a person."""

from datetime import datetime

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect, Set
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
