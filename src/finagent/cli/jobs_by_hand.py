"""`finagent jobs retry` and `finagent jobs discard`: one job, or all that meet the conditions."""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.control_client import NoAgent, NoAnswer, ask
from finagent.cli.halt import ANSWER_SECONDS, REASON_LENGTH_MAX, Reason
from finagent.cli.job_filter import About, Conditions, Error, Key, OlderThan, Service, Status, Type
from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Unavailable
from finagent.domain.jobs import WAITS_FOR_A_PERSON, JobStatus

if TYPE_CHECKING:
    from finagent.domain.ports.store import JobQueue
    from finagent.settings import Settings

JOB_ID_MAX = 2**63 - 1  # what the store can hold
AT_ONCE = 500  # jobs a request to the agent, so that each is answered in time
FOUND_SOMETHING_WRONG = 3
JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX, help="The job's number.")]
MaybeJobId = Annotated[
    int | None, typer.Argument(metavar="ID", min=1, max=JOB_ID_MAX, help="The job's number; else conditions say which.")
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many of those that meet the conditions, newest first.")]
Move = Callable[["JobQueue", int], Awaitable[JobStatus]]


def retry(
    job_id: MaybeJobId = None,
    status: Status = None,
    job_type: Type = None,
    service: Service = None,
    about: About = None,
    key: Key = None,
    older_than: OlderThan = None,
    error: Error = None,
    limit: Limit = 10_000,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Bring DEAD or PARKED jobs back: they run again with all their tries. Recorded with your name.

    With conditions instead of an ID: all that meet every one of them, but none that a person has discarded.
    """
    settings, by = settings_in_force(settings_file, overrides), getpass.getuser()
    jobs = _meant(settings, job_id, Conditions(status, job_type, service, about, key, older_than, error), limit)
    answer = _moved(settings, jobs, "retry", {"by": by}, lambda queue, job: queue.retry(job, by))
    _print(answer, job_id, JobStatus.READY, as_json=as_json)


def discard(
    reason: Reason,
    job_id: MaybeJobId = None,
    status: Status = None,
    job_type: Type = None,
    service: Service = None,
    about: About = None,
    key: Key = None,
    older_than: OlderThan = None,
    error: Error = None,
    limit: Limit = 10_000,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Give DEAD or PARKED jobs up for good; a candidate without an outcome ends as DEAD. Recorded with your name.

    With conditions instead of an ID: all that meet every one of them and are not discarded yet.
    """
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX:
        raise BadInput(f"--reason must say why in 1 to {REASON_LENGTH_MAX} characters")
    settings, by = settings_in_force(settings_file, overrides), getpass.getuser()
    jobs = _meant(settings, job_id, Conditions(status, job_type, service, about, key, older_than, error), limit)
    order = {"reason": reason, "by": by}
    answer = _moved(settings, jobs, "discard", order, lambda queue, job: queue.discard(job, reason, by))
    _print(answer, job_id, JobStatus.DEAD, as_json=as_json)


def _meant(settings: "Settings", job_id: int | None, conditions: Conditions, limit: int) -> list[int]:
    """The jobs to move, oldest first. Raises BadInput where it is not clear which."""
    from finagent.store_access import reading

    if (job_id is not None) == conditions.given:
        raise BadInput("either the ID of one job, or conditions such as --status DEAD --type score")
    if job_id is not None:
        return [job_id]
    if conditions.status is not None and JobStatus[conditions.status] not in WAITS_FOR_A_PERSON:
        raise BadInput(f"--status {conditions.status}: only jobs that are DEAD or PARKED are retried or discarded")
    with reading(settings) as store:
        wanted = conditions.filter(store, waits_for_a_person=True)
        return [job.id for job in reversed(store.jobs.listed(wanted, limit))]


def _moved(settings: "Settings", jobs: Sequence[int], act: str, order: dict[str, str], move: Move) -> dict[str, Any]:
    """Through the agent; without one this command is the writer."""
    from finagent.services.queue.by_hand import Moved, move_all
    from finagent.services.reporting.canonical import as_plain
    from finagent.store_access import CONTROL_SOCKET, writing

    async def record(left: Sequence[int]) -> Moved:
        async with writing(settings) as writer:
            return await move_all(left, lambda job: move(writer.queue, job))

    answer: dict[str, Any] = {"jobs": [], "refused": [], "recorded_by": None}
    for first in range(0, len(jobs), AT_ONCE):
        some = list(jobs[first : first + AT_ONCE])
        permission = {**order, "jobs": some, "good_until": time.time() + ANSWER_SECONDS}
        try:
            told = ask(settings.storage.directory / CONTROL_SOCKET, "POST", f"/control/jobs/{act}", permission, ANSWER_SECONDS)
            answer["recorded_by"] = "agent"
        except NoAgent:
            told = as_plain(asyncio.run(record(some)))
            answer["recorded_by"] = "command"
        except NoAnswer as silence:
            what = f"`finagent jobs show {some[0]}` says what is so" + (f"; {first} were recorded" if first else "")
            raise Unavailable(f"the agent does not answer ({silence}); {what}") from silence
        answer["jobs"] += told["jobs"]
        answer["refused"] += told["refused"]
    return answer


def _print(answer: dict[str, Any], job_id: int | None, status: JobStatus, *, as_json: bool) -> None:
    """Raises BadInput where the one job was refused; ends with exit code 3 where some of many were."""
    from finagent.cli.output import print_json

    moved, refused, recorder = answer["jobs"], answer["refused"], answer["recorded_by"]
    runs = "; it runs when an agent does" if (status, recorder) == (JobStatus.READY, "command") else ""
    if job_id is not None:
        if refused:
            raise BadInput(refused[0]["why"])
        single = {"job": job_id, "status": status.value, "recorded_by": recorder}
        print_json(single) if as_json else typer.echo(f"job {job_id} is {status.value}: recorded by the {recorder}{runs}")
        return
    if as_json:
        print_json({**answer, "status": status.value})
    elif not moved and not refused:
        typer.echo("no job that is DEAD or PARKED, and not discarded, meets the conditions")
    else:
        typer.echo("\n".join([f"{len(moved)} jobs are {status.value}: recorded by the {recorder}", *(r["why"] for r in refused)]))
    if refused:
        raise typer.Exit(FOUND_SOMETHING_WRONG)
