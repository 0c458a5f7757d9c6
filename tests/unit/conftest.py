"""A hand-made ledger of two sessions with every kind of ending, and a store in memory that reads it back."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import pytest

from finagent.domain.bars import SessionBars
from finagent.domain.decision import (
    DecisionEvent,
    DecisionExit,
    DecisionOutcome,
    ExitKind,
    SignalOutcome,
    SubjectType,
)
from finagent.domain.gap import Direction, GapCandidate, GapFacts
from finagent.domain.identity import client_order_id, decision_id, run_id, trace_id
from finagent.domain.jobs import Job
from finagent.domain.money import to_tick
from finagent.domain.orders import (
    BrokerOrder,
    Fill,
    Leg,
    OrderClass,
    OrderIntent,
    OrderState,
    OrderType,
    SendOutcome,
    Side,
    TimeInForce,
)
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.prediction import Prediction
from finagent.domain.risk import CheckResult, RiskCode, RiskDecision, Verdict
from finagent.domain.runs import PipelineRun, RunState, Stage, SymbolRun, SymbolState
from finagent.domain.sessions import Session
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import LedgerIdentity, MarketClock, TradingState, TradingStateRecord

R = TypeVar("R")
LEDGER = "ledger-test"
ACCOUNT = "simulated"
_KEYS: dict[type[Any], int] = {SymbolRun: 2, AccountSnapshot: 2}


class MemoryReads:
    """The Reads port over a list of records; the key of a record is its first field (two for those in _KEYS)."""

    def __init__(self, records: Iterable[Any]) -> None:
        self.records = list(records)

    def get(self, record_type: type[R], *key: Any) -> R | None:
        for record in self._of(record_type):
            if self._key(record) == key:
                return record
        return None

    def find(self, record_type: type[R], **where: Any) -> list[R]:
        found = [record for record in self._of(record_type) if self._matches(record, where)]
        return found if record_type is DecisionEvent else sorted(found, key=self._key)

    def count(self, record_type: type[Any], **where: Any) -> int:
        return len(self.find(record_type, **where))

    def _of(self, record_type: type[R]) -> list[R]:
        return [record for record in self.records if type(record) is record_type]

    def _key(self, record: Any) -> tuple[Any, ...]:
        names = [field.name for field in fields(record)][: _KEYS.get(type(record), 1)]
        return tuple(getattr(record, name) for name in names)

    @staticmethod
    def _matches(record: Any, where: dict[str, Any]) -> bool:
        return all(
            getattr(record, name) in value if isinstance(value, (list, tuple)) else getattr(record, name) == value
            for name, value in where.items()
        )


class LedgerBuilder:
    """Writes down decisions as the agent would have committed them."""

    def __init__(self) -> None:
        self.records: list[Any] = [
            LedgerIdentity(1, LEDGER, ACCOUNT, 7, "sample|2008-10", "100000", "settings-hash", at(date(2008, 10, 1), 0)),
            TradingStateRecord(1, TradingState.ACTIVE, "first start", "system", at(date(2008, 10, 1), 0)),
        ]

    def run(self, day: date, minute: int, symbols: int = 5) -> str:
        fired = at(day, minute)
        run = run_id(LEDGER, "scan", fired)
        self.records.append(
            PipelineRun(run, "scan", day, fired, RunState.SUCCESS, symbols, 2, 0, {"GAP_BELOW_MINIMUM": 3}, "", fired)
        )
        return run

    def candidate(self, run: str, day: date, minute: int, symbol: str, gap: float, **facts: float) -> str:
        decision = decision_id(run, symbol)
        trace = trace_id(decision)
        base = {"previous_close": 100.0, "open": 100.0 * (1 + gap), "high": 100.0 * (1 + gap) + 1, "low": 100.0 * (1 + gap) - 1}
        base |= {"last": base["high"] - 0.2, "cumulative_volume": 2e6, "relative_volume": 1.8, "dollar_volume_mean": 9e8}
        values: dict[str, Any] = base | facts
        self.records += [
            GapCandidate(
                decision,
                run,
                symbol,
                day,
                Direction.UP if gap > 0 else Direction.DOWN,
                trace,
                at(day, minute),
                GapFacts(gap=gap, minutes_since_open=minute, **values),
            ),
            SymbolRun(run, symbol, Stage.SCAN, SymbolState.SUCCESS, "candidate"),
            DecisionEvent(
                SubjectType.DECISION,
                decision,
                "candidate_found",
                at(day, minute),
                trace,
                decision,
                {"symbol": symbol, "gap": gap},
            ),
        ]
        return decision

    def scored(self, decision: str, day: date, minute: int, score: float) -> None:
        self.records += [
            Prediction(decision, "baseline-1", "spec-1", score, at(day, minute)),
            DecisionEvent(
                SubjectType.DECISION, decision, "score_committed", at(day, minute), trace_id(decision), decision, {"score": score}
            ),
        ]

    def planned(self, decision: str, run: str, day: date, minute: int, symbol: str, quantity: int, entry: str, stop: str) -> None:
        trigger, low = Decimal(entry), Decimal(stop)
        self.records.append(
            TradePlan(
                decision,
                run,
                symbol,
                Side.BUY,
                quantity,
                trigger,
                to_tick(trigger * Decimal("1.0025")),
                low,
                trigger + 2 * (trigger - low),
                at(day, minute + 30),
                "0.5 % of equity at risk",
            )
        )

    def judged(self, decision: str, run: str, day: date, minute: int, verdict: Verdict, code: RiskCode, quantity: int) -> None:
        check = CheckResult(code, Decimal(5), Decimal(6), quantity)
        self.records.append(
            RiskDecision(
                decision,
                run,
                0,
                verdict,
                code,
                Decimal(5),
                Decimal(6),
                quantity,
                Decimal(quantity) * 100,
                (check,),
                at(day, minute),
            )
        )

    def ordered(
        self,
        decision: str,
        day: date,
        minute: int,
        symbol: str,
        leg: Leg,
        quantity: int,
        state: OrderState,
        price: str,
        **more: Any,
    ) -> str:
        client = client_order_id(ACCOUNT, LEDGER, decision, leg.value, 0)
        stop_like = leg in (Leg.ENTRY, Leg.STOP)
        kind = {
            Leg.ENTRY: OrderType.STOP_LIMIT,
            Leg.STOP: OrderType.STOP,
            Leg.TARGET: OrderType.LIMIT,
            Leg.EXIT: OrderType.MARKET,
        }[leg]
        side = Side.BUY if leg is Leg.ENTRY else Side.SELL
        parent = more.get("parent")
        self.records += [
            OrderIntent(
                client,
                decision,
                parent,
                leg,
                0,
                symbol,
                side,
                quantity,
                kind,
                Decimal(price) if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
                Decimal(price) if stop_like else None,
                OrderClass.BRACKET if leg is Leg.ENTRY else OrderClass.SIMPLE,
                TimeInForce.DAY,
                0,
                "TIME" if leg is Leg.EXIT else "",
                at(day, minute + 30) if leg is Leg.ENTRY else None,
                at(day, minute),
            ),
            BrokerOrder(
                client,
                decision,
                symbol,
                parent,
                leg,
                None,
                more.get("broker_id", f"broker-{client[3:9]}"),
                state,
                more.get("filled", quantity if state is OrderState.FILLED else 0),
                Decimal(price) if state is OrderState.FILLED else None,
                more.get("outcome", SendOutcome.CONFIRMED),
                more.get("reason", ""),
                more.get("sends", 1),
                at(day, minute),
                at(day, minute),
            ),
        ]
        return client

    def filled(
        self, client: str, decision: str, day: date, minute: int, symbol: str, side: Side, quantity: int, price: str
    ) -> None:
        number = sum(isinstance(record, Fill) for record in self.records)
        self.records.append(
            Fill(f"x-{number}", client, decision, symbol, side, quantity, Decimal(price), Decimal("0.35"), at(day, minute))
        )

    def ended(
        self, decision: str, day: date, minute: int, outcome: SignalOutcome, reason: str, kind: ExitKind | None = None
    ) -> None:
        self.records.append(DecisionOutcome(decision, outcome, reason, at(day, minute)))
        if kind:
            self.records.append(DecisionExit(decision, kind, at(day, minute + 60)))


def at(day: date, minute: int) -> datetime:
    """`minute` minutes after the open (13:30 UTC in October)."""
    return datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC) + timedelta(minutes=minute)


DAY_ONE, DAY_TWO = date(2008, 10, 1), date(2008, 10, 2)


@pytest.fixture
def ledger_records() -> list[Any]:
    """Two sessions: target, stop and time exits, a cancelled entry, a refusal, a short gap, a parked order."""
    book = LedgerBuilder()
    first, second = book.run(DAY_ONE, 5), book.run(DAY_TWO, 5)

    def trade(run: str, day: date, symbol: str, gap: float, leg: Leg, kind: ExitKind, out: str) -> None:
        decision = book.candidate(run, day, 5, symbol, gap)
        book.scored(decision, day, 5, 0.71)
        book.planned(decision, run, day, 5, symbol, 100, "104.01", "102.00")
        book.judged(decision, run, day, 5, Verdict.APPROVED, RiskCode.OK, 100)
        entry = book.ordered(decision, day, 5, symbol, Leg.ENTRY, 100, OrderState.FILLED, "104.01")
        book.filled(entry, decision, day, 9, symbol, Side.BUY, 60, "104.02")
        book.filled(entry, decision, day, 10, symbol, Side.BUY, 40, "104.05")
        exit_order = book.ordered(decision, day, 9, symbol, leg, 100, OrderState.FILLED, out, parent=entry)
        book.filled(exit_order, decision, day, 70, symbol, Side.SELL, 100, out)
        book.ended(decision, day, 9, SignalOutcome.FILLED, "entry filled", kind)

    trade(first, DAY_ONE, "AAPL", 0.031, Leg.TARGET, ExitKind.TARGET, "108.03")
    trade(first, DAY_ONE, "MSFT", 0.027, Leg.STOP, ExitKind.STOP, "101.99")
    trade(second, DAY_TWO, "AAPL", 0.022, Leg.EXIT, ExitKind.TIME, "104.40")

    goog = book.candidate(first, DAY_ONE, 5, "GOOG", 0.024)
    book.scored(goog, DAY_ONE, 5, 0.55)
    book.planned(goog, first, DAY_ONE, 5, "GOOG", 50, "104.01", "102.00")
    book.judged(goog, first, DAY_ONE, 5, Verdict.REDUCED, RiskCode.SECTOR_EXPOSURE, 40)
    book.ordered(goog, DAY_ONE, 5, "GOOG", Leg.ENTRY, 40, OrderState.CANCELLED, "104.01")
    book.ended(goog, DAY_ONE, 35, SignalOutcome.CANCELLED, "entry not triggered within 30 minutes")

    ibm = book.candidate(first, DAY_ONE, 5, "IBM", 0.021)
    book.scored(ibm, DAY_ONE, 5, 0.52)
    book.planned(ibm, first, DAY_ONE, 5, "IBM", 80, "104.01", "102.00")
    book.judged(ibm, first, DAY_ONE, 5, Verdict.REFUSED, RiskCode.POSITION_COUNT, 0)
    book.ended(ibm, DAY_ONE, 5, SignalOutcome.RISK_DENIED, "POSITION_COUNT: 6 over the limit 5")

    fb = book.candidate(second, DAY_TWO, 5, "FB", -0.034)
    book.ended(fb, DAY_TWO, 5, SignalOutcome.NO_TRADE, "SHORT_SELLING: gap down, short selling is off")

    ko = book.candidate(second, DAY_TWO, 5, "KO", 0.041)
    book.scored(ko, DAY_TWO, 5, 0.6)
    book.planned(ko, second, DAY_TWO, 5, "KO", 10, "104.01", "102.00")
    book.judged(ko, second, DAY_TWO, 5, Verdict.APPROVED, RiskCode.OK, 10)
    book.ordered(ko, DAY_TWO, 5, "KO", Leg.ENTRY, 10, OrderState.PARKED, "104.01", outcome=SendOutcome.UNRESOLVED, broker_id=None)

    equity = {
        (DAY_ONE, "OPEN"): "100000",
        (DAY_ONE, "CLOSE"): "100191.9",
        (DAY_TWO, "OPEN"): "100191.9",
        (DAY_TWO, "CLOSE"): "100228.05",
    }
    for (day, kind), amount in equity.items():
        minute = 0 if kind == "OPEN" else 390
        book.records.append(AccountSnapshot(day, kind, at(day, minute), Decimal(amount), Decimal(amount), 4, 6))
    book.records += [
        SymbolRun(second, "GE", Stage.SCAN, SymbolState.NEAR_MISS, "RELATIVE_VOLUME_BELOW_MINIMUM: 0.9 under 1.0"),
        SymbolRun(second, "BAD", Stage.SCAN, SymbolState.FAILED, "BAD_BAR: high under low at 13:31"),
        Position("AAPL", 0, Decimal("430.60"), Decimal("2.10"), at(DAY_TWO, 75)),
        MarketClock(1, "sample:test", at(DAY_TWO, 390), "FINISHED"),
        Job(1, "score", {"decision_id": fb}, 1, 50, at(DAY_TWO, 5), 0, 0, 1, trace_id(fb), f"score:{fb}"),
    ]
    return book.records


@pytest.fixture
def ledger(ledger_records: list[Any]) -> MemoryReads:
    return MemoryReads(ledger_records)


@pytest.fixture
def session_one() -> Session:
    return Session(DAY_ONE, at(DAY_ONE, 0), at(DAY_ONE, 390))


@pytest.fixture
def sessions() -> tuple[Session, ...]:
    return tuple(Session(day, at(day, 0), at(day, 390)) for day in (DAY_ONE, DAY_TWO))


@pytest.fixture
def minute_bars() -> Any:
    """An async source of smooth minute bars around 104 USD for the ledger's symbols."""

    async def bars(session: Session) -> SessionBars:
        symbols = ("AAPL", "FB", "GOOG", "IBM", "KO", "MSFT")
        minutes = np.arange(session.minutes, dtype=np.float64)[:, None]
        phase = np.arange(len(symbols), dtype=np.float64)[None, :]
        close = 104.0 + 2.5 * np.sin(minutes / 45.0 + phase) + 0.35 * np.sin(minutes * 1.7 + phase)
        opened = np.vstack([close[:1], close[:-1]])
        high, low = np.maximum(opened, close) + 0.12, np.minimum(opened, close) - 0.12
        volume = np.full_like(close, 1e4)
        return SessionBars(session, symbols, opened, high, low, close, volume, np.zeros(close.shape, dtype=np.uint8))

    return bars
