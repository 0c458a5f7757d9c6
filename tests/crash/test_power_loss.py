"""The power fails at a hundred instants: what was acknowledged is there; and the drill tells an agent that does not sync."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command import Ended, finagent

ROOT = Path(__file__).parents[2]
IMAGES, IMAGES_OF_THE_BUG = 100, 20
NORMAL = "tests.planted_bugs.normal_instead_of_full:application"
pytestmark = [pytest.mark.drill, pytest.mark.timeout(400)]


def power_loss(*arguments: object) -> Ended:
    return finagent("drill", "power-loss", *map(str, arguments))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("power")


@pytest.fixture(scope="module")
def bug(place: Path, strace: str) -> Iterator["subprocess.Popen[str]"]:
    """Beside the drill of the agent: half of each is waiting for the disk."""
    arguments = ["--images", IMAGES_OF_THE_BUG, "--seed", 1, "--directory", place / "bug", "--application", NORMAL, "--json"]
    command = [sys.executable, "-m", "finagent.cli", "drill", "power-loss", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("bug")
def test_a_hundred_power_cuts_lose_nothing(place: Path) -> None:
    """F-05."""
    ended = power_loss("--images", IMAGES, "--seed", 1, "--directory", place / "agent", "--json")

    document: dict[str, Any] = json.loads(ended.stdout)
    assert document["violations"] == []
    assert ended.returncode == 0
    assert (document["images"], document["lost"], document["corrupt"]) == (IMAGES, 0, 0)
    assert document["synchronous"] == "FULL"
    assert document["recording"]["commits"] > document["recording"]["checkpoints"] > 20
    assert sum(document["damage"].values()) == IMAGES
    assert min(document["damage"].values()) >= IMAGES // 10
    assert min(document["dealt"][kind] for kind in ("dropped", "kept", "torn", "hollow")) > 0
    assert document["instants"]["in_checkpoint"] >= IMAGES // 20
    assert f"{IMAGES}/{IMAGES}" in ended.stderr


def test_an_agent_that_does_not_sync_its_commits_loses_some(bug: "subprocess.Popen[str]") -> None:
    said, _ = bug.communicate(timeout=390)

    document: dict[str, Any] = json.loads(said)
    assert bug.returncode == 3
    assert document["synchronous"] == "NORMAL"
    assert document["lost"] >= document["images_lost"] > 0
    damaged = [violation for violation in document["violations"] if violation["invariant"] == "I7"]
    assert all(violation["message"].startswith("anchor ") for violation in damaged), "whole files, found older than their anchor"
    assert "I9" in {violation["invariant"] for violation in document["violations"]}


def test_without_strace_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = power_loss("--images", 1, "--directory", tmp_path / "drill")

    assert ended.returncode == 4
    assert "strace is not installed" in ended.stderr


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    ended = power_loss("--images", 1, "--directory", tmp_path)

    assert ended.returncode == 2
    assert "is not empty" in ended.stderr
