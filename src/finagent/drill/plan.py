"""The seeded plan of a drill: which replay suffers which kills. What it draws are fractions; a start turns them into passages."""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from finagent.domain.chance import uniform
from finagent.drill.labels import BROKER_LABELS, LABELS, SERIAL_LABELS, START_LABELS

KILLS_A_REPLAY_MAX = 5
COLD_START_EVERY = 20
_SERIAL_REPLAY_EVERY = 12  # of the replays, one in so many is hit again and again at one serial label
_FIRST_SERIAL_REPLAY = 5
_MIGRATION_LABELS = tuple(label for label in START_LABELS if label.startswith("migration."))


class Aim(Enum):
    """What a kill goes for: any busy instant, a labelled place, or the recovery from the kill before it."""

    INSTANT = "INSTANT"
    LABEL = "LABEL"
    RECOVERY = "RECOVERY"


@dataclass(frozen=True, slots=True)
class PlannedKill:
    """One kill. `place` in [0, 1) says where in what is left of the replay (or of the recovery); `fresh_row`: False asks for
    the very next passage of the label, so that the same row is hit again. `cold`: the process is the real command, which cannot
    die at a label of its own."""

    aim: Aim
    label: str | None
    place: float
    delay: float
    fresh_row: bool = True
    cold: bool = False


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The kills of one folder, in order; the start after the last of them is left in peace."""

    index: int
    kills: tuple[PlannedKill, ...]


class KillPlanner:
    """Deals out kills in thirds by aim and round robin over the labels, so that each label's turn comes.

    `only`: every kill falls at one of these labels, to look closely at one place.
    """

    def __init__(self, seed: int, only: tuple[str, ...] = ()) -> None:
        self._seed = seed
        self._only = deque(only)
        self._dealt = dict.fromkeys(Aim, 0)
        self._warm_kills = 0  # since the last of the real command
        self._replays = 0
        mid_replay = [label for label in LABELS if label not in START_LABELS or label in _MIGRATION_LABELS]
        self._labels = deque(sorted(mid_replay, key=lambda label: uniform(seed, "label_order", label)))
        self._serial = deque(sorted(SERIAL_LABELS, key=lambda label: uniform(seed, "serial_order", label)))
        # Every second kill in a recovery falls at a random moment of it.
        self._recovery: deque[str | None] = deque(item for label in START_LABELS for item in (label, None))

    def next_replay(self, kills_wanted: int) -> ReplayPlan:
        """The next folder's kills: one to five, never more than are wanted."""
        index = self._replays
        self._replays += 1
        number = 1 + int(self._draw("kills", index, 0) * KILLS_A_REPLAY_MAX)
        if index % _SERIAL_REPLAY_EVERY == _FIRST_SERIAL_REPLAY:
            number = max(number, 3)
        number = min(number, kills_wanted)
        if self._only:
            return ReplayPlan(index, tuple(self._focused_kill(index, position) for position in range(number)))
        if number >= 3 and index % _SERIAL_REPLAY_EVERY == _FIRST_SERIAL_REPLAY:
            return ReplayPlan(index, tuple(self._serial_kills(index, number)))
        return ReplayPlan(index, tuple(self._mixed_kill(index, position) for position in range(number)))

    def missed(self, kill: PlannedKill) -> None:
        """The replay ended before the kill fell: its share and its label come up again soon."""
        self._dealt[kill.aim] -= 1
        if kill.aim is Aim.LABEL and kill.label is not None and kill.label in self._labels:
            self._labels.remove(kill.label)
            self._labels.appendleft(kill.label)

    def _mixed_kill(self, index: int, position: int) -> PlannedKill:
        eligible = [aim for aim in Aim if aim is not Aim.RECOVERY or position > 0]
        aim = min(eligible, key=lambda one: self._dealt[one])
        cold = self._warm_kills >= COLD_START_EVERY - 1
        label: str | None = None
        if aim is Aim.LABEL:
            label = self._next_label(position, cold=cold)
        elif aim is Aim.RECOVERY and not cold:
            label = self._recovery[0]
            self._recovery.rotate(-1)
        return self._deal(
            PlannedKill(aim, label, self._draw("place", index, position), self._draw("delay", index, position), cold=cold)
        )

    def _focused_kill(self, index: int, position: int) -> PlannedKill:
        label = self._only[0]
        self._only.rotate(-1)
        place, delay = self._draw("place", index, position), self._draw("delay", index, position)
        return self._deal(PlannedKill(Aim.LABEL, label, place, delay))

    def _serial_kills(self, index: int, number: int) -> list[PlannedKill]:
        label = self._serial[0]
        self._serial.rotate(-1)
        place = self._draw("place", index, 0)
        return [self._deal(PlannedKill(Aim.LABEL, label, place, 0.0, fresh_row=position == 0)) for position in range(number)]

    def _next_label(self, position: int, *, cold: bool) -> str:
        """The label that waited longest of those that fit: the migration is met by the first start of a folder only, and the real
        command dies at the broker's labels."""
        label = next(
            label
            for label in self._labels
            if (label in BROKER_LABELS or not cold) and (label not in _MIGRATION_LABELS or position == 0)
        )
        self._labels.remove(label)
        self._labels.append(label)
        return label

    def _deal(self, kill: PlannedKill) -> PlannedKill:
        self._dealt[kill.aim] += 1
        self._warm_kills = 0 if kill.cold else self._warm_kills + 1
        return kill

    def _draw(self, purpose: str, index: int, position: int) -> float:
        return uniform(self._seed, f"drill_{purpose}", index, position)
