"""The peers' scripts, run as they stand: what is not installed drops out by name, the rest is timed together with ours."""

import ast
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finagent.bench.contest import Contestant
from finagent.domain.errors import BadInput

FOLDER = Path(__file__).parents[3] / "tests" / "benchmarks"


class PeerScript:
    """A script of the form `rep(NAME, FUNCTION)` and `med(FUNCTION)`, whose functions are collected instead of timed at once.

    `data` is what the script defined: the very arrays that the peers read. `contestants` are its `rep` calls, `floors` its bare
    `med` calls in order, `absent` the calls that could not be made, with the reason. The script's text is not changed.
    """

    def __init__(self, path: Path, arguments: tuple[str, ...]) -> None:
        if not path.is_file():
            raise BadInput(f"{path} is missing: the peers' scripts come with a clone of the repository, not with the package")
        self.contestants: list[Contestant] = []
        self.floors: list[Contestant] = []
        self.absent: list[str] = []
        self.data: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
        missing: dict[str, str] = {}
        module = ast.parse(path.read_text(), filename=str(path))
        with contextlib.redirect_stdout(io.StringIO()), _arguments(path, arguments):
            for statement in module.body:
                code = compile(ast.Module([statement], []), str(path), "exec")
                try:
                    exec(code, self.data)  # noqa: S102 our own copy of the peers' script, pinned by its hash in a test
                except (ImportError, NameError) as error:
                    reason = missing.get(
                        error.name or "", f"{error.name} is not installed" if _imports(statement) else str(error)
                    )
                    missing.update(dict.fromkeys(_bound(statement), reason))
                    self.absent.extend(f"{name}: {reason}" for name in _named_calls(statement))
                self.data.update({name: own for name, own in (("rep", self._rep), ("med", self._med)) if name in self.data})

    def _rep(self, name: str, run: Callable[[], object], calls: int = 0) -> None:
        run()  # a peer whose library is missing fails here, not in the middle of the contest
        self.contestants.append(Contestant(name, run))

    def _med(self, run: Callable[[], object], calls: int = 0) -> tuple[float, object]:
        self.floors.append(Contestant(f"floor {len(self.floors)}", run))
        return 0.0, run()


@contextlib.contextmanager
def _arguments(path: Path, arguments: tuple[str, ...]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [str(path), *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _imports(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)


def _bound(statement: ast.stmt) -> list[str]:
    """Names that the statement would have bound."""
    if isinstance(statement, ast.FunctionDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _named_calls(statement: ast.stmt) -> list[str]:
    """The first argument of each `rep` call in the statement."""
    return [
        str(node.args[0].value)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "rep"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]
