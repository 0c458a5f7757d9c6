"""Many jobs moved at once: what is refused is told, what breaks is raised."""

import pytest

from finagent.domain.errors import BadInput, Transient
from finagent.domain.jobs import JobStatus
from finagent.services.queue.by_hand import Moved, Refused, move_all


async def move(job: int) -> JobStatus:
    if job == 2:
        raise BadInput("job 2 is DONE")
    if job == 3:
        raise Transient("disk full")
    return JobStatus.READY


async def test_what_is_refused_is_told_beside_what_moved() -> None:
    assert await move_all([1, 2], move) == Moved((1,), (Refused(2, "job 2 is DONE"),))


async def test_what_breaks_is_raised() -> None:
    with pytest.raises(Transient, match="disk full"):
        await move_all([1, 2, 3], move)
