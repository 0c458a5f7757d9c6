"""The power fails at a hundred instants: what was acknowledged is there; and the drill tells an agent that does not sync."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IMAGES, IMAGES_OF_THE_BUG = 100, 20
NORMAL = "tests.planted_bugs.normal_instead_of_full:application"
pytestmark = [pytest.mark.drill, pytest.mark.timeout(400)]


def power_loss(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "finagent.cli", "drill", "power-loss", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def drills(tmp_path_factory: pytest.TempPathFactory, strace: str) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """Both at once: half of each is waiting for the disk."""
    place = tmp_path_factory.mktemp("power")
    running = {
        "agent": power_loss("--images", IMAGES, "--seed", 1, "--directory", place / "agent", "--json"),
        "bug": power_loss(
            "--images", IMAGES_OF_THE_BUG, "--seed", 1, "--directory", place / "bug", "--application", NORMAL, "--json"
        ),
    }
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


def test_a_hundred_power_cuts_lose_nothing(drills: dict[str, "subprocess.Popen[str]"]) -> None:
    """F-05."""
    said, progress = drills["agent"].communicate(timeout=390)

    document: dict[str, Any] = json.loads(said)
    assert document["violations"] == []
    assert drills["agent"].returncode == 0
    assert (document["images"], document["lost"], document["corrupt"]) == (IMAGES, 0, 0)
    assert document["synchronous"] == "FULL"
    assert document["recording"]["commits"] > document["recording"]["checkpoints"] > 20
    assert sum(document["damage"].values()) == IMAGES
    assert min(document["damage"].values()) >= IMAGES // 10
    assert min(document["dealt"][kind] for kind in ("dropped", "kept", "torn", "hollow")) > 0
    assert document["instants"]["in_checkpoint"] >= IMAGES // 20
    assert f"{IMAGES}/{IMAGES}" in progress


def test_an_agent_that_does_not_sync_its_commits_loses_some(drills: dict[str, "subprocess.Popen[str]"]) -> None:
    said, _ = drills["bug"].communicate(timeout=390)

    document: dict[str, Any] = json.loads(said)
    assert drills["bug"].returncode == 3
    assert document["synchronous"] == "NORMAL"
    assert document["lost"] >= document["images_lost"] > 0
    damaged = [violation for violation in document["violations"] if violation["invariant"] == "I7"]
    assert all(violation["message"].startswith("anchor ") for violation in damaged), "whole files, found older than their anchor"
    assert "I9" in {violation["invariant"] for violation in document["violations"]}


def test_without_strace_it_says_what_is_missing(tmp_path: Path) -> None:
    process = power_loss("--images", 1, "--directory", tmp_path / "drill", PATH=str(tmp_path))
    _, complaint = process.communicate(timeout=60)

    assert process.returncode == 4
    assert "strace is not installed" in complaint


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    process = power_loss("--images", 1, "--directory", tmp_path)
    _, complaint = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "is not empty" in complaint
