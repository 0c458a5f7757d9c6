"""F-01, F-02, F-03: the agent, killed thirty times at instants, at labels and while it recovers: nothing is lost or doubled."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command import Ended, finagent

KILLS = 30


def drill(*arguments: object) -> Ended:
    return finagent("drill", "kill", *map(str, arguments))


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    ended = drill("--kills", KILLS, "--seed", 1, "--directory", tmp_path_factory.mktemp("drill") / "drill", "--json")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document | {"exit_code": ended.returncode}


@pytest.mark.drill
@pytest.mark.timeout(400)
def test_thirty_kills_lose_nothing_and_send_nothing_twice(drilled: dict[str, Any]) -> None:
    assert drilled["violations"] == []
    assert drilled["exit_code"] == 0
    assert (drilled["kills"], drilled["lost"], drilled["duplicate"], drilled["unequal"]) == (KILLS, 0, 0, 0)
    assert (drilled["conflicts"], drilled["parked"]) == (0, 0)
    assert drilled["cold_starts"] >= 1
    assert drilled["signals_at_risk"] >= 3 * KILLS
    assert drilled["kills_with_order_in_flight"] >= 0.2 * KILLS
    assert drilled["recovery_seconds"]["forked"]["p99"] < 10


@pytest.mark.drill
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "aim", [pytest.param("instant", id="F-01"), pytest.param("label", id="F-02"), pytest.param("recovery", id="F-03")]
)
def test_kills_of_every_aim_were_among_them(aim: str, drilled: dict[str, Any]) -> None:
    """F-01 at any instant, F-02 at a labelled failpoint, F-03 while it recovers."""
    assert drilled["aims"][aim] >= KILLS // 5
    assert drilled["labels"] >= 60


@pytest.mark.drill
@pytest.mark.timeout(400)
def test_kills_at_alpaca_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    """The real SDK and HTTP between agent and broker, resets, cut answers and gateways' pages on the way."""
    ended = drill("--broker", "alpaca", "--kills", 10, "--seed", 1, "--directory", tmp_path / "drill", "--json")
    found = json.loads(ended.stdout)
    assert found["violations"] == []
    assert (found["kills"], found["lost"], found["duplicate"], found["unequal"], found["parked"]) == (10, 0, 0, 0, 0)
    assert found["kills_with_order_in_flight"] >= 1
    assert ended.returncode == 0


@pytest.mark.drill
@pytest.mark.timeout(400)
def test_risk_that_was_split_by_history_is_split_so_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between scan, score and plan: the parts are those that the scan has committed, or the same ones computed again."""
    monkeypatch.setenv("FINAGENT__RISK__ALLOCATION", "hrp")
    monkeypatch.setenv("FINAGENT__RISK__ALLOCATION_RULES__DAYS_MIN", "20")  # a drill's market has thirty days before it
    labels = [f"handler.{name}.{side}" for name in ("scan", "score", "plan") for side in ("before", "after")]
    named = [word for label in labels for word in ("--label", label)]
    found = json.loads(drill("--kills", 3, "--seed", 3, "--directory", tmp_path / "drill", *named, "--json").stdout)
    (folder, *_) = sorted((tmp_path / "drill").rglob("finagent.db"))
    with closing(sqlite3.connect(folder)) as store:
        sizes = {reason for (reason,) in store.execute("SELECT reason FROM trade_plan")}

    assert (found["kills"], found["lost"], found["duplicate"], found["unequal"], found["conflicts"]) == (3, 0, 0, 0, 0)
    assert len({size.split("(")[1].split()[0] for size in sizes}) > 20, "parts differ from trade to trade"
    assert all("of an equal part: hrp of " in size for size in sizes)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--broker", "real"), "both simulators"),
        (("--label", "nowhere.before"), "the labels are migration_step.after"),
        (("--kills", "0"), "kills"),
    ],
)
def test_a_drill_that_makes_no_sense_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    ended = drill(*arguments)

    assert ended.returncode == 2
    assert complaint in ended.stderr


def test_a_folder_with_something_in_it_is_not_drilled_in(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()

    ended = drill("--directory", tmp_path)

    assert ended.returncode == 2
    assert "is not empty" in ended.stderr


def test_an_application_that_cannot_be_found_is_bad_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The fork server says so, on the stderr of the process."""
    ended = drill("--application", "no.such.module:application", "--directory", tmp_path / "drill")

    assert ended.returncode == 2
    assert "no.such.module:application" in capfd.readouterr().err
