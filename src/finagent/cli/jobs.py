"""`finagent jobs`: the queue and its dead letters."""

from typing import TYPE_CHECKING, Annotated

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput
from finagent.domain.jobs import JOB_TYPES, JobStatus

if TYPE_CHECKING:
    from finagent.services.forensics.job_history import JobRecord

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
    job_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The job's number.")],
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


def _line(job: "JobRecord") -> str:
    when = f"{job.run_at:%Y-%m-%d %H:%M:%S}"
    return f"{job.id:>8}  {job.type:<10} {job.status.value:<10} {when}  {job.dedup_key}  {job.last_error}".rstrip()
