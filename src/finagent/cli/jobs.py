"""`finagent jobs`: the queue and its dead letters."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli import jobs_by_hand
from finagent.cli.job_filter import About, Conditions, Error, Key, OlderThan, Service, Status, Type
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput
from finagent.domain.jobs import JobStatus

if TYPE_CHECKING:
    from finagent.services.forensics.job_history import JobCount, JobRecord

app = typer.Typer(no_args_is_help=True, help="The queue and its dead letters.")
app.command(
    epilog="Example: finagent jobs retry 42, or finagent jobs retry --status DEAD --type score --error timeout",
)(jobs_by_hand.retry)
app.command(
    epilog='Example: finagent jobs discard 42 --reason "the symbol is delisted", or '
    'finagent jobs discard --status DEAD --older-than 7d --reason "known fault"',
)(jobs_by_hand.discard)


@app.command(epilog="Example: finagent jobs stats --json")
def stats(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """How many jobs of each type are in each state, how long the oldest due one of each service waits, and what is stuck."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import reading

    with reading(settings) as store:
        now = store.now()
        counts = store.jobs.counts(now)
    rows: list[dict[str, Any]] = [
        {
            "type": one.type,
            "service": one.queue,
            "status": one.status,
            "jobs": one.jobs,
            "oldest_due_seconds": None if one.oldest_due is None else (now - one.oldest_due).total_seconds(),
        }
        for one in counts
    ]
    if as_json:
        print_json(rows)
    else:
        lines = [f"{row['type']:<12} {row['status'].value:<10} {row['jobs']:>8}" for row in rows]
        typer.echo("\n".join([*lines, *_waiting(rows), _stuck(counts)] if rows else ["no jobs"]))


@app.command(
    name="list",
    epilog="Example: finagent jobs list --status DEAD, or finagent jobs list --about dec-4bf67d748b6c56c9ceb2, or "
    "finagent jobs list --service execution --older-than 1h --json",
)
def list_jobs(
    status: Status = None,
    job_type: Type = None,
    service: Service = None,
    about: About = None,
    key: Key = None,
    older_than: OlderThan = None,
    error: Error = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs that meet every condition."""
    conditions = Conditions(status, job_type, service, about, key, older_than, error)
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.store_access import reading

    with reading(settings) as store:
        found = store.jobs.listed(conditions.filter(store), limit)
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(_line(job) for job in found) or "no jobs")


@app.command(epilog="Example: finagent jobs show 42")
def show(
    job_id: jobs_by_hand.JobId,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """One job with its payload and its last errors, newest first."""
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
        return
    shown = as_plain(job)
    errors = shown.pop("errors")
    typer.echo("\n".join(f"{name:<15} {value}" for name, value in shown.items()))
    for one in errors:
        typer.echo(f"{'error':<15} {one['at']}  after {one['attempts']} failures: {one['error']}")


def _waiting(rows: list[dict[str, Any]]) -> list[str]:
    oldest: dict[str, float] = {}
    for row in rows:
        if row["oldest_due_seconds"] is not None:
            oldest[row["service"]] = max(oldest.get(row["service"], 0.0), row["oldest_due_seconds"])
    return [f"{service}: the oldest due job waits {seconds:.1f} s" for service, seconds in sorted(oldest.items())]


def _stuck(counts: "list[JobCount]") -> str:
    dead, parked = (sum(one.jobs for one in counts if one.status is status) for status in (JobStatus.DEAD, JobStatus.PARKED))
    return f"{dead} DEAD, {parked} PARKED" + ("" if dead + parked == 0 else ": finagent jobs list --status DEAD (or PARKED)")


def _line(job: "JobRecord") -> str:
    when = f"{job.run_at:%Y-%m-%d %H:%M:%S}"
    return f"{job.id:>8}  {job.type:<10} {job.status.value:<10} {when}  {job.dedup_key}  {job.last_error}".rstrip()
