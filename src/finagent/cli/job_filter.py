"""Which jobs a command means: the options and what they say."""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from finagent.domain.errors import BadInput
from finagent.domain.jobs import JOB_TYPES, JobStatus

if TYPE_CHECKING:
    from finagent.services.forensics.job_history import JobFilter
    from finagent.store_access import Store

Status = Annotated[str | None, typer.Option("--status", help="READY, RUNNING, DONE, SCHEDULED, DEAD or PARKED.")]
Type = Annotated[str | None, typer.Option("--type", help="A job type, such as scan or send.")]
Service = Annotated[str | None, typer.Option("--service", help="A service's queue, such as scoring or execution.")]
About = Annotated[str | None, typer.Option("--about", metavar="ID", help="A run, decision, order or trace id, whole.")]
Key = Annotated[str | None, typer.Option("--key", metavar="BEGINNING", help="How the job's key begins, such as scan:first.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Created longer ago: 90s, 10m, 36h or 7d, in market time.")
]
Error = Annotated[str | None, typer.Option("--error", metavar="TEXT", help="A part of the last error, in any case.")]

_AGE = re.compile(r"\d{1,5}[smhd]")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the options say. Raises BadInput for a status, type, service or age that there is not: a slip of the pen must not
    look like "no jobs"."""

    status: str | None
    type: str | None
    service: str | None
    about: str | None
    key: str | None
    older_than: str | None
    error: str | None

    def __post_init__(self) -> None:
        _require("--status", self.status, set(JobStatus.__members__))
        if self.older_than is not None and _AGE.fullmatch(self.older_than) is None:
            raise BadInput(f"--older-than {self.older_than}: a number and s, m, h or d, such as 90s, 10m, 36h or 7d")

    @property
    def given(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    def filter(self, store: "Store", *, waits_for_a_person: bool = False) -> "JobFilter":
        """The same for the jobs of this store."""
        from finagent.services.forensics.job_history import JobFilter

        services = {kind.queue for kind in JOB_TYPES.values()}
        if not ({self.type} <= {None, *JOB_TYPES} and {self.service} <= {None, *services}):
            types_there, services_there = store.jobs.known()  # another release may have left others
            _require("--type", self.type, types_there | JOB_TYPES.keys())
            _require("--service", self.service, services_there | services)
        return JobFilter(
            status=JobStatus[self.status] if self.status else None,
            type=self.type,
            queue=self.service,
            about=self.about,
            key=self.key,
            created_before=store.now() - _age(self.older_than) if self.older_than else None,
            error=self.error,
            waits_for_a_person=waits_for_a_person,
        )


def _require(option: str, given: str | None, known: Collection[str]) -> None:
    if given is not None and given not in known:
        raise BadInput(f"{option} {given}: one of {', '.join(sorted(known))}")


def _age(text: str) -> timedelta:
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
