"""Six and a half market hours of 200 symbols in virtual time, with a broker that misbehaves: nothing hangs, nothing leaks,
and at the end the store and the broker's own ledger tell the same story."""

import asyncio
import gc
import sqlite3
import sys
import threading
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finagent.bootstrap import Application, build_application
from finagent.domain.decision import DecisionExit, DecisionOutcome
from finagent.domain.gap import GapCandidate
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent, OrderState, SendOutcome
from finagent.domain.portfolio import AccountSnapshot, Position
from finagent.domain.runs import PipelineRun, RunState
from finagent.domain.trading_state import TradingState, TradingStateRecord
from finagent.services.portfolio import portfolio
from finagent.settings import load_settings

SECONDS_MAX = 60
DAY = "2024-03-05"
OVERRIDES = (
    "http.enabled=false",
    "replay.seed=2",
    "market_data.source=simulated",
    f"market_data.first_session={DAY}",
    f"market_data.last_session={DAY}",
    f"market_data.simulated.clustered_gap_date={DAY}",
    "market_data.simulated.symbols=200",
    "market_data.simulated.history_sessions=30",
    "risk.portfolio.history_days_min=20",
    "risk.portfolio.beta_max=10",
    "market_data.simulated.halts_per_symbol_session=0.05",
    "market_data.simulated.null_bars_per_minute=0.0002",
    "market_data.simulated.bad_ticks_per_minute=0.0001",
    "risk.positions_max=25",
    "risk.orders_per_day_max=60",
    "risk.position_fraction_max=0.06",
    "risk.sector_fraction_max=4",
    "broker.partial_fill_rate=0.3",
    "broker.faults.dropped=0.15",
    "broker.faults.reply_lost=0.1",
    "broker.faults.late=0.05",
    "broker.faults.refused=0.05",
    "broker.faults.look_up_withheld=0.4",
    "broker.faults.cancel_dropped=0.1",
    "broker.faults.cancel_reply_lost=0.1",
    "broker.faults.execution_repeated=0.2",
    "broker.faults.activity_shuffled=0.3",
)


async def replayed(folder: Path, raised: list[str]) -> dict[str, Any]:
    """Run the day to its end; what the store says then. Fails on a task that is left."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(str(context)))
    settings = load_settings(overrides=(f"storage.directory={folder}", *OVERRIDES))
    async with asyncio.timeout(SECONDS_MAX), build_application(settings) as application:
        ended = await application.run()
        told = facts(application) | {"ended": ended}
    gc.collect()
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    return told | {"tasks_left": [task.get_name() for task in left]}


def facts(application: Application) -> dict[str, Any]:
    reads = application.reads
    kinds = (GapCandidate, DecisionOutcome, DecisionExit, OrderIntent, BrokerOrder, Fill, Position, PipelineRun)
    found: dict[str, Any] = {kind.__name__: reads.find(kind) for kind in kinds}
    closed = [snapshot for snapshot in reads.find(AccountSnapshot) if snapshot.kind == "CLOSE"]
    return found | {
        "closed": closed[0],
        "cash": portfolio(reads).cash,
        "jobs": application.queue.counts(),
        "state": reads.find(TradingStateRecord)[0],
    }


def ledger(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{folder / 'broker-simulator.db'}?mode=ro", uri=True) as connection:
        rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    folder = tmp_path_factory.mktemp("six-hours")
    raised: list[str] = []
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook = lambda args: raised.append(f"thread {args.thread}: {args.exc_value!r}")
    sys.unraisablehook = lambda args: raised.append(f"{args.object!r}: {args.exc_value!r}")
    threads = set(threading.enumerate())
    try:
        told = asyncio.run(replayed(folder, raised))
    finally:
        threading.excepthook, sys.unraisablehook = hooks
    return folder, told | {"threads_left": [t.name for t in threading.enumerate() if t not in threads]}, raised


Day = tuple[Path, dict[str, Any], list[str]]


def test_the_day_ends_and_leaves_nothing_behind(day: Day) -> None:
    _, told, raised = day

    assert told["ended"]
    assert raised == []
    assert told["tasks_left"] == []
    assert told["threads_left"] == []


def test_every_job_came_to_its_end(day: Day) -> None:
    _, told, _ = day
    unfinished = {status: count for status, count in told["jobs"].items() if count and status != "DONE"}

    assert unfinished == {}
    assert told["jobs"]["DONE"] > 200
    assert (told["state"].state, told["state"].reason) == (TradingState.ACTIVE, "first start")


def test_the_day_was_worth_watching(day: Day) -> None:
    """Enough of everything that can go wrong did."""
    folder, told, _ = day
    faults = {fault for (fault,) in ledger(folder, "SELECT DISTINCT fault FROM ledger_request")}
    outcomes = Counter(outcome.outcome.value for outcome in told["DecisionOutcome"])

    assert {"DROPPED", "REPLY_LOST", "REFUSED", "WITHHELD"} <= faults
    assert len(told["GapCandidate"]) >= 30
    assert outcomes["FILLED"] >= 8
    assert outcomes["NO_TRADE"] >= 2
    assert len(outcomes) >= 4
    assert {left.kind.value for left in told["DecisionExit"]} >= {"STOP", "TIME"}
    assert any(intent.generation for intent in told["OrderIntent"])


def test_no_signal_is_lost_and_none_ends_twice(day: Day) -> None:
    _, told, _ = day
    candidates = {candidate.decision_id for candidate in told["GapCandidate"]}
    entered = {fill.decision_id for fill in told["Fill"]}
    filled = {outcome.decision_id for outcome in told["DecisionOutcome"] if outcome.outcome.value == "FILLED"}

    assert {outcome.decision_id for outcome in told["DecisionOutcome"]} == candidates
    assert filled == entered
    assert {left.decision_id for left in told["DecisionExit"]} == filled
    assert {run.state for run in told["PipelineRun"]} <= {RunState.SUCCESS}


def test_no_order_was_sent_twice_and_none_without_its_intent(day: Day) -> None:
    folder, told, _ = day
    intents = {intent.client_order_id for intent in told["OrderIntent"]}
    theirs = [name for (name,) in ledger(folder, "SELECT client_order_id FROM ledger_order WHERE parent_broker_order_id IS NULL")]

    assert len(theirs) == len(set(theirs)) >= 15
    assert set(theirs) <= intents
    assert all(order.state.terminal for order in told["BrokerOrder"])
    assert all(order.outcome in SendOutcome for order in told["BrokerOrder"])


def test_exits_never_sold_more_than_was_entered(day: Day) -> None:
    _, told, _ = day
    legs = {intent.client_order_id: intent.leg for intent in told["OrderIntent"]}
    entered: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for fill in sorted(told["Fill"], key=lambda fill: (fill.filled_at, legs[fill.client_order_id] is not Leg.ENTRY)):
        book = entered if legs[fill.client_order_id] is Leg.ENTRY else left
        book[fill.decision_id] += fill.quantity
        assert left[fill.decision_id] <= entered[fill.decision_id]

    assert entered == left


def test_the_store_and_the_brokers_ledger_agree_to_the_cent(day: Day) -> None:
    folder, told, _ = day
    theirs = {
        (name, quantity, Decimal(price))
        for name, quantity, price in ledger(folder, "SELECT execution_id, quantity, price FROM ledger_execution")
    }
    ((cash,),) = ledger(folder, "SELECT cash FROM ledger_account")

    assert {(fill.execution_id, fill.quantity, fill.price) for fill in told["Fill"]} == theirs
    assert Decimal(cash) == told["cash"] == told["closed"].equity
    assert all(position.quantity == 0 for position in told["Position"])
    ordered = {intent.client_order_id: intent.quantity for intent in told["OrderIntent"]}
    assert all(order.filled_quantity <= ordered[order.client_order_id] for order in told["BrokerOrder"])
    entries = [o for o in told["BrokerOrder"] if o.leg is Leg.ENTRY and o.state is OrderState.FILLED]
    assert all(order.filled_quantity == ordered[order.client_order_id] for order in entries)
