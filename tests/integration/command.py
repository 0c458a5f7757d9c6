"""The `finagent` command in this process: a start of Python is paid only where a test is about the process itself."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from finagent.cli.app import run


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def finagent(*arguments: str) -> Ended:
    """Run the command to its end."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = run(list(arguments))
    return Ended(code, out.getvalue(), err.getvalue())
