"""Kill the real command, start it again: in lock-step the outcome is the undisturbed one, at a pace the invariants hold."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.command import finagent

WEEK = ("market_data.first_session=2008-10-06", "market_data.last_session=2008-10-10", "http.enabled=false")
FAULTS = (
    "broker.partial_fill_rate=0.5",
    "broker.faults.dropped=0.15",
    "broker.faults.reply_lost=0.15",
    "broker.faults.late=0.1",
    "broker.faults.cancel_dropped=0.1",
    "broker.faults.execution_repeated=0.3",
)


def command(folder: Path, *sets: str) -> list[str]:
    """The words of a replay in the folder."""
    settings = [part for one in (f"storage.directory={folder}", *sets) for part in ("--set", one)]
    return ["orchestrate", "--json", *settings]


def finished(folder: Path, *sets: str) -> dict[str, object]:
    """Run to the end; the final document."""
    done = finagent(*command(folder, *sets))
    assert done.returncode == 0, done.stderr[-3000:]
    document: dict[str, object] = json.loads(done.stdout)
    return document


def kill_when(folder: Path, reached: str, *sets: str) -> None:
    """Start, and SIGKILL once `reached` (SQL on the store that answers true) holds."""
    start = [sys.executable, "-m", "finagent.cli", *command(folder, *sets)]
    process = subprocess.Popen(start, cwd=folder.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    try:
        while not _holds(folder / "finagent.db", reached):
            assert process.poll() is None, f"ended before {reached}"
            assert time.monotonic() < deadline
            time.sleep(0.02)  # the store of another process cannot be awaited
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def _holds(database: Path, sql: str) -> bool:
    if not database.is_file():
        return False
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return bool(connection.execute(sql).fetchone()[0])
    except sqlite3.OperationalError:
        return False  # before its migration
    finally:
        connection.close()


def check(folder: Path) -> dict[str, object]:
    """What the independent checker says of the folder."""
    done = subprocess.run([sys.executable, "-m", "finagent_checker", str(folder), "--json"], capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == 0, found
    return found


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_ten_kills_in_a_row_bury_no_job_and_change_nothing(tmp_path: Path) -> None:
    """Ten kills on one database, each after some more effects: 0 DEAD, and the outcome of an undisturbed replay."""
    undisturbed = finished(tmp_path / "undisturbed", *WEEK, *FAULTS)
    folder = tmp_path / "killed"
    for kill in range(10):
        kill_when(folder, f"SELECT (SELECT count(*) FROM job_queue WHERE status = 'DONE') >= {2 + 6 * kill}", *WEEK, *FAULTS)
    ended = finished(folder, *WEEK, *FAULTS)

    assert ended["outcome_hash"] == undisturbed["outcome_hash"]
    assert not _holds(folder / "finagent.db", "SELECT count(*) FROM job_queue WHERE status IN ('DEAD', 'PARKED')")
    check(folder)


@pytest.mark.drill
@pytest.mark.parametrize(
    ("limit", "by", "state"),
    [
        ("risk.daily_loss_fraction_max=0.0001", "breaker DAILY_LOSS", "REDUCING"),
        ("risk.breakers.drawdown_fraction_max=0.0001", "breaker DRAWDOWN", "HALTED"),
    ],
)
def test_a_lock_outlives_a_kill(limit: str, by: str, state: str, tmp_path: Path) -> None:
    """Killed when it has locked: it is locked as before, takes nothing new, and ends as if nobody had killed it."""
    day = ("market_data.first_session=2008-10-09", "market_data.last_session=2008-10-09", "http.enabled=false", limit)
    undisturbed, folder = finished(tmp_path / "undisturbed", *day), tmp_path / "killed"
    kill_when(folder, f"SELECT EXISTS (SELECT 1 FROM trading_state WHERE by = '{by}' AND state = '{state}')", *day)
    entries = "SELECT count(*) FROM order_intent WHERE leg = 'ENTRY'"
    with sqlite3.connect(folder / "finagent.db") as store:
        (before,) = store.execute(entries).fetchone()
    ended = finished(folder, *day)
    with sqlite3.connect(folder / "finagent.db") as store:
        assert store.execute("SELECT state, by FROM trading_state").fetchone() == (state, by)
        assert store.execute(entries).fetchone() == (before,)
    assert ended["outcome_hash"] == undisturbed["outcome_hash"]
    check(folder)


@pytest.mark.drill
def test_a_locked_strategy_stays_locked_over_kills(tmp_path: Path) -> None:
    """Killed, locked by a command, killed again once it was refused something: to the end it gets nothing, and others do."""
    folder, days = tmp_path / "killed", ("market_data.last_session=2008-10-14", "http.enabled=false")
    kill_when(folder, "SELECT EXISTS (SELECT 1 FROM account_snapshot WHERE kind = 'CLOSE')", *days)
    locked = finagent("halt", "--strategy", "first", "--reason", "a test", *command(folder, *days)[2:])
    assert locked.returncode == 0, locked.stderr
    kill_when(folder, "SELECT EXISTS (SELECT 1 FROM risk_decision WHERE code = 'STRATEGY_LOCKED')", *days)
    finished(folder, *days)
    verdicts = (
        "SELECT run.entry, verdict.code, count(*) FROM risk_decision AS verdict JOIN pipeline_run AS run USING (run_id) "
        "WHERE verdict.at > (SELECT at FROM strategy_lock WHERE strategy = 'first' AND state = 'LOCKED') GROUP BY 1, 2"
    )
    with sqlite3.connect(folder / "finagent.db") as store:
        found = {(entry, code): count for entry, code, count in store.execute(verdicts)}

    assert {code for entry, code in found if entry == "first"} == {"STRATEGY_LOCKED"}
    assert {code for entry, code in found if entry != "first"} - {"STRATEGY_LOCKED"}
    check(folder)


@pytest.mark.drill
def test_at_a_pace_the_market_runs_on_and_what_came_too_late_is_expired(tmp_path: Path) -> None:
    """Killed before the first scan and started after it: the scan is EXPIRED, the rest goes on, the checker finds nothing."""
    folder = tmp_path / "paced"
    day = ("market_data.first_session=2008-10-09", "market_data.last_session=2008-10-09", "http.enabled=false")
    paced = (*day, "replay.pace=1800", "scan.misfire_seconds=60")
    kill_when(folder, "SELECT EXISTS (SELECT 1 FROM job_queue WHERE type = 'scan')", *paced)
    time.sleep(1.2)  # 36 market minutes pass while nobody looks: that is what is tested
    finished(folder, *paced)

    assert _holds(folder / "finagent.db", "SELECT EXISTS (SELECT 1 FROM pipeline_run WHERE state = 'EXPIRED')")
    check(folder)
