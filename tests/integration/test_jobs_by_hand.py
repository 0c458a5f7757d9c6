"""`finagent jobs retry` and `discard` on real stores, with a running agent and without one."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command import finagent

from finagent.cli import jobs_by_hand
from finagent.cli.app import run

START = (sys.executable, "-m", "finagent.cli", "orchestrate")
PATIENCE_SECONDS = 60


def of(folder: Path) -> tuple[str, ...]:
    day = ("--set", "market_data.first_session=2008-10-13", "--set", "market_data.last_session=2008-10-13")
    return (*day, "--set", f"storage.directory={folder}", "--set", "http.port=0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of one session at its end, in which three jobs of candidates have got stuck."""
    folder = tmp_path_factory.mktemp("stuck")
    assert finagent("orchestrate", *of(folder)).returncode == 0
    with closing(sqlite3.connect(folder / "finagent.db")) as database, database:
        for kind, status, limit in (("score", "DEAD", 2), ("execute", "PARKED", 2)):
            stuck = "SELECT id FROM job_queue WHERE type = ? ORDER BY id LIMIT ?"
            database.execute(
                f"UPDATE job_queue SET status = ?, attempts = 5, crashes = 1, last_error = 'boom' WHERE id IN ({stuck})",
                (status, kind, limit),
            )
        stuck = "SELECT id FROM job_queue WHERE type = 'reconcile' ORDER BY id LIMIT 10"
        database.execute(f"UPDATE job_queue SET status = 'DEAD', last_error = 'TimeoutError: boom' WHERE id IN ({stuck})")
        database.execute("UPDATE job_queue SET status = 'PARKED', type = 'telepathy' WHERE type = 'report'")
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    """An agent that stays up on that folder."""
    command = [*START, *of(folder), "--set", "orchestrate.after_end=serve"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(re.search("serving until SIGTERM", line) for line in process.stderr)
            yield
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON document of a command run in this process."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def one(capsys: pytest.CaptureFixture[str], folder: Path, kind: str, status: str) -> str:
    """The id of a job of that type in that status."""
    listed = document(capsys, "jobs", "list", "--type", kind, "--status", status, "--limit", "1", *of(folder))
    return str(listed[0]["id"])


def retried_and_discarded(capsys: pytest.CaptureFixture[str], folder: Path, recorder: str) -> None:
    """Both acts on a job each, what they answer, store and tell; and what is refused."""
    dead, parked = one(capsys, folder, "score", "DEAD"), one(capsys, folder, "execute", "PARKED")

    answer = document(capsys, "jobs", "retry", dead, *of(folder))
    assert answer == {"job": int(dead), "status": "READY", "recorded_by": recorder}
    shown = document(capsys, "jobs", "show", dead, *of(folder))
    assert (shown["status"], shown["attempts"], shown["crashes"], shown["last_error"]) == ("READY", 0, 0, "boom")
    told = document(capsys, "explain", dead, *of(folder))["events"]
    assert [event["body"]["by"] for event in told if event["kind"] == "job_retried"] == [getuser()]

    answer = document(capsys, "jobs", "discard", parked, "--reason", "by hand", *of(folder))
    assert answer == {"job": int(parked), "status": "DEAD", "recorded_by": recorder}
    shown = document(capsys, "jobs", "show", parked, *of(folder))
    assert (shown["status"], shown["last_error"]) == ("DEAD", f"discarded by {getuser()}: by hand (before: boom)")

    for again in (["retry", dead], ["retry", parked], ["retry", "987654"], ["discard", dead, "--reason", "r"]):
        assert run(["jobs", *again, *of(folder)]) == 2
        assert f"job {again[1]}" in capsys.readouterr().err


def moved_by_conditions(capsys: pytest.CaptureFixture[str], folder: Path, recorder: str) -> None:
    """The newest that meet all of them, in the order of their age; what was discarded is left alone, what is refused exits 3."""
    dead = document(capsys, "jobs", "list", "--key", "reconcile:", "--status", "DEAD", *of(folder))
    stuck = [row["id"] for row in dead if "known fault" not in row["last_error"]]
    conditions = ("--type", "reconcile", "--error", "timeout", "--limit", "2")

    assert document(capsys, "jobs", "retry", *conditions, *of(folder)) == {
        "jobs": [stuck[1], stuck[0]],
        "refused": [],
        "recorded_by": recorder,
        "status": "READY",
    }
    assert run(["jobs", "discard", *conditions, "--reason", "known fault", *of(folder)]) == 0
    assert capsys.readouterr().out == f"2 jobs are DEAD: recorded by the {recorder}\n"
    given_up = [row["id"] for row in document(capsys, "jobs", "list", "--error", "known fault", *of(folder))]
    assert set(given_up) & set(stuck) == {stuck[2], stuck[3]}
    one_more = document(capsys, "jobs", "discard", *conditions, "--limit", "1", "--reason", "known fault", *of(folder))
    assert one_more["jobs"] == [stuck[4]]

    assert run(["jobs", "retry", "--type", "telepathy", *of(folder)]) == 3
    assert "this one knows no such type" in capsys.readouterr().out
    assert run(["jobs", "retry", "--type", "expire", *of(folder)]) == 0
    assert "no job that is DEAD or PARKED" in capsys.readouterr().out
    assert run(["jobs", "retry", "--type", "divination", *of(folder)]) == 2
    assert "--type divination: one of close_out" in capsys.readouterr().err


def test_without_an_agent_the_command_is_the_writer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    retried_and_discarded(capsys, folder, "command")
    moved_by_conditions(capsys, folder, "command")


def test_a_running_agent_is_asked(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_by_hand, "AT_ONCE", 1)  # several requests, one after the other
    with serving(folder):
        retried_and_discarded(capsys, folder, "agent")
        moved_by_conditions(capsys, folder, "agent")


def test_a_discard_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "discard", "1", "--reason", " ", *of(folder)]) == 2
    assert "--reason must say why" in capsys.readouterr().err
