"""The proof proves something: each planted bug makes the drill fail, by the rule that it breaks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.drill, pytest.mark.timeout(400)]

# bug -> the rules that may name it, and where to kill (nowhere: it shows in an undisturbed replay)
BUGS: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "send_before_commit": ({"I2"}, ("intent_commit.before",)),
    "new_id_on_timeout": ({"I2"}, ()),
    "acknowledge_before_effect": ({"EQUALITY", "I1"}, ("intent_commit.before",)),
    "fill_counted_twice": ({"I3"}, ()),
    "start_after_market_clock": ({"EQUALITY", "I3"}, ("send.after",)),
    "fault_by_count": ({"EQUALITY"}, ("send.after",)),
}


@pytest.fixture(scope="module")
def drills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """All drills at once: they mostly sleep."""
    place = tmp_path_factory.mktemp("planted")
    running = {}
    for bug, (_, labels) in BUGS.items():
        command = [
            sys.executable,
            "-m",
            "finagent.cli",
            "drill",
            "kill",
            "--kills",
            "4",
            "--seed",
            "1",
            "--replays",
            "2",
            "--json",
        ]
        command += ["--application", f"tests.planted_bugs.{bug}:application", "--directory", str(place / bug)]
        command += [part for label in labels for part in ("--label", label)]
        running[bug] = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ}
        )
    yield running
    for process in running.values():
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize("bug", BUGS)
def test_the_drill_finds_the_planted_bug(drills: dict[str, "subprocess.Popen[str]"], bug: str) -> None:
    said, _ = drills[bug].communicate(timeout=350)
    document: dict[str, Any] = json.loads(said)

    assert drills[bug].returncode == 3
    assert BUGS[bug][0] & {violation["invariant"] for violation in document["violations"]}, document["violations"]
