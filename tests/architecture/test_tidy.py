"""Habits of the house, held by reading the source as syntax trees: every ban names what to use instead."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "finagent"
CORE = ("domain", "quant", "services")

FUNCTION_LINES_MAX = 70
# Functions that read straight through (a table, a wiring list) may be longer, each with its length: the ratchet only tightens.
LONG_FUNCTIONS: dict[str, int] = {}

MEANINGLESS_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base"}


@dataclass(frozen=True)
class Ban:
    """A call or name that is not used in `rooms` (first folders or files below finagent; empty: everywhere), nor where
    `except_in` does not name the first folder or the file."""

    pattern: str
    instead: str
    rooms: tuple[str, ...] = ()
    except_in: tuple[str, ...] = ()


BANS = (
    Ban(r"(datetime\.)?datetime\.(now|utcnow|today)|(datetime\.)?date\.today", "the Clock port", CORE),
    Ban(r"(datetime\.)?datetime\.utcnow", "datetime.now(UTC) behind the Clock port"),
    Ban(r"time\.(time|time_ns|localtime|gmtime)", "the Clock port", CORE),
    Ban(r"time\.sleep", "a job with run_at; an adapter waits on an event with a time-out", except_in=("drill",)),
    Ban(r"asyncio\.sleep", "a job with run_at (no handler sleeps, in either time)", CORE),
    Ban(
        r"random\.\w+|(np|numpy)\.random\.\w+|secrets\.\w+",
        "domain.chance: Philox keyed by what is drawn for",
        ("domain", "services"),
    ),
    Ban(
        r"random\.(?!SystemRandom)\w+|(np|numpy)\.random\.(?!Philox|Generator)\w+",  # a drill's jitter must not be repeatable
        "Philox keyed by (seed, purpose, id)",
    ),
    Ban(r"(uuid\.)?uuid[1-8]", "domain.identity: an id derived from what it names", CORE),
    Ban(
        r"os\.(getenv|environ|environb|putenv)(\.\w+)?",
        "finagent.settings: the one reader of the environment",
        (),
        ("settings.py", "settings", "drill"),
    ),
    Ban(r"asyncio\.(create_task|ensure_future)|\w+\.create_task", "a TaskGroup that owns the task", CORE),
    Ban(r"asyncio\.to_thread|\w+\.run_in_executor", "an adapter, which is where blocking work lives", CORE),
    Ban(
        r"print",
        "the event line of telemetry.logging, or the console of a face",
        (*CORE, "telemetry", "bootstrap"),
    ),
    Ban(r"eval|exec|pickle\.\w+|marshal\.\w+", "a typed, versioned JSON payload", except_in=("bench",)),
    Ban(
        r"torch\.(jit\.|package\.|hub\.)?load\w*|(joblib|cloudpickle|dill|shelve)\.\w+"
        r"|mlflow\.(pyfunc|pytorch|sklearn|onnx|models)\.load\w*",
        "safetensors and ONNX: none of these reads without running what it reads",
        except_in=("state_dicts.py",),
    ),
)


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute chain; a task group's own methods read `group.create_task`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value) or '?'}.{node.attr}"
    return ""


def task_groups(tree: ast.Module) -> set[str]:
    """Names bound to a TaskGroup: by `async with`, by annotation, or as an attribute that holds one."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and node.optional_vars and "TaskGroup" in ast.unparse(node.context_expr):
            names.add(ast.unparse(node.optional_vars))
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation and "TaskGroup" in ast.unparse(node.annotation):
            names.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
    return names | {f"self.{name}" for name in names} | {f"self._{name}" for name in names}


def uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every call and every attribute chain, as dotted text with its line, imports resolved to their full name."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            aliases.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Import):
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
    groups = task_groups(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
        elif isinstance(node, ast.Attribute):
            name = dotted(node)
        else:
            continue
        if name.endswith(".create_task") and name.removesuffix(".create_task") in groups:
            continue
        head, _, rest = name.partition(".")
        yield node.lineno, ".".join(part for part in (aliases.get(head, head), rest) if part)


def banned(tree: ast.Module, path: Path) -> list[str]:
    """The breaches of BANS in one file, with the replacement."""
    inside = path.parts
    found = set()
    for line, name in uses(tree):
        for ban in BANS:
            if ban.rooms and not any(room in inside[:1] for room in ban.rooms):
                continue
            if any(room in (inside[0], inside[-1]) for room in ban.except_in):
                continue
            if re.fullmatch(ban.pattern, name):
                found.add((line, f"{path}:{line}: {name}: use {ban.instead}"))
    return [text for _, text in sorted(found)]


def unbounded_queues(tree: ast.Module) -> list[int]:
    """Lines that make a queue without a bound."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(asyncio|queue)\.(Priority|Lifo)?Queue", dotted(node.func))
        and not node.args
        and not any(keyword.arg == "maxsize" for keyword in node.keywords)
    ]


def long_functions(tree: ast.Module, path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}::{node.name}", lines


def test_nothing_banned_is_used() -> None:
    found = [text for path in modules() for text in banned(parse(path), path.relative_to(SOURCE))]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("services/planner.py", "from datetime import datetime\ndatetime.now()"),
        ("domain/orders.py", "import datetime\ndatetime.datetime.utcnow()"),
        ("quant/gap_scan.py", "import time as t\nt.time()"),
        ("adapters/broker/alpaca.py", "from time import sleep\nsleep(1)"),
        ("services/queue/processor.py", "import asyncio\nasync def f():\n    await asyncio.sleep(1)"),
        ("services/feed.py", "import random\nrandom.random()"),
        ("adapters/broker/simulated.py", "import numpy as np\nnp.random.default_rng(1)"),
        ("domain/identity.py", "from uuid import uuid4\nuuid4()"),
        ("cli/app.py", "import os\nos.environ['X']"),
        ("adapters/clock.py", "from os import getenv\ngetenv('X')"),
        ("services/supervisor.py", "import asyncio\nasyncio.create_task(f())"),
        ("services/supervisor.py", "async def f(loop):\n    loop.create_task(g())"),
        ("services/scoring.py", "import asyncio\nasyncio.to_thread(f)"),
        ("services/scoring.py", "print('x')"),
        ("adapters/models/registry_mlflow.py", "import mlflow\nmlflow.pyfunc.load_model('m')"),
        ("adapters/models/specialist_export.py", "from torch import load\nload('m.pth')"),
        ("adapters/models/learners.py", "import joblib\njoblib.load('m')"),
    ],
)
def test_each_ban_catches_its_breach(room: str, line: str) -> None:
    assert banned(ast.parse(line), Path(room)), f"{line!r} in {room} went unseen"


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("services/supervisor.py", "async def f():\n    async with TaskGroup() as group:\n        group.create_task(g())"),
        ("services/supervisor.py", "def f(group: asyncio.TaskGroup):\n    group.create_task(g())"),
        ("settings.py", "import os\nos.environ"),
        ("adapters/clock.py", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
        ("services/planner.py", "clock.now()"),
    ],
)
def test_what_is_meant_stays_allowed(room: str, line: str) -> None:
    assert banned(ast.parse(line), Path(room)) == []


def test_every_queue_has_a_bound() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in modules() for line in unbounded_queues(parse(path))]

    assert not found, f"queues without maxsize: {found}"
    assert unbounded_queues(ast.parse("asyncio.Queue()")) == [1]
    assert unbounded_queues(ast.parse("asyncio.Queue(maxsize=3)")) == []


def test_functions_fit_a_screen() -> None:
    lengths = {name: lines for path in modules() for name, lines in long_functions(parse(path), path.relative_to(SOURCE))}

    grown = {name: lines for name, lines in lengths.items() if lines > LONG_FUNCTIONS.get(name, FUNCTION_LINES_MAX)}
    assert not grown, f"over {FUNCTION_LINES_MAX} lines: split, or enter in LONG_FUNCTIONS with a reason: {grown}"
    stale = {name for name, lines in LONG_FUNCTIONS.items() if lengths.get(name, 0) < lines}
    assert not stale, f"shorter than LONG_FUNCTIONS says: tighten the ratchet: {stale}"


def test_file_names_say_what_is_inside() -> None:
    paths = [*modules(), *(ROOT / "src" / "finagent_checker").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    found = [
        str(path.relative_to(ROOT))
        for path in paths
        if (path.stem.strip("_") in MEANINGLESS_NAMES or path.parent.name in MEANINGLESS_NAMES)
        and path.parent.name != "peers"  # scripts of others, kept as they stand
    ]

    assert not found, f"names that say nothing: {found}"


def test_nothing_is_left_for_later() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    paths = [path for folder in ("src", "tests", "migrations", ".ci") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark.search(line)
    ]

    assert not found, f"finish it or leave it out: {found}"


def test_silenced_checks_say_why() -> None:
    """`# type: ignore[code]` and `# noqa: CODE` name what they silence and are followed by a reason."""
    silent = re.compile(r"#\s*(type:\s*ignore(\[[\w-]+\])?|noqa(:\s*[A-Z0-9, ]+)?)\s*$")
    paths = [path for folder in ("src", "tests", ".ci") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if silent.search(line)
    ]

    assert not found, f"no reason given: {found}"


def test_every_folder_of_tests_is_run() -> None:
    script = (ROOT / ".ci" / "test").read_text()
    folders = {path.parent.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}

    assert {name for name in folders if f"tests/{name}" not in script} == set()
