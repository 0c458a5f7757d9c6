"""A measurement in a process of its own, so that nobody inherits another's heap, threads or warm caches; its answer is JSON."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHILD_SECONDS_MAX = 180


class Absent(Exception):
    """The one who was to be measured is not here; the text says why."""


def answer(arguments: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The last JSON object that `python ARGUMENTS` prints, run in `folder`; raises Absent with its last words when none comes."""
    command = ["env", *(f"{name}={value}" for name, value in (variables or {}).items()), sys.executable, *arguments]
    try:
        process = subprocess.run(  # noqa: S603 our own scripts and those of the peers
            command, cwd=folder, capture_output=True, text=True, timeout=CHILD_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Absent(f"gave no answer within {CHILD_SECONDS_MAX} s") from error
    lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        said = (process.stderr or process.stdout).strip().splitlines() or [f"exit code {process.returncode}"]
        raise Absent(said[-1])
    return dict(json.loads(lines[-1]))
