"""Named places in the code where a drill may end the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Failpoints(Protocol):
    """Called with a label at each passage. Does nothing, unless a drill armed that label."""

    def __call__(self, label: str) -> None: ...


def unarmed(label: str) -> None:
    """The failpoints of every process that is not under a drill."""


@contextmanager
def around(failpoints: Failpoints, thing: str) -> Iterator[None]:
    """Passes `thing.before` on the way in and, if what is inside ends without an error, `thing.after` on the way out."""
    failpoints(f"{thing}.before")
    yield
    failpoints(f"{thing}.after")
