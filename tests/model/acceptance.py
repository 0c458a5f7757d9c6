"""Is a trace a path of the model? The steps of the model that nobody sees are taken as they may be."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tests.model.environment import Step
from tests.model.protocol import ALONE, Protocol
from tests.model.search import steps
from tests.model.state import State, settled, start, wrong

# One process at the simulator, whose late requests outlive a barrier.
SIMULATED = replace(ALONE, barrier_holds=False)
ANSWERS = {
    "answer: CONFIRMED": "answer: CONFIRMED",
    "answer: REFUSED": "answer: REFUSED",
    "answer: no answer": "answer: UNRESOLVED",
    "answer: id used": "answer: UNRESOLVED",
    "send deadline before the write": "answer: UNRESOLVED",
}
SEEN = ("commits: ", "observes: ", "look-up: ", "hands over", "barrier", "crashes", "person halts")
States = frozenset[State]


def line_of(step: Step) -> str:
    """How an observer tells the step; empty for one that it does not see."""
    if step.what == "commits: plan":
        return ""
    return ANSWERS.get(step.what) or (step.what if step.what.startswith(SEEN) else "")


@dataclass(slots=True)
class Acceptor:
    """Follows traces through the model, in every way in which it may have gone; never into a state that must not be."""

    protocol: Protocol = SIMULATED
    _unseen: dict[State, list[State]] = field(default_factory=dict)
    _seen: dict[State, dict[str, list[State]]] = field(default_factory=dict)
    _after: dict[tuple[States, str], States] = field(default_factory=dict)

    def refusal(self, trace: Iterable[str], *, ended: bool) -> str:
        """Where the trace leaves the model; empty when it is a path, and one to the order's end if the day has ended."""
        states = self._closure({start(self.protocol.workers)})
        told: list[str] = []
        for line in trace:
            after = self._step(states, line)
            told.append(line)
            if not after:
                return f"{' > '.join(told)}: the model has no such step here, but {sorted(self._possible(states))}"
            states = after
        if ended and not any(settled(state) for state in states):
            return f"{' > '.join(told)}: the day is over and the order is not"
        return ""

    def _possible(self, states: States) -> set[str]:
        return {line for state in states for line in self._seen[state]}

    def _step(self, states: States, line: str) -> States:
        known = self._after.get((states, line))
        if known is None:
            known = self._closure({after for state in states for after in self._seen[state].get(line, ())})
            self._after[states, line] = known
        return known

    def _closure(self, states: set[State]) -> States:
        """These states, and all that unseen steps lead to."""
        reached, todo = set(states), list(states)
        while todo:
            for after in self._ways(todo.pop()):
                if after not in reached:
                    reached.add(after)
                    todo.append(after)
        return frozenset(reached)

    def _ways(self, state: State) -> list[State]:
        if state not in self._unseen:
            unseen: list[State] = []
            seen: dict[str, list[State]] = {}
            for step in steps(state, self.protocol):
                if not step.broken and not wrong(step.state):
                    line = line_of(step)
                    (seen.setdefault(line, []) if line else unseen).append(step.state)
            self._unseen[state], self._seen[state] = unseen, seen
        return self._unseen[state]
