"""Imports point one way: the contracts in pyproject.toml hold, and a breach of them would be seen."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).parent / "lint-imports"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT), "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder / "src",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_import_points_outward() -> None:
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout


def planted_house(folder: Path, package: str, module: str, line: str) -> None:
    """A small house under the project's own contracts with one module that holds `line`."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = {room for layer in layers for room in re.findall(r"\w+", layer)}
    for room in sorted(rooms):
        (folder / "src" / package / room).mkdir(parents=True, exist_ok=True)
        (folder / "src" / package / room / "__init__.py").touch()
    (folder / "src" / package / "__init__.py").touch()
    (folder / "src" / package / f"{module}.py").write_text(line + "\n")
    text = (ROOT / "pyproject.toml").read_text()
    start = text.index("[tool.importlinter]")
    (folder / "pyproject.toml").write_text(text[start:].replace("finagent", package))


@pytest.mark.parametrize(
    ("module", "target", "contract"),
    [
        ("services/planner", "adapters", "Imports point inward"),
        ("domain/money", "services", "Imports point inward"),
        ("quant/gap_scan", "telemetry", "Imports point inward"),
        ("adapters/clock", "settings", "Imports point inward"),
    ],
)
def test_a_planted_breach_is_named(tmp_path: Path, module: str, target: str, contract: str) -> None:
    package = "planted_house"
    planted_house(tmp_path, package, module, f"import {package}.{target}")

    result = lint(tmp_path)

    assert result.returncode != 0
    assert contract in result.stdout
    assert module.replace("/", ".") in result.stdout
