"""The course of an undisturbed replay: every label in the order of its passages, and the instants of market time among them.

It is the map on which kills are placed: where a start will be, given the market clock that it finds, and how many passages from
there lead to the place that is meant.
"""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from finagent.drill.labels import FIRST_INSTANT

COURSE = "course.json"
_INTENT, _OUTCOME = "intent_commit.after", "outcome_commit.before"


@dataclass(frozen=True)
class Course:
    """`labels` as they were passed; `instants`: the text of each market time with the number of labels passed by its end."""

    labels: tuple[str, ...]
    instants: tuple[tuple[str, int], ...]
    _places: dict[str, list[int]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        places = defaultdict(list)
        for index, label in enumerate(self.labels):
            places[label].append(index)
        object.__setattr__(self, "_places", dict(places))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises KeyError or ValueError for a file that `save` did not write whole."""
        stored = json.loads(path.read_text())
        return cls(tuple(stored["labels"]), tuple((at, end) for at, end in stored["instants"]))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"labels": self.labels, "instants": self.instants}))

    @property
    def passages(self) -> dict[str, int]:
        """How often each label is passed."""
        return Counter(self.labels)

    def index_of(self, label: str | None, place: float) -> int:
        """Where on the course the label is passed at the given share, in [0, 1), of its passages; without a label, or with one
        that is not on it, at that share of the whole."""
        passed = self._places.get(label) if label else None
        return passed[int(place * len(passed))] if passed else int(place * len(self.labels))

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The places between an instant's first intent and its last outcome: orders are on their way."""
        found: list[int] = []
        begin = 0
        for _, end in self.instants:
            names = self.labels[begin:end]
            if _INTENT in names and _OUTCOME in names:
                last = len(names) - names[::-1].index(_OUTCOME)
                found += range(begin + names.index(_INTENT), begin + last)
            begin = end
        return tuple(found)

    def passages_to(self, label: str | None, index: int, market_at: str, passed_before: int) -> int:
        """How many passages of the label (None: of any) lead a process that starts at the market time to the place on the course.

        What of that instant was done is not known. Where later instants have enough passages it does not matter; where they have
        not, `passed_before`, how often all earlier processes of the replay passed the label, says how many may be left: some of
        those were repetitions, so the place is met too early rather than never. At least 1: what lies behind is met at its next.
        """
        begin, end = self._instant_of(market_at)
        if label is None:
            if not begin:
                return index + 1
            return max(1, min(index - begin + 1, len(self.labels) - end)) + self._first_instant
        passed = self._places.get(label, [])
        number, ahead = bisect_right(passed, index), len(passed) - bisect_right(passed, end - 1)
        meant = number - bisect_right(passed, begin - 1)
        return max(1, meant if meant <= ahead else min(meant, number - passed_before))

    @property
    def _first_instant(self) -> int:
        """The passages that every start makes before its first instant."""
        return self._places[FIRST_INSTANT][0]

    def _instant_of(self, market_at: str) -> tuple[int, int]:
        """First and last + 1 place of the instant; the first instant begins with the start itself."""
        number = max(0, bisect_right([at for at, _ in self.instants], market_at) - 1)
        return (self.instants[number - 1][1] if number else 0), self.instants[number][1]
