"""The checker as others call it: a process, an exit code, one JSON document."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Spoil = Callable[..., None]


def checker(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "finagent_checker", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_clean_folder_exits_zero_with_its_counts(sound_folder: Path, reference_folder: Path) -> None:
    ended = checker(sound_folder, "--reference", reference_folder, "--complete", "--json")

    assert ended.returncode == 0
    document = json.loads(ended.stdout)
    assert document["violations"] == []
    assert (document["lost"], document["duplicate"], document["unequal"]) == (0, 0, 0)
    assert (document["orders"], document["candidates"]) == (3, 2)


def test_a_violation_exits_three_and_is_named_in_text(sound_folder: Path, spoil: Spoil) -> None:
    spoil("DELETE FROM decision_outcome WHERE decision_id = 'refused'")

    ended = checker(sound_folder)

    assert ended.returncode == 3
    assert "I1 refused: no signal outcome" in ended.stdout


def test_a_folder_without_files_is_bad_usage(tmp_path: Path) -> None:
    ended = checker(tmp_path)

    assert ended.returncode == 2
    assert "finagent.db: no such file" in ended.stderr


def test_a_reference_without_files_is_bad_usage(sound_folder: Path, tmp_path: Path) -> None:
    assert checker(sound_folder, "--reference", tmp_path / "nowhere").returncode == 2


def test_an_unknown_option_is_bad_usage(sound_folder: Path) -> None:
    assert checker(sound_folder, "--lenient").returncode == 2
