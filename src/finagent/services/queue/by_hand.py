"""Many jobs that a person brings back or gives up at once: each by itself, all in the same few commits."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from finagent.domain.errors import BadInput
from finagent.domain.jobs import JobStatus


@dataclass(frozen=True, slots=True)
class Refused:
    """A job that may not be moved, and why."""

    job: int
    why: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The jobs that were moved, all to one status, and those that could not be."""

    jobs: tuple[int, ...]
    refused: tuple[Refused, ...]


async def move_all(jobs: Sequence[int], move: Callable[[int], Awaitable[JobStatus]]) -> Moved:
    """Ask for each; what the queue refuses is told, any other error is raised once all have their answer."""
    answers = await asyncio.gather(*(move(job) for job in jobs), return_exceptions=True)
    broken = [answer for answer in answers if isinstance(answer, BaseException) and not isinstance(answer, BadInput)]
    if broken:
        raise broken[0]
    together = list(zip(jobs, answers, strict=True))
    moved = tuple(job for job, answer in together if isinstance(answer, JobStatus))
    return Moved(moved, tuple(Refused(job, str(answer)) for job, answer in together if isinstance(answer, BadInput)))
