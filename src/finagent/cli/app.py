"""`finagent`: the root of all commands, and what their failures mean to whoever called them."""

import json
import secrets
import sys
from collections.abc import Iterator

import typer

from finagent.cli import (
    bench,
    config,
    db,
    doctor,
    drill,
    explain,
    features,
    halt,
    jobs,
    models,
    orchestrate,
    reconcile,
    report,
    risk,
    scan,
    simulate_broker,
    status,
    worker,
)
from finagent.domain.errors import BadInput, Interrupted, Transient, Unavailable

UNEXPECTED, BAD_INPUT, UNAVAILABLE, INTERRUPTED = 1, 2, 4, 130
DISK_FULL = "disk full"

root = typer.Typer(
    name="finagent",
    help="A one-day trading agent for US equities. Kill it anywhere, restart it: no signal is lost, no order is sent twice.",
    epilog="Start here: finagent orchestrate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
root.command(epilog="Example: finagent orchestrate --set storage.directory=var/october --json")(orchestrate.orchestrate)
root.command(epilog="Example: finagent scan --once --source files:bars --from 2013-10-01 --to 2016-12-30 --json")(scan.scan)
root.command(epilog="Example: finagent status --json")(status.status)
root.command(epilog="Example: finagent explain dec-a7edc616")(explain.explain)
root.command(epilog="Example: finagent report --canonical | sha256sum")(report.report)
root.command(epilog="Example: finagent doctor --json")(doctor.doctor)
root.command(epilog='Example: finagent halt --reason "news I do not understand"')(halt.halt)
root.command(epilog='Example: finagent arm --reason "checked positions against the broker"')(halt.arm)
root.command(epilog="Example: finagent reconcile --json")(reconcile.reconcile)
root.command(epilog="Example: finagent worker --services scoring,planner --set queue.backend=postgres")(worker.worker)
root.command(epilog="Example: finagent simulate-broker --set alpaca_simulator.pace=120")(simulate_broker.simulate_broker)
root.add_typer(jobs.app, name="jobs")
root.add_typer(db.app, name="db")
root.add_typer(config.app, name="config")
root.add_typer(drill.app, name="drill")
root.add_typer(features.app, name="features")
root.add_typer(models.app, name="models")
root.add_typer(risk.app, name="risk")
root.command(epilog="Example: finagent bench scan --json")(bench.bench)


def main() -> None:
    """Run the command line; the exit code says what kind of ending it was."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a command: 0 done, 1 unexpected, 2 bad input, 3 found something wrong, 4 unavailable, 130 interrupted."""
    try:
        answer = root(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        _say(arguments, INTERRUPTED, "interrupted")
        return INTERRUPTED
    except typer.Exit as ending:
        return ending.exit_code
    except BaseExceptionGroup as group:
        return _failed(arguments, group, next(_leaves(group)))
    except Exception as error:  # noqa: BLE001  the last frame of the program: nothing may leave it as a traceback
        misused = getattr(error, "format_message", None)  # of every usage error, whichever click typer brings along
        if misused is not None:
            _say(arguments, BAD_INPUT, misused(), _usage(error))
            return BAD_INPUT
        return _failed(arguments, error, error)
    return answer if isinstance(answer, int) else 0


def _failed(arguments: list[str], raised: BaseException, cause: BaseException) -> int:
    """Say what went wrong in the words of the one error that explains it."""
    if isinstance(raised, BaseExceptionGroup):
        cause = next((leaf for leaf in _leaves(raised) if _exit_code(leaf) != UNEXPECTED), cause)
    code = _exit_code(cause)
    if code != UNEXPECTED:
        _say(arguments, code, str(cause))
        return code
    trace = _trace_id()
    import structlog

    if not structlog.is_configured():
        from finagent.telemetry.logging import LoggingPolicy, configure

        configure(LoggingPolicy("INFO", "auto"))
    structlog.get_logger(__name__).error("command_failed", command=arguments[:1], trace_id=trace, exc_info=raised)
    _say(arguments, code, f"unexpected failure: {type(cause).__name__}: {cause}\ntrace id {trace} (see the log above)")
    return code


def _exit_code(error: BaseException) -> int:
    if isinstance(error, BadInput):
        return BAD_INPUT
    if isinstance(error, Unavailable | Transient) or (isinstance(error, Exception) and DISK_FULL in str(error)):
        return UNAVAILABLE
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return UNAVAILABLE
    return INTERRUPTED if isinstance(error, KeyboardInterrupt | Interrupted) else UNEXPECTED


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _trace_id() -> str:
    from finagent.telemetry.trace_context import current_trace_id

    return current_trace_id() or secrets.token_hex(16)


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"\ntry `{context.command_path} --help`" if context else ""


def _say(arguments: list[str], code: int, message: str, more: str = "") -> None:
    """The message on stderr; with --json also as the one document on stdout."""
    sys.stderr.write(f"finagent: {message}{more}\n")
    sys.stderr.flush()
    if "--json" in arguments:
        sys.stdout.write(json.dumps({"error": message, "exit_code": code}) + "\n")
        sys.stdout.flush()
