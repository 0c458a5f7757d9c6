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
    named = {name for contract in contracts for key in ("source_modules", "forbidden_modules") for name in contract.get(key, ())}
    rooms |= {name.removeprefix("finagent.").replace(".", "/") for name in named if name.startswith("finagent.")}
    for room in sorted(rooms):
        for inner in (room, *map(str, Path(room).parents)):
            (folder / "src" / package / inner).mkdir(parents=True, exist_ok=True)
            (folder / "src" / package / inner / "__init__.py").touch()
    (folder / "src" / package / "__init__.py").touch()
    (folder / "src" / package / module).parent.mkdir(exist_ok=True)
    (folder / "src" / package / module).parent.joinpath("__init__.py").touch()
    (folder / "src" / package / f"{module}.py").write_text(line + "\n")
    text = (ROOT / "pyproject.toml").read_text()
    start = text.index("[tool.importlinter]")
    (folder / "pyproject.toml").write_text(text[start:].replace("finagent", package))


@pytest.mark.parametrize(
    ("module", "target", "contract"),
    [
        ("services/planner", "finagent.adapters", "Imports point inward"),
        ("domain/money", "finagent.services", "Imports point inward"),
        ("quant/gap_scan", "finagent.telemetry", "Imports point inward"),
        ("adapters/clock", "finagent.settings", "Imports point inward"),
        ("services/scoring", "torch", "What trades does not train"),
        ("quant/features/scaled", "sklearn.ensemble", "What trades does not train"),
        ("services/models/serving", "finagent.quant.specialists.training", "What trades does not train"),
    ],
)
def test_a_planted_breach_is_named(tmp_path: Path, module: str, target: str, contract: str) -> None:
    package = "planted_house"
    planted_house(tmp_path, package, module, f"import {target}".replace("finagent", package))

    result = lint(tmp_path)

    assert result.returncode != 0
    assert contract in result.stdout
    assert module.replace("/", ".") in result.stdout
