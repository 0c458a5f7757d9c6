"""`finagent jobs`: the queue and its dead letters."""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.halt import ANSWER_SECONDS, REASON_LENGTH_MAX, Reason
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.jobs import JOB_TYPES, JobStatus

if TYPE_CHECKING:
    from finagent.domain.ports.store import JobQueue
    from finagent.services.forensics.job_history import JobRecord
    from finagent.settings import Settings

JOB_ID_MAX = 2**63 - 1  # what the store can hold
JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX, help="The job's number.")]

app = typer.Typer(no_args_is_help=True, help="The queue and its dead letters.")


@app.command(epilog="Example: finagent jobs stats --json")
def stats(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """How many jobs of each type are in each state."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import reading

    with reading(settings) as store:
        counts = store.jobs.counts()
    if as_json:
        print_json([{"type": kind, "status": status, "jobs": count} for kind, status, count in counts])
    else:
        typer.echo("\n".join(f"{kind:<12} {status.value:<10} {count:>8}" for kind, status, count in counts) or "no jobs")


@app.command(name="list", epilog="Example: finagent jobs list --status DEAD")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="READY, RUNNING, DONE, SCHEDULED, DEAD or PARKED.")] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="A job type, such as scan or send.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs, by state and type."""
    if status is not None and status not in JobStatus.__members__:
        raise BadInput(f"--status {status}: one of {', '.join(JobStatus.__members__)}")
    if job_type is not None and job_type not in JOB_TYPES:
        raise BadInput(f"--type {job_type}: one of {', '.join(JOB_TYPES)}")
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import reading

    with reading(settings) as store:
        found = store.jobs.listed(JobStatus[status] if status else None, job_type, limit)
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(_line(job) for job in found) or "no jobs")


@app.command(epilog="Example: finagent jobs show 42")
def show(
    job_id: JobId,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """One job with its payload and last error."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.services.reporting.canonical import as_plain
    from finagent.store_access import reading

    with reading(settings) as store:
        job = store.jobs.job(job_id)
    if job is None:
        raise BadInput(f"there is no job {job_id}; finished jobs are pruned after queue.done_days")
    if as_json:
        print_json(job)
    else:
        typer.echo("\n".join(f"{name:<12} {value}" for name, value in as_plain(job).items()))


@app.command(epilog="Example: finagent jobs retry 42")
def retry(job_id: JobId, settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Bring a DEAD or PARKED job back: it runs again with all its tries. Recorded with your name."""
    settings, by = settings_in_force(settings_file, overrides), getpass.getuser()
    answer = _moved(settings, job_id, "retry", {"by": by}, lambda queue: queue.retry(job_id, by))
    _print(answer, as_json=as_json)


@app.command(epilog='Example: finagent jobs discard 42 --reason "the symbol is delisted"')
def discard(
    job_id: JobId,
    reason: Reason,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Give a DEAD or PARKED job up for good; its candidate ends as DEAD if it has no outcome. Recorded with your name."""
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX:
        raise BadInput(f"--reason must say why in 1 to {REASON_LENGTH_MAX} characters")
    settings, by = settings_in_force(settings_file, overrides), getpass.getuser()
    order = {"reason": reason, "by": by}
    answer = _moved(settings, job_id, "discard", order, lambda queue: queue.discard(job_id, reason, by))
    _print(answer, as_json=as_json)


def _moved(
    settings: "Settings", job_id: int, act: str, order: dict[str, str], move: "Callable[[JobQueue], Awaitable[JobStatus]]"
) -> dict[str, Any]:
    """Through the agent; without one this command is the writer."""
    from finagent.store_access import CONTROL_SOCKET, writing

    async def record() -> dict[str, Any]:
        async with writing(settings) as writer:
            return {"job": job_id, "status": (await move(writer.queue)).value}

    permission = {**order, "good_until": time.time() + ANSWER_SECONDS}
    try:
        answer = ask(
            settings.storage.directory / CONTROL_SOCKET, "POST", f"/control/jobs/{job_id}/{act}", permission, ANSWER_SECONDS
        )
    except NoAgent:
        return asyncio.run(record()) | {"recorded_by": "command"}
    except NoAnswer as silence:
        raise Unavailable(f"the agent does not answer ({silence}); `finagent jobs show {job_id}` says what is so") from silence
    return answer | {"recorded_by": "agent"}


def _print(answer: dict[str, Any], *, as_json: bool) -> None:
    from finagent.cli.output import print_json

    if as_json:
        print_json(answer)
    else:
        runs = "; it runs when an agent does" if (answer["status"], answer["recorded_by"]) == ("READY", "command") else ""
        typer.echo(f"job {answer['job']} is {answer['status']}: recorded by the {answer['recorded_by']}{runs}")


def _line(job: "JobRecord") -> str:
    when = f"{job.run_at:%Y-%m-%d %H:%M:%S}"
    return f"{job.id:>8}  {job.type:<10} {job.status.value:<10} {when}  {job.dedup_key}  {job.last_error}".rstrip()
