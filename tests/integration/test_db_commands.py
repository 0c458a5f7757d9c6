"""`finagent db` on real stores and beside real processes: what is found, what is held back, and how a person takes it."""

import json
import shutil
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command import finagent
from tests.integration.test_commands import Agent, of

from finagent.adapters.database.migrate import downgrade
from finagent.cli.app import run
from finagent.policies import writer_policy
from finagent.settings import load_settings

SERVE = ("--set", "orchestrate.after_end=serve", "--set", "storage.anchor_seconds=0.01")
SOCKETS = shutil.ignore_patterns("*.sock")
STORE = ("finagent.db", "finagent.db-wal", "finagent.db-shm")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """A folder with a finished replay, its outcome hash, and a copy of the folder from the middle of it."""
    folder = tmp_path_factory.mktemp("stored")
    agent = Agent("orchestrate", "--json", *of(folder))
    agent.until("order_filled")
    agent.end()
    half_way = tmp_path_factory.mktemp("half") / "way"
    shutil.copytree(folder, half_way, ignore=SOCKETS)
    answer = finagent("orchestrate", "--json", *of(folder))
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(answer.stdout)["outcome_hash"], half_way


@pytest.fixture
def folder(replayed: tuple[Path, str, Path], tmp_path: Path) -> Path:
    """The finished replay, to be spoiled."""
    shutil.copytree(replayed[0], tmp_path / "copy", ignore=SOCKETS)
    return tmp_path / "copy"


def checked(capsys: pytest.CaptureFixture[str], folder: Path, code: int, *more: str) -> dict[str, Any]:
    """The document of `finagent db check`, which ends with that code."""
    assert run(["db", "check", "--json", *of(folder), *more]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def put_back(half_way: Path, folder: Path, *names: str) -> None:
    """An older state of these files, and nothing newer beside it."""
    for name in STORE:
        (folder / name).unlink(missing_ok=True)
    for name in names:
        shutil.copy(half_way / name, folder / name)


def test_a_sound_store_beside_nobody_and_beside_an_agent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(capsys, folder, 0)
    assert (found["sound"], found["faults"], found["first_bad_event"]) == (True, [], None)
    assert found["anchor"]["event_id"] == found["events"] > 50
    assert found["seals"] >= 2

    agent = Agent("orchestrate", *of(folder), *SERVE)
    agent.until("serving until SIGTERM")
    assert checked(capsys, folder, 0)["events"] == found["events"]
    assert agent.end() == 0
    assert run(["db", "check", *of(folder)]) == 0
    assert capsys.readouterr().out.endswith("sound\n")


def test_no_store_is_unavailable_and_no_database_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "check", *of(tmp_path)]) == 4
    assert "no database at" in capsys.readouterr().err
    (tmp_path / "finagent.db").write_text("no database " * 1000)
    assert [fault["part"] for fault in checked(capsys, tmp_path, 3)["faults"]] == ["FILE"]


def test_an_edited_event_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F-83: the first bad event, in the document and in words."""
    with closing(sqlite3.connect(folder / "finagent.db")) as database, database:
        database.execute("""UPDATE decision_event SET body = replace(body, '"', '''') WHERE event_id = 7""")

    assert checked(capsys, folder, 3)["first_bad_event"] == 7
    assert run(["db", "check", *of(folder)]) == 3
    assert "first bad event: 7" in capsys.readouterr().out


def test_a_removed_anchor_is_found_and_an_anchor_elsewhere_is_looked_for_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F-83."""
    (folder / "anchor").rename(tmp_path / "kept")

    assert [fault["part"] for fault in checked(capsys, folder, 3)["faults"]] == ["ANCHOR"]
    assert checked(capsys, folder, 0, "--set", f"storage.anchor={tmp_path / 'kept'}")["sound"]


def test_a_deleted_log_is_found_and_holds_the_agent_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F-15: commits that were in the write-ahead log alone are gone with it, and SQLite finds the file sound."""
    agent = Agent("orchestrate", *of(folder), *SERVE)
    agent.until("serving until SIGTERM")
    before = checked(capsys, folder, 0)["events"]
    assert run(["halt", "--reason", "news", *of(folder)]) == 0
    capsys.readouterr()
    patience = time.monotonic() + 30
    while json.loads((folder / "anchor").read_text())["event_id"] == before and time.monotonic() < patience:
        time.sleep(0.01)
    agent.end(signal.SIGKILL)
    for name in STORE[1:]:
        (folder / name).unlink()

    faults = checked(capsys, folder, 3)["faults"]
    assert [fault["part"] for fault in faults] == ["ANCHOR"]
    assert f"ends at event {before}, the anchor remembers {before + 1}" in faults[0]["message"]
    assert run(["status", "--json", *of(folder)]) == 0
    assert "older than its anchor" in json.loads(capsys.readouterr().out)["held_back"]

    assert run(["db", "accept", "--reason", "the log was deleted by hand", *of(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recorded_by"] == "command"
    assert checked(capsys, folder, 0)["events"] == before + 1
    assert run(["db", "accept", "--reason", "again", *of(folder)]) == 2
    assert "nothing to accept" in capsys.readouterr().err
    assert run(["db", "accept", "--reason", " ", *of(folder)]) == 2


def test_an_older_store_waits_for_a_person_and_then_ends_as_it_would_have(
    replayed: tuple[Path, str, Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F-18: store and broker put back to an earlier moment. The agent compares and takes no risk; status and readiness say why;
    accepted, it goes on from there to the same outcome."""
    _, outcome, half_way = replayed
    put_back(half_way, folder, "finagent.db", "broker-simulator.db")
    assert checked(capsys, folder, 3)["faults"][0]["part"] == "ANCHOR"

    agent = Agent("orchestrate", *of(folder))
    address = agent.until(r"health and metrics: (\S+)").group(1)
    agent.until("start_reconciled")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/health/ready", timeout=10)
    with refused.value as response:
        reasons = json.loads(response.read())["reasons"]
    assert reasons[0] == "start gate is RECONCILING"
    assert "older than its anchor" in reasons[1]
    assert run(["status", *of(folder)]) == 0
    told = capsys.readouterr().out
    assert "start gate RECONCILING" in told
    assert "no new risk until `finagent db accept`" in told

    assert run(["db", "accept", "--reason", "put back on purpose", *of(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "accepted": True,
        "reason": "put back on purpose",
        "by": getuser(),
        "recorded_by": "agent",
    }
    assert agent.wait() == 0
    assert run(["report", "--json", *of(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["outcome_hash"] == outcome
    assert checked(capsys, folder, 0)["sound"]


def test_a_stop_while_it_waits_decides_nothing(
    replayed: tuple[Path, str, Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, half_way = replayed
    put_back(half_way, folder, "finagent.db", "broker-simulator.db")
    before = checked(capsys, folder, 3)["events"]
    agent = Agent("orchestrate", *of(folder))
    agent.until("start_reconciled")

    assert agent.end() == 130
    assert checked(capsys, folder, 3)["events"] == before


def restored(folder: Path, file: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """The document of `finagent db restore`."""
    assert run(["db", "restore", str(file), "--json", *more, *of(folder)]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_a_backup_beside_an_agent_and_its_way_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F-18: the copy is made by the running agent, what happened since is named when it is restored, and nothing is traded on it
    before a person accepts."""
    copy = tmp_path / "monday.db"
    agent = Agent("orchestrate", *of(folder), *SERVE)
    agent.until("serving until SIGTERM")
    assert run(["db", "backup", str(copy), "--json", *of(folder)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["sound"], made["copied_by"], made["bytes"]) == (True, "agent", copy.stat().st_size)
    assert made["events"] == checked(capsys, folder, 0)["events"]
    assert run(["db", "restore", str(copy), "--replace", *of(folder)]) == 2
    assert "in use" in capsys.readouterr().err
    assert run(["db", "upgrade", *of(folder)]) == 2
    capsys.readouterr()
    assert run(["halt", "--reason", "news", *of(folder)]) == 0
    assert agent.end() == 0
    capsys.readouterr()

    assert run(["db", "restore", str(copy), *of(folder)]) == 2
    assert "--replace" in capsys.readouterr().err
    told = restored(folder, copy, capsys, "--replace")
    assert told["set_aside"] == str(folder / "runs" / "0001")
    assert told["rows_only_in_what_was_set_aside"]["decision_event"] == 1
    assert f"ends at event {made['events']}, the anchor remembers {made['events'] + 1}" in told["held_back"]
    assert [fault["part"] for fault in checked(capsys, folder, 3)["faults"]] == ["ANCHOR"]
    assert run(["db", "accept", "--reason", "monday's copy", *of(folder)]) == 0
    capsys.readouterr()
    assert checked(capsys, folder, 0)["sound"]


def test_a_backup_without_an_agent_overwrites_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "monday.db"
    assert run(["db", "backup", str(copy), *of(folder)]) == 0
    assert "by the command" in capsys.readouterr().out
    assert run(["db", "backup", str(copy), *of(folder)]) == 2
    assert "overwrites nothing" in capsys.readouterr().err
    assert run(["db", "backup", str(tmp_path / "nowhere" / "copy.db"), *of(folder)]) == 2
    assert "no folder" in capsys.readouterr().err
    assert run(["db", "backup", str(tmp_path / "other.db"), *of(tmp_path / "empty")]) == 4
    capsys.readouterr()
    assert run(["db", "backup", str(tmp_path / "other.db"), *of(folder), "--set", "storage.url=postgresql://h/d"]) == 2
    assert "pg_dump" in capsys.readouterr().err

    (new := tmp_path / "new").mkdir()
    told = restored(new, copy, capsys)
    assert (told["set_aside"], told["rows_only_in_what_was_set_aside"]) == (None, None)
    assert "there is no anchor" in told["held_back"]
    assert run(["db", "restore", str(copy), "--replace", *of(new)]) == 0
    assert "what was there is in" in capsys.readouterr().out


def test_a_store_that_is_not_sound_is_neither_copied_nor_restored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "monday.db"
    assert run(["db", "backup", str(copy), *of(folder)]) == 0
    for spoiled in (folder / "finagent.db", copy):
        with closing(sqlite3.connect(spoiled)) as database, database:
            database.execute("UPDATE decision_event SET kind = 'other' WHERE event_id = 5")
    capsys.readouterr()

    assert run(["db", "backup", str(tmp_path / "other.db"), *of(folder)]) == 3
    assert "is not sound" in capsys.readouterr().err
    assert run(["db", "restore", str(copy), "--replace", *of(folder)]) == 3
    assert "is not put in place" in capsys.readouterr().out
    assert not (tmp_path / "other.db").exists()
    assert run(["db", "restore", str(tmp_path / "none.db"), *of(folder)]) == 2
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy", "monday.db"]


def test_an_upgrade_says_what_it_did(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "upgrade", "--json", *of(folder)]) == 0
    same = json.loads(capsys.readouterr().out)
    assert (same["from"], same["changed"]) == (same["to"], False)
    downgrade(folder / "finagent.db", writer_policy(load_settings()), "0001")
    assert run(["db", "upgrade", *of(folder)]) == 0
    assert capsys.readouterr().out == f"migrated from 0001 to {same['to']}\n"
    assert run(["db", "upgrade", *of(folder)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(["db", "upgrade", *of(tmp_path / "empty")]) == 4


def test_an_archive_is_written_once_and_verified_after_that(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "archive", *of(folder)]) == 0
    assert capsys.readouterr().out == "no month is closed yet\n"
    for outcome in ("WRITTEN", "VERIFIED"):
        assert run(["db", "archive", "--before", "2008-11", "--json", *of(folder)]) == 0
        (month,) = json.loads(capsys.readouterr().out)["months"]
        assert (month["month"], month["outcome"]) == ("2008-10", outcome)
    (folder / "archive" / "2008-10.jsonl.gz").unlink()
    assert run(["db", "archive", "--before", "2008-11", *of(folder)]) == 3
    assert "DIFFERS" in capsys.readouterr().out
    assert run(["db", "archive", "--before", "2008-13", *of(folder)]) == 2
    assert "YYYY-MM" in capsys.readouterr().err
