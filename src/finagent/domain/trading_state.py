"""May new risk be taken? Persisted, survives a restart, re-armed only by a person."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class TradingState(Enum):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @property
    def new_risk(self) -> bool:
        return self is TradingState.ACTIVE


class StartGate(Enum):
    """In memory, part of readiness: no new risk until reconciliation is clean."""

    STARTING = "STARTING"
    RECONCILING = "RECONCILING"
    OPEN = "OPEN"


@dataclass(frozen=True, slots=True)
class TradingStateRecord:
    """The one row of `trading_state` (key `id` = 1)."""

    id: int
    state: TradingState
    reason: str
    by: str
    at: datetime


class LockState(Enum):
    LOCKED = "LOCKED"
    RELEASED = "RELEASED"


@dataclass(frozen=True, slots=True)
class SymbolLock:
    """No new risk in a symbol that somebody else trades too, until a person releases it.

    What a person saw when they released it stays known: `external_quantity`, the shares (signed) that the broker held beyond
    ours, and `external_orders`, the broker's ids of live orders that are not ours, separated by spaces.
    """

    symbol: str
    state: LockState
    reason: str
    by: str
    at: datetime
    external_quantity: int
    external_orders: str

    def knows(self, broker_order_id: str) -> bool:
        """Whether a person has seen that order."""
        return broker_order_id in self.external_orders.split()


@dataclass(frozen=True, slots=True)
class StrategyLock:
    """No new risk by one strategy, which is an entry of the schedule, until a person releases it."""

    strategy: str
    state: LockState
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MarketClock:
    """The one row of `market_clock`: the last instant with an effect; `state` RUNNING or FINISHED."""

    id: int
    source_id: str
    at: datetime
    state: str


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """The one row of `ledger_identity`: made with the database, part of every derived id.

    `replay_key` names (source, window, seed, settings) of a replay; empty for paper and live. `started_at` is the wall time at
    which the ledger was made: a replay at a pace counts from it, and what an account did before is not ours.
    """

    id: int
    ledger_id: str
    account: str
    seed: int
    replay_key: str
    start_cash: str
    settings_hash: str
    started_at: datetime
