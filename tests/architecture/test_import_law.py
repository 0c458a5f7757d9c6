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
        ("services/planner", "finagent.adapters", "Imports point inward"),
        ("domain/money", "finagent.services", "Imports point inward"),
        ("quant/gap_scan", "finagent.telemetry", "Imports point inward"),
        ("adapters/clock", "finagent.settings", "Imports point inward"),
        ("services/scoring", "torch", "What trades does not train"),
        ("services/learning", "sklearn.ensemble", "What trades does not train"),
    ],
)
def test_a_planted_breach_is_named(tmp_path: Path, module: str, target: str, contract: str) -> None:
    package = "planted_house"
    planted_house(tmp_path, package, module, f"import {target}".replace("finagent", package))

    result = lint(tmp_path)

    assert result.returncode != 0
    assert contract in result.stdout
    assert module.replace("/", ".") in result.stdout


TRAINING = {"torch": "quant/specialists", "sklearn": "quant/specialists", "onnx": "adapters/models"}


def test_what_trains_is_imported_in_its_rooms_alone() -> None:
    """And what composes and serves the agent loads none of it."""
    for package, room in TRAINING.items():
        files = [
            str(path.relative_to(ROOT / "src/finagent"))
            for path in (ROOT / "src/finagent").rglob("*.py")
            if re.search(rf"^\s*(import|from) {package}\b", path.read_text(), re.MULTILINE)
        ]
        assert files
        assert [path for path in files if not path.startswith(room)] == []
    script = (
        "import sys; import finagent.bootstrap, finagent.bootstrap.models, finagent.app, finagent.cli.orchestrate, "
        "finagent.cli.models; print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, *TRAINING, "mlflow", "safetensors"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"
