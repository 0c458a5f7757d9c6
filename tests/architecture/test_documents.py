"""Documents say what is true: tables equal the code, links lead somewhere, settings and commands exist and are explained."""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from finagent.cli.app import root
from finagent.domain.jobs import JOB_TRANSITIONS
from finagent.domain.orders import TRANSITIONS

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = ROOT / "settings.yaml"


def drawn_table(name: str) -> dict[str, set[str]]:
    """The table of ● below the marker of that name: state -> states it may become."""
    lines = ARCHITECTURE.read_text().split(f"<!-- {name} -->\n", 1)[1].splitlines()
    rows = [[cell.strip(" *") for cell in line.strip().strip("|").split("|")] for line in lines[: lines.index("")]]
    columns = rows[0][1:]
    return {row[0]: {state for state, cell in zip(columns, row[1:], strict=True) if cell == "●"} for row in rows[2:]}


def drawn_edges(name: str) -> set[tuple[str, str]]:
    """The arrows of the state diagram that follows the table, without start and end."""
    diagram = ARCHITECTURE.read_text().split(f"<!-- {name} -->\n", 1)[1].split("stateDiagram-v2", 1)[1].split("```", 1)[0]
    return {edge for edge in re.findall(r"^\s*(\S+) --> ([^\s:]+)", diagram, flags=re.MULTILINE) if "[*]" not in edge}


@pytest.mark.parametrize(("name", "table"), [("order states", TRANSITIONS), ("job states", JOB_TRANSITIONS)])
def test_the_state_tables_are_those_of_the_code(name: str, table: dict[Enum, frozenset[Enum]]) -> None:
    edges = {state.value: {to.value for to in targets} for state, targets in table.items()}

    assert drawn_table(name) == edges
    assert drawn_edges(name) <= {(state, to) for state, targets in edges.items() for to in targets}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    dead = [link for link in links if not link.startswith("http") and not (document.parent / link).exists()]

    assert dead == []


def paths(value: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, inner in value.items():
        found.add(f"{prefix}{key}")
        if isinstance(inner, dict):
            found |= paths(inner, f"{prefix}{key}.")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_named_in_documents_exist(document: Path) -> None:
    settings = yaml.safe_load(SETTINGS.read_text())
    known = paths(settings)
    named = {
        f"{section}.{key}"
        for section, key in re.findall(r"\b([a-z_]+)\.([a-z][a-z_.]*[a-z])\b", document.read_text())
        if section in settings
    }
    files = {name for name in named if name.endswith((".py", ".md", ".yaml", ".db", ".yml", ".db.lock", ".onnx"))}

    assert named - files - known == set()


def test_every_setting_is_explained_beside_it() -> None:
    """Unit and reason stand in a comment on the key's own line; entries of a mapping or list share that of their key."""
    bare = []
    shared_below: int | None = None
    for number, line in enumerate(SETTINGS.read_text().splitlines(), 1):
        body = line.split(" #")[0].rstrip()
        if not body or body.lstrip().startswith("#"):
            continue
        indent = len(body) - len(body.lstrip())
        if shared_below is not None and indent > shared_below:
            continue
        shared_below = None
        opens = body.endswith(":")
        if opens and " #" in line:
            shared_below = indent
        elif not opens and " #" not in line:
            bare.append(f"{number}: {line}")

    assert bare == []


def test_no_place_of_work_is_named() -> None:
    """Nothing in the repository points outside it: a clone must mean the same everywhere."""
    private = re.compile(r"/work/|/root/|/home/|/opt/(?!venv)|\bshared/data_|\.pyenv")
    texts = [*DOCUMENTS, *(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / ".ci").iterdir()]
    texts += [ROOT / name for name in ("Makefile", "Dockerfile", "docker-compose.yml", "pyproject.toml", "settings.yaml")]
    here = Path(__file__)
    found = [
        str(path.relative_to(ROOT)) for path in texts if path.is_file() and path != here and private.search(path.read_text())
    ]

    assert found == []


def commands() -> set[str]:
    """Every command of the program, such as "status" and "jobs list"."""
    found: set[str] = set()
    for name, command in vars(typer.main.get_command(root))["commands"].items():
        found.add(name)
        found |= {f"{name} {inner}" for inner in getattr(command, "commands", ())}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_named_in_documents_exist(document: Path) -> None:
    known = commands()
    groups = {name.split()[0] for name in known if " " in name}
    unknown = set()
    text = document.read_text()
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    for first, second in re.findall(r"^finagent ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", "\n".join(code), flags=re.MULTILINE):
        name = f"{first} {second}".strip() if first in groups else first
        if name not in known:
            unknown.add(name)

    assert unknown == set()
