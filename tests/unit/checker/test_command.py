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


def test_a_resident_checker_answers_one_question_after_the_other(
    sound_folder: Path, reference_folder: Path, tmp_path: Path, spoil: Spoil
) -> None:
    questions = (
        {"folder": str(sound_folder), "reference": str(reference_folder), "complete": True},
        {"folder": str(tmp_path / "nowhere")},
        {"folder": str(sound_folder)},
    )
    asked = "".join(json.dumps(question) + "\n" for question in questions)
    spoil("DELETE FROM decision_outcome WHERE decision_id = 'refused'")

    ended = subprocess.run(
        [sys.executable, "-m", "finagent_checker", "--serve"],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    compared, missing, alone = map(json.loads, ended.stdout.splitlines())

    assert ended.returncode == 0
    assert compared["unequal"] == 1
    assert "finagent.db: no such file" in missing["missing"]
    assert (alone["unequal"], alone["lost"]) == (0, 1)


def test_neither_a_folder_nor_questions_is_bad_usage() -> None:
    assert checker().returncode == 2


def test_an_unknown_option_is_bad_usage(sound_folder: Path) -> None:
    assert checker(sound_folder, "--lenient").returncode == 2
