"""The seeded plan of a drill: which replay suffers which kills. What it draws are fractions; a start turns them into passages."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from finagent.domain.chance import uniform
from finagent.drill.course import Course
from finagent.drill.labels import (
    BROKER_LABELS,
    FIRST_START_LABELS,
    LABELS,
    SERIAL_LABELS,
    START_LABELS,
    STOP_LABELS,
)

KILLS_A_REPLAY_MAX = 25
SERIAL_KILLS_MAX = 5
RECOVERY_DEPTH_MAX = 5
COLD_EVERY = 45  # of the kills outside recoveries
COLD_RECOVERY_EVERY = 50  # of those in recoveries
STOP_EVERY = 50
TERM_EVERY = 4  # of the cold starts
_SERIAL_REPLAY_EVERY = 12  # of the replays, one in so many is hit again and again at one serial label
_FIRST_SERIAL_REPLAY = 1


class Aim(Enum):
    """What a kill goes for: any busy instant, a labelled place, or the recovery from the kill before it; STOP: it is stopped at a
    place for a while, goes on, and is killed soon after; TERM: the real command is asked to end, once, twice, or while it
    starts."""

    INSTANT = "INSTANT"
    LABEL = "LABEL"
    RECOVERY = "RECOVERY"
    STOP = "STOP"
    TERM = "TERM"


_WEIGHTS = {Aim.INSTANT: 5, Aim.LABEL: 6}  # there are many places, and each has its share to get


@dataclass(frozen=True, slots=True)
class PlannedKill:
    """One kill. `place` in [0, 1) says at which of the label's passages (without one: how far along), `index` where on the course
    that is. `depth`: which kill in a row of kills in recoveries it is; `fresh_row`: False asks for the very next passage of the
    label, so that the same row is hit again. `cold`: the process is the real command, which cannot die at a label of its own."""

    aim: Aim
    label: str | None
    place: float
    delay: float
    index: int
    depth: int = 0
    fresh_row: bool = True
    cold: bool = False


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The kills of one folder, in order; the start after the last of them is left in peace."""

    index: int
    kills: tuple[PlannedKill, ...]


class KillPlanner:
    """Deals out kills in thirds by aim, the labels by whose turn it is, and puts those of a replay in the order in which their
    places come along the course.

    `only`: every kill falls at one of these labels, to look closely at one place.
    """

    def __init__(self, seed: int, course: Course, only: tuple[str, ...] = ()) -> None:
        self._seed, self._course, self._only = seed, course, only
        self._aims = Counter[Aim]()
        self._turns = Counter[str | None]()
        self._dealt = self._replays = 0
        self._cold = 0

    def next_replay(self, kills_wanted: int) -> ReplayPlan:
        """The next folder's kills, never more than are wanted."""
        index = self._replays
        self._replays += 1
        number = min(1 + int(self._draw("kills", index, 0) * KILLS_A_REPLAY_MAX), kills_wanted)
        if self._only:
            kills = self._along(self._label_kill(self._only, index, n) for n in range(number))
        elif index % _SERIAL_REPLAY_EVERY == _FIRST_SERIAL_REPLAY and kills_wanted >= SERIAL_KILLS_MAX:
            kills = self._serial_kills(index)
        else:
            kills = self._mixed_kills(index, number)
        return ReplayPlan(index, tuple(kills))

    def missed(self, kill: PlannedKill) -> None:
        """The replay ended before the kill fell: its share and its label come up again soon."""
        self._aims[kill.aim] -= 1
        if kill.aim is not Aim.STOP:
            self._turns[kill.label] -= 1

    # -- one replay ----------------------------------------------------------------------------------------------------------

    def _mixed_kills(self, index: int, number: int) -> list[PlannedKill]:
        """Kills along the course, some with a row of kills in recoveries behind them."""
        in_recovery = max(0, round((self._aims.total() + number) / 3 - self._aims[Aim.RECOVERY]))
        in_recovery = min(in_recovery, number * RECOVERY_DEPTH_MAX // (RECOVERY_DEPTH_MAX + 1))
        first = self._along(self._forward_kill(index, position) for position in range(number - in_recovery))
        rows: dict[int, int] = {}
        while in_recovery:
            free = [place for place in range(len(first)) if rows.get(place, 0) < RECOVERY_DEPTH_MAX]
            behind = free[int(self._draw("behind", index, in_recovery) * len(free))]
            depth = 1 + int(self._draw("depth", index, in_recovery) * (RECOVERY_DEPTH_MAX - rows.get(behind, 0)))
            depth = min(in_recovery, depth)
            rows[behind] = rows.get(behind, 0) + depth
            in_recovery -= depth
        kills = []
        for place, kill in enumerate(first):
            kills.append(kill)
            kills += [self._recovery_kill(index, number + len(kills) + n, n + 1) for n in range(rows.get(place, 0))]
        return kills

    def _forward_kill(self, index: int, position: int) -> PlannedKill:
        self._dealt += 1
        if self._dealt % STOP_EVERY == STOP_EVERY // 5:
            label = STOP_LABELS[int(self._draw("stop", index, position) * len(STOP_LABELS))]
            return self._kill(Aim.STOP, label, index, position)
        if self._dealt % COLD_EVERY == COLD_EVERY // 5:
            self._cold += 1
            kind = Aim.TERM if self._cold % TERM_EVERY == 0 else self._next_aim()
            broker_label = self._next_label(BROKER_LABELS) if kind is Aim.LABEL else None
            return replace(self._kill(kind, broker_label, index, position), cold=True)
        if self._next_aim() is Aim.INSTANT:
            return self._instant_kill(index, position)
        return self._label_kill([label for label in LABELS if label not in START_LABELS], index, position)

    def _instant_kill(self, index: int, position: int) -> PlannedKill:
        """Every second one falls while orders are on their way."""
        kill, in_flight = self._kill(Aim.INSTANT, None, index, position), self._course.in_flight
        if self._aims[Aim.INSTANT] % 2 and in_flight:
            return replace(kill, index=in_flight[int(kill.place * len(in_flight))])
        return kill

    def _recovery_kill(self, index: int, position: int, depth: int) -> PlannedKill:
        """Every second one falls at a random moment of the recovery."""
        at_random = self._aims[Aim.RECOVERY] % 2 == 1
        label = None if at_random else self._next_label(START_LABELS)
        cold = self._aims[Aim.RECOVERY] % COLD_RECOVERY_EVERY == COLD_RECOVERY_EVERY // 2
        return replace(self._kill(Aim.RECOVERY, label, index, position), depth=depth, cold=cold and at_random)

    def _serial_kills(self, index: int) -> list[PlannedKill]:
        first = self._label_kill(SERIAL_LABELS, index, 0)
        number = 3 + int(self._draw("serial", index, 0) * (SERIAL_KILLS_MAX - 2))
        following = [self._kill(Aim.LABEL, first.label, index, position) for position in range(1, number)]
        self._turns[first.label] += len(following)
        return [first, *(replace(kill, fresh_row=False) for kill in following)]

    def _along(self, kills: Iterable[PlannedKill]) -> list[PlannedKill]:
        """In the order of their places; what only a first start passes comes first."""

        return sorted(kills, key=lambda kill: (kill.label not in FIRST_START_LABELS, kill.index))

    # -- one kill ------------------------------------------------------------------------------------------------------------

    def _next_aim(self) -> Aim:
        return min(_WEIGHTS, key=lambda aim: self._aims[aim] / _WEIGHTS[aim])

    def _label_kill(self, labels: Iterable[str], index: int, position: int) -> PlannedKill:
        return self._kill(Aim.LABEL, self._next_label(labels), index, position)

    def _next_label(self, labels: Iterable[str]) -> str:
        label = min(labels, key=lambda one: (self._turns[one], uniform(self._seed, "label_order", one)))
        self._turns[label] += 1
        return label

    def _kill(self, aim: Aim, label: str | None, index: int, position: int) -> PlannedKill:
        self._aims[aim] += 1
        place, delay = self._draw("place", index, position), self._draw("delay", index, position)
        return PlannedKill(aim, label, place, delay, self._course.index_of(label, place))

    def _draw(self, purpose: str, index: int, position: int) -> float:
        return uniform(self._seed, f"drill_{purpose}", index, position)
