"""Named places in the code where a drill may end the process."""

from typing import Protocol


class Failpoints(Protocol):
    """Called with a label at each passage. Does nothing, unless a drill armed that label."""

    def __call__(self, label: str) -> None: ...


def unarmed(label: str) -> None:
    """The failpoints of every process that is not under a drill."""
