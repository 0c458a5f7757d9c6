"""The durable store as services see it: reads by key, and one way to write."""

from collections.abc import Awaitable, Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar

from finagent.domain.effect import Effect
from finagent.domain.jobs import Job, JobStatus

R = TypeVar("R")


class Reads(Protocol):
    """Committed state by key, a few microseconds each, synchronous on the loop. Returns domain records."""

    def get(self, record_type: type[R], *key: Any) -> R | None:
        """The record with that primary key."""
        ...

    def find(self, record_type: type[R], **where: Any) -> list[R]:
        """All records whose columns equal the given values (a list or tuple value means "one of"), in primary key order."""
        ...

    def count(self, record_type: type[Any], **where: Any) -> int: ...


class JobQueue(Protocol):
    """Durable jobs and the effects that acknowledge them (one writer; order is (priority, run_at, id)).

    An effect commits whole or not at all, together with the acknowledgement of its job and the jobs that it publishes. The
    futures resolve after COMMIT; they fail with Conflict (compare-and-set), InvariantViolated (a constraint) or Transient
    (disk full), in which case nothing of the effect is stored and the job is still RUNNING. An error of COMMIT itself ends the
    process: the outcome is unknown and is found out by starting again. A caller that is cancelled does not cancel the commit.
    The awaitables are futures: the operation is under way when the call returns. What is under way is committed in lanes: first
    effects with intents, orders, fills or the trading state and acknowledgements of jobs about orders, then everything else, last
    what is marked bulk (and pruning); within a lane in the order of the calls. An operation that builds on another one is called
    when that one has resolved. A bulk load holds an order up for one commit at most, and each of those is bounded.

    Deviations: where processes share the store, the order of claims holds among what this process may take; where Redis tells a
    worker what waits, among the entries at hand and the jobs whose time has come, and its `claim` asks Redis before it is under
    way (`adapters/job_queue/postgres.py`, `carrier.py`).
    """

    def recover(self) -> Awaitable[list[Job]]:
        """Once, before anything else: epoch + 1, RUNNING rows back to READY with crashes + 1. Resolves to the rows rescued."""
        ...

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        """Commit the effect and acknowledge `job`. Resolves to the published jobs that are due now, already RUNNING."""
        ...

    def claim(self, now: datetime, limit: int) -> Awaitable[list[Job]]:
        """READY and due SCHEDULED jobs become RUNNING. A job with two or more crashes is claimed alone, in its canonical
        place, and only while nothing else is RUNNING.

        A payload of an older version comes as this release writes it; the row keeps what was written. A job that only another
        release can run (see `domain.payloads`) becomes PARKED, with the reason and the cure in its last error and an event
        `job_parked` in the story of its decision or run, else of the account; it takes nobody's place in the limit."""
        ...

    def fail(self, job: Job, error: str, retry_at: datetime | None) -> Awaitable[JobStatus]:
        """The handler failed: SCHEDULED at `retry_at` with attempts + 1; None: DEAD, or PARKED for a type that parks.
        A candidate whose job dies gets the signal outcome DEAD in the same commit."""
        ...

    def retry(self, job_id: int, by: str) -> Awaitable[JobStatus]:
        """A person brings a DEAD or PARKED job back: READY and due now, with attempts and crashes (the solo ones too) at 0.

        Its payload gains `retried` (see `Job.ran_before`), an earlier claim of it stays fenced off, its last error stays, and an
        event `job_retried` with `by` joins the story of its decision or run, else of the account. Fails with BadInput, nothing
        stored, for an unknown id, another status, a job about orders that a person has discarded, and one of another release.
        """
        ...

    def discard(self, job_id: int, reason: str, by: str) -> Awaitable[JobStatus]:
        """A person gives a DEAD or PARKED job up: DEAD, with who, why and the error before in `last_error`.

        In the same commit its candidate gets the signal outcome DEAD if it has none, and an event `job_discarded` joins the story
        as for `retry`. Fails with BadInput, and nothing is stored, for an unknown id and another status.
        """
        ...

    def release(self, jobs: Iterable[Job]) -> Awaitable[None]:
        """Give RUNNING jobs back unharmed (shutdown before their handler ran)."""
        ...

    def others_at_work(self, now: datetime) -> Awaitable[bool]:
        """Whether another process runs a job, or leaves one that is due at `now` to a third. Waits for a change, or a moment,
        before it says so. A queue of one process has no others."""
        ...

    def next_due(self) -> datetime | None:
        """The earliest `run_at` of a READY or SCHEDULED job, from the read connection."""
        ...

    def counts(self) -> dict[str, int]:
        """Rows by status name."""
        ...
