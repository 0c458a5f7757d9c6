"""The commands of a person on a store that processes share."""

import json
import os
import time
from pathlib import Path

import pytest
from tests.contract.stores import POSTGRES, blocking, postgres_database, run_statements
from tests.integration.command import Ended, finagent
from tests.integration.test_commands import Agent

from finagent.adapters.database.anchor import Anchor, AnchorFile
from finagent.adapters.database.postgres import PostgresReads
from finagent.bootstrap import build_hash
from finagent.domain.trading_state import TradingState, TradingStateRecord


def on(url: str, folder: Path, *command: str) -> Ended:
    return finagent(*command, *sets(url, folder))


def sets(url: str, folder: Path) -> tuple[str, ...]:
    named = (f"storage.url={url}", "queue.backend=postgres", f"storage.directory={folder}", "http.enabled=false")
    return tuple(part for each in named for part in ("--set", each))


@pytest.mark.timeout(240)
def test_a_day_on_a_server_and_what_is_asked_of_it(postgres_url: str, tmp_path: Path) -> None:
    window = ("--set", "market_data.first_session=2008-10-06", "--set", "market_data.last_session=2008-10-07")
    with postgres_database(postgres_url, f"finagent_commands_{os.getpid()}") as url:
        alone = finagent(
            "orchestrate", "--json", *window, "--set", f"storage.directory={tmp_path / 'file'}", "--set", "http.enabled=false"
        )
        shared = on(url, tmp_path / "server", "orchestrate", "--json", *window)
        status = on(url, tmp_path / "server", "status", "--json", *window)
        stats = on(url, tmp_path / "server", "jobs", "stats", "--json", *window)
        halted = on(url, tmp_path / "server", "halt", "--reason", "enough", "--json", *window)
        doctor = on(url, tmp_path / "server", "doctor", "--json", *window)
        fresh = on(url, tmp_path / "server", "orchestrate", "--fresh", *window)
        other = on(url, tmp_path / "server", "worker", *window, "--set", "plan.valid_minutes=7")
        armed = on(url, tmp_path / "server", "arm", "--reason", "looked", "--json", *window)
        blocking(run_statements(url, "INSERT INTO lease VALUES ('leader', 999, 'elsewhere', '', 9e12)"))
        (tmp_path / "here").mkdir()
        from_here = on(url, tmp_path / "here", "halt", "--reason", "seen from another host", "--json", *window)
        reads = PostgresReads(url, POSTGRES)
        state = reads.find(TradingStateRecord)[0]
        reads.close()
        (tmp_path / "wrong").mkdir()
        AnchorFile(tmp_path / "wrong" / "anchor").write(Anchor("led-other", 1, 1, 0, "", 0, "", ""))
        wrong = on(url, tmp_path / "wrong", "orchestrate", *window)

    assert (alone.returncode, shared.returncode) == (0, 0), shared.stderr
    assert json.loads(shared.stdout)["outcome_hash"] == json.loads(alone.stdout)["outcome_hash"]
    assert json.loads(status.stdout)["processes"] == []
    assert json.loads(stats.stdout)
    assert json.loads(halted.stdout)["state"] == "HALTED"
    assert "PostgreSQL" in next(one["text"] for one in json.loads(doctor.stdout)["findings"] if one["name"] == "database")
    assert json.loads(armed.stdout)["state"] == "ACTIVE"
    assert (from_here.returncode, json.loads(from_here.stdout)["recorded_by"]) == (0, "command")
    assert (state.state, state.reason) == (TradingState.HALTED, "seen from another host"), (
        "whoever leads reads it before each send"
    )
    assert (wrong.returncode, "remembers led-other" in wrong.stderr) == (2, True)
    assert (fresh.returncode, "name another one in storage.url" in fresh.stderr) == (2, True)
    assert (other.returncode, "the agent's settings decide otherwise" in other.stderr) == (2, True)


def test_a_standby_stops_when_it_is_told_to(postgres_url: str, tmp_path: Path) -> None:
    """Long before it would lead; it leaves the store as it was. One of another build does not even wait."""
    with postgres_database(postgres_url, f"finagent_standby_{os.getpid()}") as url:
        blocking(run_statements(url, "INSERT INTO lease VALUES ('leader', 999, 'elsewhere', '', 9e12)"))
        refused = on(url, tmp_path, "orchestrate")
        blocking(run_statements(url, f"UPDATE lease SET build_hash = '{build_hash()}'"))
        standby = Agent("orchestrate", *sets(url, tmp_path))
        standby.until("leader_awaited")
        began = time.monotonic()
        code = standby.end()
        seconds = time.monotonic() - began
        reads = PostgresReads(url, POSTGRES)
        leases = reads.rows("SELECT worker_id FROM lease")
        reads.close()

    assert (refused.returncode, f"this is build {build_hash()}" in refused.stderr) == (2, True), refused.stderr
    assert (code, leases) == (130, [("elsewhere",)]), standby.said
    assert seconds < 10, "it waited for the lease"
    assert not (tmp_path / "anchor").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("worker",), 2, "a worker needs queue.backend postgres"),
        (("worker", "--services", "risk"), 2, "one or more of scoring, planner"),
        (("orchestrate", "--set", "queue.backend=postgres"), 2, "they go together"),
        (("orchestrate", "--set", "storage.url=mysql://x"), 2, "postgresql://USER@HOST/DATABASE"),
        (
            ("status", "--set", "queue.backend=postgres", "--set", "storage.url=postgresql://me:pass@127.0.0.1:1/x"),
            4,
            r"cannot reach the database postgresql://me:***@127.0.0.1:1/x",
        ),
        (
            (
                "orchestrate",
                "--set",
                "queue.backend=postgres",
                "--set",
                "storage.url=postgresql://me@127.0.0.1:1/x",
                "--set",
                "queue.lease_seconds=20",
            ),
            2,
            "queue.lease_seconds is 20: it must exceed",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments: tuple[str, ...], code: int, complaint: str, tmp_path: Path) -> None:
    ended = finagent(*arguments, "--set", f"storage.directory={tmp_path}")

    assert (ended.returncode, complaint in ended.stderr) == (code, True), ended.stderr
