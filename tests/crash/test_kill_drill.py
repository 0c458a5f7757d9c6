"""F-01, F-02, F-03: the agent, killed thirty times at instants, at labels and while it recovers: nothing is lost or doubled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 30


def drill(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finagent.cli", "drill", "kill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


@pytest.mark.drill
@pytest.mark.timeout(400)
def test_thirty_kills_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    ended = drill("--kills", KILLS, "--seed", 1, "--directory", tmp_path / "drill", "--json", timeout=390)

    document = json.loads(ended.stdout)
    assert document["violations"] == []
    assert ended.returncode == 0
    assert (document["kills"], document["lost"], document["duplicate"], document["unequal"]) == (KILLS, 0, 0, 0)
    assert (document["conflicts"], document["parked"]) == (0, 0)
    assert document["cold_starts"] >= 1
    assert document["signals_at_risk"] >= 3 * KILLS
    assert document["kills_with_order_in_flight"] >= 0.2 * KILLS
    assert min(document["aims"][aim] for aim in ("instant", "label", "recovery")) >= KILLS // 5
    assert document["labels"] >= 60
    assert document["recovery_seconds"]["forked"]["p99"] < 10


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--broker", "alpaca"), "runs against 'simulated' only"),
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


def test_an_application_that_cannot_be_found_is_bad_input(tmp_path: Path) -> None:
    ended = drill("--application", "no.such.module:application", "--directory", tmp_path / "drill")

    assert ended.returncode == 2
    assert "no.such.module:application" in ended.stderr
