"""Who may use how much of the accelerator's memory: inference has its share, training what is left."""

from dataclasses import dataclass, field
from enum import Enum

from finagent.domain.errors import BadInput

ESTIMATE_FACTOR = 1.3  # of the measured peak: batches differ, and the allocator keeps what it has cut


class Device(Enum):
    """Where a training runs."""

    CPU = "cpu"
    ACCELERATOR = "accelerator"


@dataclass(frozen=True, slots=True)
class AcceleratorMemory:
    """Bytes: what the device has, what inference has really allocated, and what is left alone beside that. A total of zero is a
    machine without one."""

    total: int
    inference_reserve: int
    headroom: int

    def __post_init__(self) -> None:
        if min(self.total, self.inference_reserve, self.headroom) < 0:
            raise BadInput(f"accelerator: no count of bytes is below zero: {self}")

    @property
    def for_training(self) -> int:
        return max(self.total - self.inference_reserve - self.headroom, 0)


@dataclass(slots=True)
class AcceleratorLedger:
    """What trainings hold never exceeds what is for training: the reserve of inference is no part of it and nothing takes it.

    A training of an architecture that was not measured yet gets all of it, alone, for its first epoch; the next get what was
    measured, times ESTIMATE_FACTOR. What can never fit runs on the CPU; what does not fit now waits, unless `cpu_meanwhile`.
    """

    memory: AcceleratorMemory
    cpu_meanwhile: bool = False
    _held: dict[str, int] = field(default_factory=dict, init=False)
    _peaks: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def in_use(self) -> int:
        return sum(self._held.values())

    def estimate(self, architecture: str) -> int:
        """Bytes that one training of it takes; all, where none was measured."""
        peak = self._peaks.get(architecture)
        return self.memory.for_training if peak is None else int(peak * ESTIMATE_FACTOR)

    def place(self, key: str, architecture: str, *, cpu_only: bool = False) -> Device | None:
        """Where it may run now, its bytes being held until `release`; None: it has to wait. BadInput for one that is running."""
        if key in self._held:
            raise BadInput(f"training {key} holds {self._held[key]} bytes of the accelerator already")
        wanted, available = self.estimate(architecture), self.memory.for_training
        if cpu_only or not available or wanted > available:
            return Device.CPU
        if self.in_use + wanted > available:
            return Device.CPU if self.cpu_meanwhile else None
        self._held[key] = wanted
        return Device.ACCELERATOR

    def release(self, key: str) -> None:
        """What it held is free; nothing where it held nothing."""
        self._held.pop(key, None)

    def measured(self, architecture: str, device: Device, peak_bytes: int) -> None:
        """A training of it took so much, at most."""
        if device is Device.ACCELERATOR and peak_bytes > self._peaks.get(architecture, 0):
            self._peaks[architecture] = peak_bytes
