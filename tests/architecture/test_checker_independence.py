"""The checker shares no code with what it checks: it imports the standard library and itself, nothing else."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import finagent_checker

FOLDER = Path(finagent_checker.__file__).parent
ALLOWED = sys.stdlib_module_names | {"finagent_checker"}


def imported(source: str) -> Iterator[str]:
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "finagent_checker" if node.level else str(node.module).split(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            yield "__import__"


def test_the_checker_imports_the_standard_library_and_itself() -> None:
    modules = sorted(FOLDER.rglob("*.py"))

    assert len(modules) > 5
    foreign = {(module.name, name) for module in modules for name in imported(module.read_text()) if name not in ALLOWED}
    assert foreign == set()


def test_an_import_of_the_agent_would_be_seen() -> None:
    source = "def late():\n    from finagent.domain import orders\n    import importlib\n    return orders"

    assert set(imported(source)) - ALLOWED == {"finagent"}
