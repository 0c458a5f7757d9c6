"""Which table keeps which record, and the statements for it (compiled once from the tables)."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Table, bindparam, false, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement, func

from finagent.adapters.database import tables
from finagent.adapters.database.codec import RecordCodec
from finagent.domain.audit import AuditSeal
from finagent.domain.decision import DecisionEvent, DecisionExit, DecisionOutcome
from finagent.domain.effect import Set
from finagent.domain.errors import BadInput
from finagent.domain.gap import FeatureVector, GapCandidate
from finagent.domain.jobs import Job
from finagent.domain.orders import BrokerOrder, Fill, OrderIntent
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.prediction import Prediction
from finagent.domain.risk import RiskDecision, RiskSnapshot
from finagent.domain.runs import PipelineRun, SymbolRun
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import LedgerIdentity, MarketClock, StrategyLock, SymbolLock, TradingStateRecord

R = TypeVar("R")
_DIALECT = sqlite.dialect(paramstyle="qmark")
_ONE, _NULL = -1, -2


class StoredRecord(Generic[R]):
    """One record type: its codec, its table, its key and its statements. The table may have more columns than the record."""

    def __init__(self, record_type: type[R], table: Table) -> None:
        self.codec = RecordCodec(record_type)
        self.table = table
        self.key = tuple(column.name for column in table.primary_key.columns)
        self.columns = [table.c[name] for name in self.codec.columns]
        missing = {column.name for column in table.columns if not column.nullable} - set(self.codec.columns)
        self.insertable = not missing
        values: dict[str, Any] = {column.name: bindparam(column.name) for column in self.columns}
        self.insert_sql = compiled(insert(table).values(values)) if self.insertable else ""
        by_key = select(*self.columns).where(*[table.c[name] == bindparam(name) for name in self.key])
        self.get_sql = compiled(by_key)
        self.find_sql: Callable[[tuple[tuple[str, int], ...]], str] = lru_cache(maxsize=256)(self._find_sql)
        self.count_sql: Callable[[tuple[tuple[str, int], ...]], str] = lru_cache(maxsize=256)(self._count_sql)
        self.update_sql: Callable[[tuple[str, ...], tuple[tuple[str, int], ...]], str] = lru_cache(maxsize=256)(self._update_sql)

    def insert(self, record: R) -> tuple[str, tuple[Any, ...]]:
        """Statement and values that insert the record."""
        if not self.insertable:
            raise BadInput(f"{self.codec.record_type.__name__} is written by the store itself, not as a record")
        return self.insert_sql, self.codec.encode(record)

    def change(self, change: Set) -> tuple[str, tuple[Any, ...]]:
        """Statement and values that compare and set; it touches no row when the expectation is not met."""
        values, expect = change.values, change.expect
        if len(change.key) != len(self.key) or not values:
            raise BadInput(f"Set of {self.codec.record_type.__name__}: key {change.key!r} with {len(values)} values to set")
        encode = self.codec.encode_column
        shape = tuple((name, _NULL if expect[name] is None else _ONE) for name in sorted(expect))
        parameters = (
            *(encode(name, values[name]) for name in sorted(values)),
            *(encode(name, value) for name, value in zip(self.key, change.key, strict=True)),
            *(encode(name, expect[name]) for name, size in shape if size == _ONE),
        )
        return self.update_sql(tuple(sorted(values)), shape), parameters

    def where(self, conditions: dict[str, Any]) -> tuple[tuple[tuple[str, int], ...], list[Any]]:
        """The shape of the conditions (column and how many values, or _ONE or _NULL) and the values in that order."""
        shape: list[tuple[str, int]] = []
        values: list[Any] = []
        for name in sorted(conditions):
            wanted = conditions[name]
            if isinstance(wanted, list | tuple):
                shape.append((name, len(wanted)))
                values.extend(self.codec.encode_column(name, value) for value in wanted)
                continue
            value = self.codec.encode_column(name, wanted)
            shape.append((name, _NULL if value is None else _ONE))
            values.extend([] if value is None else [value])
        return tuple(shape), values

    def _conditions(self, shape: tuple[tuple[str, int], ...]) -> list[Any]:
        conditions: list[Any] = []
        for name, size in shape:
            column = self.table.c[name]
            if size == _NULL:
                conditions.append(column.is_(None))
            elif size == _ONE:
                conditions.append(column == bindparam(name))
            elif size == 0:
                conditions.append(false())
            else:
                conditions.append(column.in_([bindparam(f"{name}_{index}") for index in range(size)]))
        return conditions

    def _find_sql(self, shape: tuple[tuple[str, int], ...]) -> str:
        ordered = [self.table.c[name] for name in self.key]
        return compiled(select(*self.columns).where(*self._conditions(shape)).order_by(*ordered))

    def _count_sql(self, shape: tuple[tuple[str, int], ...]) -> str:
        return compiled(select(func.count()).select_from(self.table).where(*self._conditions(shape)))

    def _update_sql(self, values: tuple[str, ...], expect: tuple[tuple[str, int], ...]) -> str:
        statement = update(self.table).where(*[self.table.c[name] == bindparam(f"key_{name}") for name in self.key])
        statement = statement.where(*self._conditions(expect))
        return compiled(statement.ordered_values(*[(self.table.c[name], bindparam(f"to_{name}")) for name in values]))


def compiled(statement: ClauseElement) -> str:
    """The text of a Core statement, its values in the order of its parameters."""
    return str(statement.compile(dialect=_DIALECT))


RECORD_TABLES: dict[type[Any], Table] = {
    PipelineRun: tables.pipeline_run,
    SymbolRun: tables.symbol_run,
    GapCandidate: tables.candidate,
    FeatureVector: tables.feature_vector,
    Prediction: tables.prediction,
    TradePlan: tables.trade_plan,
    RiskSnapshot: tables.risk_snapshot,
    RiskDecision: tables.risk_decision,
    OrderIntent: tables.order_intent,
    BrokerOrder: tables.broker_order,
    Fill: tables.fill,
    Position: tables.position,
    AccountSnapshot: tables.account_snapshot,
    DecisionOutcome: tables.decision_outcome,
    DecisionExit: tables.decision_exit_record,
    AuditSeal: tables.audit_seal,
    TradingStateRecord: tables.trading_state,
    SymbolLock: tables.symbol_lock,
    StrategyLock: tables.strategy_lock,
    MarketClock: tables.market_clock,
    LedgerIdentity: tables.ledger_identity,
    DecisionEvent: tables.decision_event,  # read only: numbers and hashes are added inside the commit
    Job: tables.job_queue,  # read only: the queue writes its own rows
}


_STORED: dict[type[Any], StoredRecord[Any]] = {}


def stored(record_type: type[R]) -> StoredRecord[R]:
    """The table side of a record type; raises BadInput for a type that no table keeps."""
    kept = _STORED.get(record_type)
    if kept is None:
        table = RECORD_TABLES.get(record_type)
        if table is None:
            raise BadInput(f"no table keeps {record_type.__name__}")
        kept = _STORED[record_type] = StoredRecord(record_type, table)
    return kept
