"""A sound folder passes; each single corruption of it is found, under the rule that it breaks."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from finagent.adapters.broker.alpaca_simulator.wire import execution_uuid
from finagent.adapters.broker.simulated.orders import Execution
from finagent.domain.orders import Side
from finagent_checker import check_folder
from finagent_checker.finding import Report

Spoil = Callable[..., None]
BROKER = "broker-simulator.db"


def found(report: Report) -> set[str]:
    return {violation.invariant.value for violation in report.violations}


def test_a_sound_folder_is_clean(sound_folder: Path, reference_folder: Path) -> None:
    report = check_folder(sound_folder, reference_folder, complete=True)

    assert report.violations == []
    assert (report.candidates, report.orders, report.executions, report.events) == (2, 3, 2, 3)
    assert (report.lost, report.duplicate, report.unequal, report.parked, report.finished) == (0, 0, 0, 0, True)


CORRUPTIONS = {
    # I1
    "candidate without outcome": ("I1", "DELETE FROM decision_outcome WHERE decision_id = 'refused'"),
    "outcome that does not exist": ("I1", "UPDATE decision_outcome SET outcome = 'FORGOTTEN' WHERE decision_id = 'refused'"),
    "flat without exit": ("I1", "DELETE FROM decision_exit_record"),
    "exit of an unfilled decision": (
        "I1",
        "INSERT INTO decision_exit_record VALUES ('refused', 'STOP', '2024-03-04T14:40:00.000000Z')",
    ),
    "unknown kind of exit": ("I1", "UPDATE decision_exit_record SET kind = 'SOMEHOW'"),
    "fills of a decision that is not FILLED": (
        "I1",
        "UPDATE decision_outcome SET outcome = 'CANCELLED' WHERE decision_id = 'won'",
    ),
    "FILLED without a fill": ("I1", "UPDATE decision_outcome SET outcome = 'FILLED' WHERE decision_id = 'refused'"),
    # I2
    "intent missing": ("I2", "DELETE FROM order_intent WHERE client_order_id = 'fa-entry'"),
    "leg's intent missing": ("I2", "DELETE FROM order_intent WHERE client_order_id = 'fa-stop'"),
    "intent later than the order": ("I2", "UPDATE order_intent SET committed_at = '2024-03-04T14:35:00.000001Z'"),
    "intent of another side": ("I2", "UPDATE order_intent SET side = 'SELL' WHERE leg = 'ENTRY'"),
    "intent of less quantity": ("I2", "UPDATE order_intent SET quantity = 9 WHERE leg = 'ENTRY'"),
    # I3
    "a symbol locked": ("I3", "INSERT INTO symbol_lock VALUES ('WON', 'RELEASED', 'holds 3', 'a', '2024-03-04', 3, '')"),
    "fill missing": ("I3", "DELETE FROM fill WHERE execution_id = 'e-2'"),
    "fill's price off by a tenth of a cent": ("I3", "UPDATE fill SET price = '100.251' WHERE execution_id = 'e-1'"),
    "fill's fee off": ("I3", "UPDATE fill SET fee = '0.06' WHERE execution_id = 'e-1'"),
    "fill's time off": ("I3", "UPDATE fill SET filled_at = '2024-03-04T14:41:00.000000Z' WHERE execution_id = 'e-1'"),
    "fill of the wrong order": ("I3", "UPDATE fill SET client_order_id = 'fa-stop' WHERE execution_id = 'e-2'"),
    "position off by one share": ("I3", "UPDATE position SET quantity = 1"),
    "position's cash flow off": ("I3", "UPDATE position SET cash_flow = '97.50000001'"),
    "position missing": ("I3", "DELETE FROM position"),
    "order's quantity off": ("I3", "UPDATE broker_order SET filled_quantity = 9 WHERE leg = 'ENTRY'"),
    "snapshot's cash off": ("I3", "UPDATE account_snapshot SET cash = '100097.41' WHERE kind = 'CLOSE'"),
    "a price that is no number": ("I3", "UPDATE fill SET price = 'NaN' WHERE execution_id = 'e-1'"),
    # I7
    "event changed": ("I7", "UPDATE decision_event SET body = '{}' WHERE number = 2"),
    "event deleted": ("I7", "DELETE FROM decision_event WHERE number = 2"),
    "first event deleted": ("I7", "DELETE FROM decision_event WHERE number = 1"),
    "event under another hash": ("I7", "UPDATE decision_event SET hash = 'f' || substr(hash, 2) || 'f' WHERE number = 3"),
    "chain spliced": ("I7", "UPDATE decision_event SET previous_hash = 'f' || previous_hash WHERE number = 3"),
    "last event deleted": ("I7", "DELETE FROM decision_event WHERE number = 3"),
    "seal's root off": ("I7", "UPDATE audit_seal SET root_hash = 'f' || substr(root_hash, 2) || 'f' WHERE number = 2"),
    "seal's place off": ("I7", "UPDATE audit_seal SET first_event = 3 WHERE number = 2"),
    "seal's bounds no numbers": ("I7", "UPDATE audit_seal SET last_event = 'three' WHERE number = 2"),
    "seal under another hash": ("I7", "UPDATE audit_seal SET at = 'then' WHERE number = 1"),
    "first seal deleted": ("I7", "DELETE FROM audit_seal WHERE number = 1"),
    "last seal deleted": ("I7", "DELETE FROM audit_seal WHERE number = 2"),
    "fewer starts than the anchor remembers": ("I7", "UPDATE meta SET value = 0 WHERE key = 'epoch'"),
    "fewer jobs than the anchor remembers": ("I7", "UPDATE meta SET value = 1 WHERE key = 'next_job_id'"),
    "older store that nobody accepted": ("I7", "INSERT INTO meta VALUES ('unaccepted', 1)"),
    "another ledger": ("I7", "UPDATE ledger_identity SET ledger_id = 'other'"),
    "row that points nowhere": ("I7", "UPDATE candidate SET run_id = 'run-2' WHERE decision_id = 'refused'"),
    # jobs
    "job left running": ("JOBS", "UPDATE job_queue SET status = 'RUNNING'"),
    "job left ready": ("JOBS", "UPDATE job_queue SET status = 'READY'"),
    "job left though due": ("JOBS", "UPDATE job_queue SET status = 'SCHEDULED'"),
    "job dead": ("JOBS", "UPDATE job_queue SET status = 'DEAD'"),
    # evidence
    "replay not finished": ("EVIDENCE", "UPDATE market_clock SET state = 'RUNNING'"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_of_the_agents_database_is_found(sound_folder: Path, spoil: Spoil, name: str) -> None:
    invariant, statement = CORRUPTIONS[name]
    spoil(statement)

    assert invariant in found(check_folder(sound_folder, complete=True))


LEDGER_CORRUPTIONS = {
    "second order under one id": (
        "I2",
        "INSERT INTO ledger_order SELECT 'b-2', client_order_id, NULL, leg, symbol, side, quantity, type, limit_price,"
        " stop_price, time_in_force, 'CANCELLED', 0, received_at, market_time FROM ledger_order WHERE leg = 'ENTRY'",
    ),
    "leg made twice": (
        "I2",
        "INSERT INTO ledger_order SELECT 'b-2', 'theirs-3', 'b-ENTRY', leg, symbol, side, quantity, type, limit_price,"
        " stop_price, time_in_force, 'CANCELLED', 0, received_at, market_time FROM ledger_order WHERE leg = 'STOP'",
    ),
    "order that nobody meant": (
        "I2",
        "INSERT INTO ledger_order SELECT 'b-2', 'fa-other', NULL, leg, symbol, side, quantity, type, limit_price,"
        " stop_price, time_in_force, 'CANCELLED', 0, received_at, market_time FROM ledger_order WHERE leg = 'ENTRY'",
    ),
    "exits fill more than the entry": ("I2", "UPDATE ledger_execution SET quantity = 11 WHERE execution_id = 'e-2'"),
    "order of another symbol": ("I2", "UPDATE ledger_order SET symbol = 'OTHER' WHERE leg = 'ENTRY'"),
    "execution that we do not know": (
        "I3",
        "INSERT INTO ledger_execution VALUES ('e-3', 'b-STOP', 1, '95', '0.01', '2024-03-04T14:50:00.000000Z')",
    ),
    "execution gone": ("I3", "DELETE FROM ledger_execution WHERE execution_id = 'e-1'"),
    "execution twice": ("I3", "INSERT INTO ledger_execution SELECT * FROM ledger_execution WHERE execution_id = 'e-1'"),
    "broker's cash off": ("I3", "UPDATE ledger_account SET cash = '100097.39'"),
    "ledger at odds with itself": ("I3", "UPDATE ledger_order SET filled_quantity = 9 WHERE leg = 'ENTRY'"),
    "no orders at all": ("EVIDENCE", "DELETE FROM ledger_order"),
}


@pytest.mark.parametrize("name", LEDGER_CORRUPTIONS)
def test_each_corruption_of_the_brokers_ledger_is_found(sound_folder: Path, spoil: Spoil, name: str) -> None:
    invariant, statement = LEDGER_CORRUPTIONS[name]
    spoil(statement, book=BROKER)

    assert invariant in found(check_folder(sound_folder, complete=True))


def test_fills_under_the_names_that_the_simulated_alpaca_gives_are_the_brokers_executions(
    sound_folder: Path, spoil: Spoil
) -> None:
    with closing(sqlite3.connect(sound_folder / "finagent.db")) as agent:
        names = [name for (name,) in agent.execute("SELECT execution_id FROM fill")]
    for name in names:
        uuid = execution_uuid(Execution(name, "", "", Side.BUY, 1, Decimal(1), Decimal(0), datetime.now(UTC)))
        spoil(f"UPDATE fill SET execution_id = '20240304144000000::{uuid}' WHERE execution_id = '{name}'")
    assert found(check_folder(sound_folder, complete=True)) == set()

    spoil(f"UPDATE fill SET execution_id = '20240304144000000::{uuid[:-1]}x' WHERE execution_id LIKE '%{uuid}'")
    assert found(check_folder(sound_folder, complete=True)) == {"I3"}


def test_lost_signals_and_duplicate_orders_are_counted(sound_folder: Path, spoil: Spoil) -> None:
    spoil("DELETE FROM decision_outcome WHERE decision_id = 'refused'")
    spoil(LEDGER_CORRUPTIONS["second order under one id"][1], book=BROKER)

    report = check_folder(sound_folder)

    assert report.lost == 1
    assert report.duplicate >= 1


def test_a_parked_order_is_a_lost_signal_once_the_replay_is_over(sound_folder: Path, spoil: Spoil) -> None:
    spoil(
        "DELETE FROM decision_outcome WHERE decision_id = 'won'", "UPDATE broker_order SET state = 'PARKED' WHERE leg = 'ENTRY'"
    )

    report = check_folder(sound_folder)

    assert (report.parked, report.lost) == (1, 1)


def test_a_replay_that_is_under_way_may_hold_open_candidates_and_jobs(sound_folder: Path, spoil: Spoil) -> None:
    spoil(
        "UPDATE market_clock SET state = 'RUNNING'",
        "DELETE FROM decision_outcome WHERE decision_id = 'refused'",
        "UPDATE job_queue SET status = 'RUNNING'",
    )

    report = check_folder(sound_folder)

    assert report.violations == []
    assert (report.lost, report.finished) == (0, False)


def test_a_replay_that_stopped_before_its_first_effect_is_clean(sound_folder: Path, spoil: Spoil) -> None:
    agent = ["decision_event", "job_queue", "decision_exit_record", "account_snapshot", "position", "fill", "broker_order"]
    agent += [
        "audit_seal",
        "meta",
        "order_intent",
        "decision_outcome",
        "candidate",
        "pipeline_run",
        "market_clock",
        "ledger_identity",
    ]
    spoil(*(f"DELETE FROM {table}" for table in agent))
    spoil("DELETE FROM ledger_order", "DELETE FROM ledger_execution", book=BROKER)
    (sound_folder / "anchor").unlink()

    assert check_folder(sound_folder).violations == []


def test_a_missing_anchor_and_one_that_cannot_be_read_are_found(sound_folder: Path, tmp_path: Path) -> None:
    """Wherever it lies: an anchor on another volume is named to the checker."""
    anchor = sound_folder / "anchor"
    moved = anchor.rename(tmp_path / "elsewhere")
    assert found(check_folder(sound_folder, complete=True)) == {"I7"}
    assert check_folder(sound_folder, complete=True, anchor=moved).violations == []
    for text in ("torn", "{}", "[]", '"text"'):
        anchor.write_text(text)
        assert found(check_folder(sound_folder, complete=True)) == {"I7"}


def test_a_finished_replay_names_its_ledger(sound_folder: Path, spoil: Spoil) -> None:
    spoil("DELETE FROM ledger_identity")

    assert "I3" in found(check_folder(sound_folder))


def test_a_job_for_a_later_day_is_not_left_undone(sound_folder: Path, spoil: Spoil) -> None:
    spoil("UPDATE job_queue SET status = 'SCHEDULED', run_at = '2024-03-05T14:30:00.000000Z'")

    assert check_folder(sound_folder, complete=True).violations == []


def test_without_the_demand_an_idle_folder_is_clean(sound_folder: Path, spoil: Spoil) -> None:
    spoil("DELETE FROM ledger_order", "DELETE FROM ledger_execution", "UPDATE ledger_account SET cash = '100000'", book=BROKER)
    spoil("DELETE FROM fill", "DELETE FROM broker_order", "DELETE FROM position", "DELETE FROM decision_exit_record")
    spoil("DELETE FROM order_intent", "UPDATE decision_outcome SET outcome = 'NO_TRADE'")
    spoil("UPDATE account_snapshot SET cash = '100000'")

    assert check_folder(sound_folder).violations == []
    assert {violation.message for violation in check_folder(sound_folder, complete=True).violations} == {
        "no orders to check",
        "no executions to check",
    }


DIFFERENCES = {
    "fact": "UPDATE candidate SET facts = '{\"gap\":0.06}' WHERE decision_id = 'won'",
    "outcome": "UPDATE decision_outcome SET reason = 'another' WHERE decision_id = 'refused'",
    "intent": "UPDATE order_intent SET stop_price = '94' WHERE leg = 'STOP'",
    "order": "UPDATE broker_order SET state = 'EXPIRED' WHERE leg = 'STOP'",
    "fill": "UPDATE fill SET price = '100.26' WHERE execution_id = 'e-1'",
    "exit": "UPDATE decision_exit_record SET kind = 'TIME'",
    "account": "UPDATE account_snapshot SET equity = '1' WHERE kind = 'CLOSE'",
}


@pytest.mark.parametrize("row", DIFFERENCES)
def test_each_differing_row_is_named_with_both_sides(sound_folder: Path, reference_folder: Path, spoil: Spoil, row: str) -> None:
    spoil(DIFFERENCES[row])

    report = check_folder(sound_folder, reference_folder)

    sides = [violation.message for violation in report.violations if violation.invariant.value == "EQUALITY"]
    assert report.unequal == 2
    assert sides == ["only in the reference", "only here"] or sides == ["only here", "only in the reference"]
    assert all(row in violation.subject for violation in report.violations if violation.invariant.value == "EQUALITY")


def test_ids_and_attempts_do_not_make_two_replays_differ(sound_folder: Path, reference_folder: Path, spoil: Spoil) -> None:
    spoil("UPDATE broker_order SET sends = 3, broker_order_id = 'other-' || leg, updated_at = '2024-03-05T00:00:00.000000Z'")
    spoil("UPDATE job_queue SET attempts = 4, crashes = 2, epoch = 9")

    assert check_folder(sound_folder, reference_folder).unequal == 0


def test_a_damaged_file_is_a_violation_not_a_crash(sound_folder: Path) -> None:
    path = sound_folder / "finagent.db"
    damaged = bytearray(path.read_bytes())
    damaged[4096:8192] = bytes(4096)
    path.write_bytes(damaged)

    assert "I7" in found(check_folder(sound_folder))


def test_nothing_is_changed_by_a_check(sound_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in sound_folder.iterdir()}

    check_folder(sound_folder)

    assert {path.name: path.read_bytes() for path in sound_folder.iterdir()} == before


def test_rows_still_in_the_write_ahead_log_are_seen(sound_folder: Path) -> None:
    writer = sqlite3.connect(sound_folder / "finagent.db")
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("DELETE FROM decision_outcome WHERE decision_id = 'refused'")
    writer.commit()

    assert check_folder(sound_folder).lost == 1
    writer.close()
