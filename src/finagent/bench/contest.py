"""How contestants are timed, and the row that says how they compare."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from finagent.domain.errors import BadInput

REPEATS_MIN = 5


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the work; each call of `run` does it once from the same resident data."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Goal: so many times as good as the peer, or as every peer."""

    times: float
    peer: str = ""

    def __str__(self) -> str:
        return f"at least {self.times:g}x {self.peer or 'every peer'}"

    def met(self, row: "Row") -> bool | None:
        """None when there is nobody to compare with."""
        ratio = row.ratio_to(self.peer) if self.peer else row.ratio_to_best_peer
        return None if ratio is None else ratio >= self.times


@dataclass(frozen=True, slots=True)
class Below:
    """Goal: less than so much, in the unit of the row."""

    limit: float

    def __str__(self) -> str:
        return f"below {self.limit:g}"

    def met(self, row: "Row") -> bool | None:
        """Ours alone decides."""
        return row.ours < self.limit


@dataclass(frozen=True, slots=True)
class NotBelow:
    """Goal: so much or more, in the unit of the row."""

    limit: float

    def __str__(self) -> str:
        return f"not below {self.limit:g}"

    def met(self, row: "Row") -> bool | None:
        """Ours alone decides."""
        return row.ours >= self.limit


Goal = AtLeast | Below | NotBelow


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a contest: medians over the repeats, all in `unit`. `spread` is (largest - smallest) / median of ours.

    `goals` were set before anything was measured; one that is missed is shown as missed.
    """

    figure: str
    unit: str
    better: str
    ours: float
    floor: float | None
    peers: dict[str, float]
    repeats: int
    spread: float
    goals: tuple[Goal, ...] = ()

    @property
    def ratio_to_best_peer(self) -> float | None:
        """Above 1 is in our favour."""
        return min((self._ratio(value) for value in self.peers.values()), default=None)

    @property
    def ratio_to_floor(self) -> float | None:
        """1 means nothing is left to gain."""
        return None if self.floor is None else self._ratio(self.floor)

    def ratio_to(self, peer: str) -> float | None:
        """The same for one peer; None when it took no part."""
        return self._ratio(self.peers[peer]) if peer in self.peers else None

    def _ratio(self, other: float) -> float:
        return other / self.ours if self.better == "lower" else self.ours / other

    def as_json(self) -> dict[str, Any]:
        """The row as `finagent bench --json` prints it."""
        return {
            "figure": self.figure,
            "unit": self.unit,
            "better": self.better,
            "ours": self.ours,
            "floor": self.floor,
            "peers": self.peers,
            "ratio_to_best_peer": self.ratio_to_best_peer,
            "ratio_to_floor": self.ratio_to_floor,
            "repeats": self.repeats,
            "spread": self.spread,
            "goals": [{"goal": str(goal), "met": goal.met(self)} for goal in self.goals],
        }


@dataclass(frozen=True, slots=True)
class Contest:
    """The rows of one `finagent bench NAME` and the peers that could not take part, each with the reason."""

    rows: tuple[Row, ...]
    absent: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The document that `finagent bench --json` prints."""
        return {"machine": machine(), "rows": [row.as_json() for row in self.rows], "absent": list(self.absent)}


def interleaved(contestants: list[Contestant], repeats: int, calls: int, warm_ups: int = 2) -> dict[str, list[float]]:
    """Seconds a call of each contestant, one median of `calls` calls a repeat; in each repeat all take their turn."""
    if repeats < REPEATS_MIN:
        raise BadInput(f"{repeats} repeats say little: at least {REPEATS_MIN} are needed")
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant in contestants:
            for _ in range(warm_ups):
                contestant.run()
            seconds[contestant.name].append(median(_timed(contestant.run) for _ in range(calls)))
    return seconds


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    return (max(values) - min(values)) / median(values)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0] if named else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
