"""What a drill found, and when it counts as failed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from finagent.drill.labels import LABELS
from finagent.drill.plan import Aim

AT_RISK_A_KILL_MIN = 3
IN_FLIGHT_SHARE_MIN = 0.2
JITTER_MILLISECONDS = 20  # well above what a handler takes, so that every order of those under way at once comes up
KILLS_A_LABEL_HIT = 333  # a drill of so many kills must hit each label once, of ten thousand thirty times
VIOLATIONS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill that fell: what it went for, what it left behind."""

    aim: Aim
    label: str | None
    cold: bool
    signals_at_risk: int
    order_in_flight: bool
    depth: int = 0


@dataclass
class DrillReport:
    """The sums over all replays of a drill."""

    seed: int
    jitter_milliseconds: int = JITTER_MILLISECONDS
    on_disk: bool = True
    kills: list[Kill] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    cold_recovery_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of all replays that were killed, side by side
    slot_seconds: float = 0.0  # the same one after another
    cold_slot_seconds: float = 0.0  # of those, what cold starts took
    violations: list[dict[str, str]] = field(default_factory=list)
    replays: int = 0
    cold_starts: int = 0
    lost: int = 0
    duplicate: int = 0
    unequal: int = 0
    conflicts: int = 0
    parked: int = 0
    candidates: int = 0
    orders: int = 0

    def violate(self, rule: str, subject: str, message: str) -> None:
        """A rule of the drill itself is broken."""
        self.violations.append({"invariant": rule, "subject": subject, "message": message})

    def take(self, folder: str, found: dict[str, Any]) -> None:
        """The checker's document on one folder."""
        self.lost += found["lost"]
        self.duplicate += found["duplicate"]
        self.unequal += found["unequal"]
        self.parked += found["parked"]
        self.candidates += found["candidates"]
        self.orders += found["orders"]
        self.violations += [{**violation, "folder": folder} for violation in found["violations"]]

    @property
    def signals_at_risk(self) -> int:
        return sum(kill.signals_at_risk for kill in self.kills)

    @property
    def kills_with_order_in_flight(self) -> int:
        return sum(kill.order_in_flight for kill in self.kills)

    def require_proof(self, kills_wanted: int, labels: Sequence[str] = LABELS) -> None:
        """A drill that put little at risk proves little: too few kills, kills at each label, signals at risk or orders in flight
        are violations."""
        if len(self.kills) < kills_wanted:
            self.violate("DRILL", "kills", f"{len(self.kills)} of {kills_wanted} fell")
        if self.signals_at_risk < AT_RISK_A_KILL_MIN * len(self.kills):
            self.violate("DRILL", "signals_at_risk", f"{self.signals_at_risk} over {len(self.kills)} kills")
        if self.kills_with_order_in_flight < IN_FLIGHT_SHARE_MIN * len(self.kills):
            self.violate("DRILL", "kills_with_order_in_flight", f"{self.kills_with_order_in_flight} of {len(self.kills)} kills")
        hits, share = self.hits, kills_wanted // KILLS_A_LABEL_HIT
        for label in labels:
            if hits[label] < share:
                self.violate("DRILL", label, f"{hits[label]} kills at it, not {share}")

    @property
    def hits(self) -> Counter[str]:
        """The kills that fell at each label."""
        return Counter(kill.label for kill in self.kills if kill.label and kill.aim is not Aim.STOP)

    def seconds_a_kill(self, *, cold: bool) -> float | None:
        """What a kill took of the drill's wall time, its share of the replay around it included: replays run side by side, so
        the whole is divided as the cold starts and the rest would take it one after another."""
        kills = sum(kill.cold is cold for kill in self.kills)
        slots = self.cold_slot_seconds if cold else self.slot_seconds - self.cold_slot_seconds
        return round(self.seconds * slots / self.slot_seconds / kills, 3) if kills and self.slot_seconds else None

    @property
    def failed(self) -> bool:
        return bool(self.violations or self.lost or self.duplicate or self.unequal)

    def as_json(self) -> dict[str, Any]:
        """The document of `drill kill --json`."""
        hits, cold = self.hits, sum(kill.cold for kill in self.kills)
        return {
            "kills": len(self.kills),
            "kills_forked": len(self.kills) - cold,
            "kills_cold": cold,
            "replays": self.replays,
            "cold_starts": self.cold_starts,
            "aims": {aim.value.lower(): sum(kill.aim is aim for kill in self.kills) for aim in Aim},
            "recovery_depths": dict(sorted(Counter(kill.depth for kill in self.kills if kill.depth).items())),
            "lost": self.lost,
            "duplicate": self.duplicate,
            "violations": self.violations[:VIOLATIONS_SHOWN],
            "violations_total": len(self.violations),
            "unequal": self.unequal,
            "conflicts": self.conflicts,
            "jitter_ms": self.jitter_milliseconds,
            "on_disk": self.on_disk,
            "signals_at_risk": self.signals_at_risk,
            "kills_with_order_in_flight": self.kills_with_order_in_flight,
            "parked": self.parked,
            "candidates": self.candidates,
            "orders": self.orders,
            "labels": len(LABELS),
            "label_hits_min": min(hits[label] for label in LABELS),
            "failpoints": {label: hits[label] for label in LABELS},
            "recovery_seconds": {
                **_spread([*self.recovery_seconds, *self.cold_recovery_seconds]),
                "forked": _spread(self.recovery_seconds),
                "cold": _spread(self.cold_recovery_seconds),
            },
            "seconds": round(self.seconds, 1),
            "seconds_a_kill": {"forked": self.seconds_a_kill(cold=False), "cold": self.seconds_a_kill(cold=True)},
            "seed": self.seed,
        }


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(seconds, 0.50), "p99": percentile(seconds, 0.99)}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value with at least that share of the values at or below it; None of nothing."""
    ordered = sorted(values)
    return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 3) if ordered else None
