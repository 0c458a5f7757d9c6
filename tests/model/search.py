"""Breadth-first over all interleavings: every reachable state once, the shortest way to whatever is wrong, and a way out."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.model.environment import Step, process_steps, request_steps, world_steps
from tests.model.protocol import FALSE_END, STUCK, Protocol
from tests.model.state import State, over, settled, start, swapped, wrong
from tests.model.worker import worker_steps


@dataclass(frozen=True, slots=True)
class Trace:
    """How something wrong comes about: one line a step, and what is wrong at its end."""

    steps: tuple[str, ...]
    wrong: str


@dataclass(slots=True)
class Finding:
    """What a search saw; `seconds` of processor time.

    `stuck`: the way to a state from which the candidate gets no outcome although all faults have stopped.
    """

    states: int = 0
    transitions: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # states by what the store knows of the order
    seconds: float = 0.0
    unsafe: Trace | None = None
    stuck: Trace | None = None


def steps(state: State, protocol: Protocol) -> Iterator[Step]:
    """Everything that may happen next."""
    yield from world_steps(state, protocol)
    for number in range(len(state.workers)):
        yield from process_steps(state, number, protocol)
        yield from request_steps(state, number, protocol)
        yield from worker_steps(state, number, protocol)


@dataclass(slots=True)
class Search:
    """One exhaustive search. The two workers are alike: of two states that differ in their names only, one is looked at."""

    protocol: Protocol
    _number: dict[State, int] = field(default_factory=dict)
    _parents: list[tuple[int, int, str, bool]] = field(default_factory=list)  # parent, who, what, names exchanged since
    _before: list[list[int]] = field(default_factory=list)  # predecessors by a step that is no fault

    def run(self) -> Finding:
        """To the end, or to the first state that must not be: it is one of the nearest."""
        began, finding = time.process_time(), Finding()
        finding.unsafe = self._explore(finding)
        if finding.unsafe is None:
            finding.stuck = self._stuck(finding)
        finding.states, finding.seconds = len(self._number), time.process_time() - began
        return finding

    def _explore(self, finding: Finding) -> Trace | None:
        first = start(self.protocol.workers)
        self._number[first] = 0
        self._parents.append((-1, -1, "", False))
        self._before.append([])
        queue, protocol, number = deque([first]), self.protocol, self._number
        while queue:
            state = queue.popleft()
            if over(state):
                continue
            here = number[state]
            for who, what, fault, after, broken in steps(state, protocol):
                finding.transitions += 1
                exchanged = len(after.workers) == 2 and after.workers[1] < after.workers[0]
                if exchanged:
                    after = swapped(after)
                there = number.get(after)
                if there is None:
                    there = number[after] = len(number)
                    self._parents.append((here, who, what, exchanged))
                    self._before.append([])
                    broken = broken or wrong(after)
                    queue.append(after)
                if settled(state) and after.row != state.row:
                    broken = f"{FALSE_END}: {state.row} became {after.row}"
                if broken and self._counts(broken):
                    return Trace((*self._way(here), _line(who, what, self._names(here))), broken)
                if not fault and there != here:
                    self._before[there].append(here)
        return None

    def _counts(self, broken: str) -> bool:
        return broken.split(":")[0] in self.protocol.never

    def _stuck(self, finding: Finding) -> Trace | None:
        """A state from which no way without faults leads to an outcome. Outcomes are never left again, so where there is a way,
        every fair run takes it in the end."""
        states = list(self._number)
        finding.rows.update(state.row for state in states)
        todo = [place for place, state in enumerate(states) if settled(state)]
        reached = bytearray(len(states))
        for place in todo:
            reached[place] = 1
        while todo:
            for before in self._before[todo.pop()]:
                if not reached[before]:
                    reached[before] = 1
                    todo.append(before)
        place = reached.find(0)
        return None if place < 0 else Trace(tuple(self._way(place)), f"{STUCK}: no way to an outcome from {states[place]}")

    # -- telling it ----------------------------------------------------------------------------------------------------------

    def _path(self, place: int) -> list[int]:
        path = [place]
        while path[-1]:
            path.append(self._parents[path[-1]][0])
        return path[::-1]

    def _names(self, place: int) -> tuple[str, str]:
        """What the workers of a state are called in its trace."""
        exchanges = sum(self._parents[each][3] for each in self._path(place))
        return ("B", "A") if exchanges % 2 else ("A", "B")

    def _way(self, place: int) -> list[str]:
        path = self._path(place)
        return [
            _line(self._parents[there][1], self._parents[there][2], self._names(here)) for here, there in itertools.pairwise(path)
        ]


def _line(who: int, what: str, names: tuple[str, str]) -> str:
    return what if who < 0 else f"{names[who]} {what}"
