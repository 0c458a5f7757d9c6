"""Payloads of jobs across releases: what an older release stored is brought up to date, what a newer one stored waits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from finagent.domain.errors import BadInput
from finagent.domain.jobs import JOB_TYPES, RETRIED, Job, JobType

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

# (type, version) -> how a payload of that version becomes one of the next. They are pure, and stay for as long as a store may
# hold a row of that version: a parked job waits for years. `tests/golden/job_payloads` has a payload of every version.
UPCASTERS: dict[tuple[str, int], Upcaster] = {}


class ForAnotherRelease(BadInput):
    """A stored job that this release cannot run; the message says which one can and what to do then."""


@dataclass(frozen=True, slots=True)
class Release:
    """The types of jobs that a release runs, each with the version of payload that it writes, and the way up from older ones."""

    types: Mapping[str, JobType]
    upcasters: Mapping[tuple[str, int], Upcaster]

    def current(self, job: Job) -> Job:
        """The job as its handler expects it; raises ForAnotherRelease. Its row keeps what was written."""
        kind = self.types.get(job.type)
        if kind is None:
            raise _refused(job, f"this one knows no such type (payload version {job.payload_version})")
        return job if job.payload_version == kind.version else self._brought_up(job, kind.version)

    def _brought_up(self, job: Job, to: int) -> Job:
        at = job.payload_version
        if at > to:
            raise _refused(job, f"its payload has version {at}, this one runs version {to}")
        payload = {name: value for name, value in job.payload.items() if name != RETRIED}
        while at < to:
            upcaster = self.upcasters.get((job.type, at))
            if upcaster is None:
                raise _refused(job, f"its payload has version {at}, this one runs version {to} and knows no way from {at}")
            try:
                payload = upcaster(payload)
            except Exception as error:  # one odd row must not stop the others, and only an upcaster knows what it may raise
                what = f"its payload of version {at} cannot become version {at + 1} of {to}: {type(error).__name__}: {error}"
                raise _refused(job, what) from error
            at += 1
        marks = {RETRIED: job.payload[RETRIED]} if RETRIED in job.payload else {}
        return replace(job, payload=payload | marks, payload_version=to)


def _refused(job: Job, why: str) -> ForAnotherRelease:
    cure = f"start a release that runs it, then `finagent jobs retry {job.id}`"
    return ForAnotherRelease(f"{job.type} job {job.id} is for another release: {why}; {cure}")


THIS_RELEASE = Release(JOB_TYPES, UPCASTERS)
