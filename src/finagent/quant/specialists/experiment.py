"""Training in epochs, between which it may be stopped, stored and gone on with elsewhere."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

State = Mapping[str, NDArray[Any]]


class Experiment(Protocol):
    """What is trained. Nothing but the epochs that have run decides what it is: `restore(state())` of the same experiment made
    anew goes on bit for bit as if it had never been stopped. Calls compute for long and are made one at a time."""

    @property
    def epochs(self) -> int:
        """How many there are at most."""
        ...

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to learn: all epochs ran, or none of late was better."""
        ...

    def run_epoch(self, epoch: int) -> Mapping[str, float]:
        """Run that epoch, from 0, and say its figures. BadInput for one that is not next."""
        ...

    def state(self) -> State:
        """Everything that is needed to go on, as arrays by name."""
        ...

    def restore(self, state: State) -> None:
        """Take up such a state. BadInput for one of another experiment, which leaves this one as it was."""
        ...
