"""The folder of a small finished replay, written row by row, so that a test can spoil one thing and see it named."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from finagent.adapters.database.anchor import Anchor
from finagent.adapters.database.events import event_hash
from finagent.adapters.database.seals import root_hash, seal_hash
from finagent.adapters.database.tables import VIEWS, metadata

OPENED, SCANNED, FILLED, CLOSED = (f"2024-03-04T{time}:00.000000Z" for time in ("14:30", "14:35", "14:40", "21:00"))
Spoil = Callable[..., None]


def insert(database: sqlite3.Connection, table: str, **row: Any) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def insert_job(database: sqlite3.Connection, number: int, status: str, run_at: str = SCANNED) -> None:
    insert(
        database, "job_queue", id=number, queue="scoring", type="score", payload="{}", payload_version=1, status=status,
        priority=50, run_at=run_at, attempts=0, crashes=0, solo_crashes=0, max_attempts=5, epoch=1, fence=0,
        dedup_key=f"score:{number}", trace_id="t", created_at=SCANNED,
    )  # fmt: skip


def insert_candidate(database: sqlite3.Connection, name: str) -> None:
    insert(
        database, "candidate", decision_id=name, run_id="run-1", symbol=name.upper(), session_date="2024-03-04", direction="UP",
        trace_id=f"trace-{name}", as_of=SCANNED, facts=json.dumps({"gap": 0.05}),
    )  # fmt: skip


def insert_order(database: sqlite3.Connection, name: str, leg: str, parent: str | None, type_: str, **prices: Any) -> None:
    insert(
        database, "order_intent", client_order_id=name, decision_id="won", parent_client_order_id=parent, leg=leg, generation=0,
        symbol="WON", side="BUY" if leg == "ENTRY" else "SELL", quantity=10, type=type_, **prices,
        order_class="BRACKET", time_in_force="DAY", rank=0, reason="", valid_until=None, committed_at=SCANNED,
    )  # fmt: skip
    filled = 0 if leg == "STOP" else 10
    insert(
        database, "broker_order", client_order_id=name, decision_id="won", symbol="WON", parent_client_order_id=parent, leg=leg,
        broker_order_id=f"b-{leg}", state="CANCELLED" if leg == "STOP" else "FILLED", filled_quantity=filled,
        average_price=None if leg == "STOP" else "100", outcome="CONFIRMED", reason="", sends=1, sent_at=SCANNED,
        updated_at=CLOSED,
    )  # fmt: skip


def insert_fill(database: sqlite3.Connection, name: str, order: str, side: str, price: str) -> None:
    insert(
        database, "fill", execution_id=name, client_order_id=order, decision_id="won", symbol="WON", side=side, quantity=10,
        price=price, fee="0.05", filled_at=FILLED,
    )  # fmt: skip


def write_agent(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    database = sqlite3.connect(path)
    for view in VIEWS.values():
        database.execute(view)
    insert(
        database, "pipeline_run", run_id="run-1", entry="first", session_date="2024-03-04", fired_at=SCANNED, state="SUCCESS",
        symbols=500, candidates=2, failed=0, reasons="{}", reason="", finished_at=SCANNED,
    )  # fmt: skip
    insert(
        database, "ledger_identity", id=1, ledger_id="ledger", account="account", seed=1, replay_key="key", start_cash="100000",
        started_at=SCANNED,
        settings_hash="hash",
    )  # fmt: skip
    insert(database, "market_clock", id=1, source_id="simulated", at=CLOSED, state="FINISHED")
    for name, outcome in (("won", "FILLED"), ("refused", "RISK_DENIED")):
        insert_candidate(database, name)
        insert(database, "decision_outcome", decision_id=name, outcome=outcome, reason="because", at=FILLED)
    insert_order(database, "fa-entry", "ENTRY", None, "STOP_LIMIT", limit_price="101", stop_price="100")
    insert_order(database, "fa-target", "TARGET", "fa-entry", "LIMIT", limit_price="110", stop_price=None)
    insert_order(database, "fa-stop", "STOP", "fa-entry", "STOP", limit_price=None, stop_price="95")
    insert_fill(database, "e-1", "fa-entry", "BUY", "100.25")
    insert_fill(database, "e-2", "fa-target", "SELL", "110")
    insert(database, "position", symbol="WON", quantity=0, cash_flow="97.5", fees="0.1", updated_at=FILLED)
    for kind, at, cash in (("OPEN", OPENED, "100000"), ("CLOSE", CLOSED, "100097.4")):
        insert(
            database, "account_snapshot", session_date="2024-03-04", kind=kind, at=at, cash=cash, equity=cash, orders=1, fills=2
        )
    insert(database, "decision_exit_record", decision_id="won", kind="TARGET", at=FILLED)
    insert_job(database, 1, "DONE")
    previous = "0" * 64
    hashes = []
    for number in (1, 2, 3):
        row = {
            "event_id": number, "subject_type": "DECISION", "subject_id": "won", "number": number, "decision_id": "won",
            "trace_id": "trace-won", "kind": "intent_committed" if number == 3 else "step", "at": SCANNED, "build_hash": "b",
            "settings_hash": "s",
            "body": json.dumps({"number": number}), "previous_hash": previous,
        }  # fmt: skip
        previous = event_hash(row)
        hashes.append(previous)
        insert(database, "decision_event", **row, hash=previous)
    seal = "0" * 64
    for number, first, last in ((1, 1, 1), (2, 2, 3)):
        sealed: dict[str, Any] = {
            "number": number, "first_event": first, "last_event": last, "root_hash": root_hash(hashes[first - 1 : last]),
            "previous_hash": seal, "at": CLOSED,
        }  # fmt: skip
        seal = seal_hash(tuple(sealed.values()))
        insert(database, "audit_seal", **sealed)
    insert(database, "meta", key="epoch", value=1)
    insert(database, "meta", key="next_job_id", value=1001)
    path.with_name("anchor").write_text(Anchor("ledger", 1, 1001, 3, previous, 2, seal, CLOSED).text())
    database.commit()
    database.close()


def write_broker(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript("""
        CREATE TABLE ledger_order (broker_order_id TEXT PRIMARY KEY, client_order_id TEXT, parent_broker_order_id TEXT, leg TEXT,
            symbol TEXT, side TEXT, quantity INTEGER, type TEXT, limit_price TEXT, stop_price TEXT, time_in_force TEXT,
            status TEXT, filled_quantity INTEGER, received_at TEXT, market_time TEXT);
        CREATE TABLE ledger_execution (execution_id TEXT, broker_order_id TEXT, quantity INTEGER, price TEXT, fee TEXT,
            market_time TEXT);
        CREATE TABLE ledger_account (cash TEXT);
    """)
    for leg, name, type_, filled in (
        ("ENTRY", "fa-entry", "STOP_LIMIT", 10), ("TARGET", "theirs-1", "LIMIT", 10), ("STOP", "theirs-2", "STOP", 0),
    ):  # fmt: skip
        insert(
            database, "ledger_order", broker_order_id=f"b-{leg}", client_order_id=name,
            parent_broker_order_id=None if leg == "ENTRY" else "b-ENTRY", leg=leg, symbol="WON",
            side="BUY" if leg == "ENTRY" else "SELL", quantity=10, type=type_, limit_price=None, stop_price=None,
            time_in_force="DAY", status="FILLED" if filled else "CANCELLED", filled_quantity=filled, received_at=SCANNED,
            market_time=SCANNED,
        )  # fmt: skip
    for name, order, price in (("e-1", "b-ENTRY", "100.25"), ("e-2", "b-TARGET", "110.00")):
        insert(
            database, "ledger_execution", execution_id=name, broker_order_id=order, quantity=10, price=price, fee="0.05",
            market_time=FILLED,
        )  # fmt: skip
    insert(database, "ledger_account", cash="100097.40")
    database.commit()
    database.close()


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    write_agent(folder / "finagent.db")
    write_broker(folder / "broker-simulator.db")
    return folder


@pytest.fixture
def sound_folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "sound")


@pytest.fixture
def reference_folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "reference")


@pytest.fixture
def spoil(sound_folder: Path) -> Spoil:
    """Change the agent's database or, named so, the broker's ledger."""

    def change(*statements: str, book: str = "finagent.db") -> None:
        database = sqlite3.connect(sound_folder / book)
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.close()

    return change
