"""The root of all commands: quick, documented, and exact about how it ended."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from finagent.cli.app import _failed, root, run
from finagent.domain.errors import BadInput, InvariantViolated, Transient, Unavailable

COMPUTES = ("pandas", "torch", "mlflow", "onnxruntime", "matplotlib", "numpy")
HEAVY = (*COMPUTES, "fastapi", "sqlalchemy", "pydantic_settings", "finagent.bootstrap")


def commands() -> list[tuple[str, Any]]:
    """Every command, groups opened."""
    found: list[tuple[str, Any]] = []

    def collect(prefix: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                collect(f"{prefix} {name}".strip(), inner)
        else:
            found.append((prefix, command))

    collect("", typer.main.get_command(root))
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["orchestrate", "--help"], ["explain", "--help"], ["drill", "kill", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Help answers from the command line's own modules; what computes is loaded by the command that needs it."""
    script = (
        "import sys; from finagent.cli.app import run; code = run(sys.argv[2:]); "
        "sys.stderr.write(','.join(name for name in sys.argv[1].split(',') if name in sys.modules)); sys.exit(code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, ",".join(HEAVY), *arguments], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0
    assert answer.stderr == ""
    assert "Usage:" in answer.stdout


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_shows_an_example_and_speaks_json(name: str, command: Any) -> None:
    """The example calls the command itself; --json exists everywhere."""
    options = {option for parameter in command.params for option in parameter.opts}

    assert (command.epilog or "").startswith(f"Example: finagent {name}")
    assert command.help
    assert "--json" in options


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["status", "--no-such-option"],
        ["config", "check", "--set", "risk.no_such_limit=1"],
        ["config", "check", "--set", "risk.daily_loss_fraction_max=-0.02"],
        ["config", "check", "--set", "nonsense"],
        ["config", "check", "--settings", "/no/such/file.yaml"],
        ["halt", "--reason", " "],
        ["jobs", "list", "--status", "LOST"],
        ["jobs", "list", "--older-than", "yesterday"],
        ["jobs", "retry"],
        ["jobs", "retry", "7", "--status", "DEAD"],
        ["jobs", "discard", "--status", "READY", "--reason", "r"],
    ],
)
def test_bad_usage_and_settings_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One message on stderr, no traceback, nothing on stdout."""
    assert run(arguments) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("finagent: ")
    assert "Traceback" not in said.err


def test_every_wrong_setting_is_listed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Two mistakes, one start."""
    assert run(["config", "check", "--set", "risk.no_such_limit=1", "--set", "plan.risk_fraction=7"]) == 2

    said = capsys.readouterr().err
    assert "risk.no_such_limit" in said
    assert "plan.risk_fraction" in said


@pytest.mark.parametrize("command", [["status"], ["report"], ["explain", "dec-1"], ["jobs", "stats"], ["arm", "--reason", "r"]])
def test_a_folder_without_a_store_is_unavailable(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Exit 4, naming the path, and nothing is made there."""
    assert run([*command, "--set", f"storage.directory={tmp_path}"]) == 4

    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_with_json_a_failure_is_a_document_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A caller that parses stdout learns what went wrong there."""
    run(["status", "--json", "--set", f"storage.directory={tmp_path}"])

    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 4
    assert "no database" in document["error"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("x"), 2),
        (Unavailable("x"), 4),
        (Transient("disk full: no room to write x"), 4),
        (OSError(28, "No space left on device"), 4),
        (PermissionError(13, "Permission denied"), 4),
        (Transient("no answer"), 4),
        (InvariantViolated("x"), 1),
        (ValueError("x"), 1),
        (ExceptionGroup("tasks", [ValueError("a consequence"), ExceptionGroup("inner", [Unavailable("the cause")])]), 4),
        (ExceptionGroup("tasks", [ValueError("x")]), 1),
    ],
    ids=repr,
)
def test_the_kind_of_error_decides_the_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Also from inside a task group; an unexpected one leaves a trace id to look for."""
    leaf = error.exceptions[0] if isinstance(error, ExceptionGroup) else error

    assert _failed(["orchestrate"], error, leaf) == code
    assert ("trace id" in capsys.readouterr().err) == (code == 1)


def test_config_show_tells_what_is_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    """An override shows; the document is the whole of the settings."""
    assert run(["config", "show", "--json", "--set", "risk.positions_max=3"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["risk"]["positions_max"] == 3
    assert {"storage", "schedule", "queue", "http"} <= document.keys()


def test_a_halt_before_the_first_start_holds_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No database yet: the HALT file stands, with who and why."""
    assert run(["halt", "--reason", "not today", "--json", "--set", f"storage.directory={tmp_path}"]) == 0

    assert json.loads(capsys.readouterr().out)["state"] == "HALTED"
    assert json.loads((tmp_path / "HALT").read_text())["reason"] == "not today"


def processor_seconds(*words: str) -> float:
    """Of a child, at its best of three: a busy machine does not decide."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append((after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime))
    return min(taken)


def test_help_answers_within_half_a_second_of_work() -> None:
    """Or, where the machine is slow, in little more than the parser of commands needs to be imported and to draw a help."""
    parser = "import typer, rich.console; app = typer.Typer(); app.command()(lambda: None); app(['--help'])"
    assert processor_seconds("-m", "finagent.cli", "--help") < max(0.5, 2.5 * processor_seconds("-c", parser))
