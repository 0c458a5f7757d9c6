"""I1: no signal is lost, no decision ends twice."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import Book

OUTCOMES = frozenset({"FILLED", "CANCELLED", "REJECTED", "RISK_DENIED", "NO_TRADE", "EXPIRED", "DEAD"})
EXIT_KINDS = frozenset({"STOP", "TARGET", "TIME", "MANUAL"})


def check_signals(agent: Book, report: Report) -> None:
    """Count the candidates, the lost and the parked; list what is wrong. Lost counts only once the replay is finished."""
    candidates = {row["decision_id"] for row in agent.rows("SELECT decision_id FROM candidate")}
    report.candidates = len(candidates)
    outcomes: dict[str, list[tuple[str | None, str]]] = defaultdict(list)
    for row in agent.rows("SELECT decision_id, outcome, reason FROM signal_outcome"):
        outcomes[row["decision_id"]].append((row["outcome"], row["reason"]))
    report.add(_outcome_violations(candidates, outcomes))
    parked = {decision for decision, held in outcomes.items() if held == [(None, "PARKED")]}
    report.parked = len(parked & candidates)
    if report.finished:
        ended = {decision for decision, held in outcomes.items() if any(outcome is not None for outcome, _ in held)}
        lost = candidates - ended
        report.lost = len(lost)
        report.add(
            Violation(Invariant.SIGNAL, decision, "order still parked" if decision in parked else "no signal outcome")
            for decision in sorted(lost)
        )
    report.add(_exit_violations(agent, outcomes, finished=report.finished))


def _outcome_violations(candidates: set[str], outcomes: dict[str, list[tuple[str | None, str]]]) -> Iterator[Violation]:
    for decision, held in sorted(outcomes.items()):
        names = [outcome for outcome, _ in held if outcome is not None]
        if decision not in candidates:
            yield Violation(Invariant.SIGNAL, decision, "signal outcome of a decision that is no candidate")
        if len(held) > 1:
            yield Violation(Invariant.SIGNAL, decision, f"{len(held)} signal outcomes: {sorted(map(str, names))}")
        for name in names:
            if name not in OUTCOMES:
                yield Violation(Invariant.SIGNAL, decision, f"unknown signal outcome {name!r}")


def _exit_violations(agent: Book, outcomes: dict[str, list[tuple[str | None, str]]], *, finished: bool) -> Iterator[Violation]:
    """A decision with fills is FILLED, and nothing else is; flat, it has exactly one exit; open, none."""
    held: Counter[str] = Counter()
    filled: set[str] = set()
    for row in agent.rows("SELECT decision_id, side, quantity FROM fill"):
        filled.add(row["decision_id"])
        held[row["decision_id"]] += int(row["quantity"]) * (1 if row["side"] == "BUY" else -1)
    exits: Counter[str] = Counter()
    for row in agent.rows("SELECT decision_id, kind FROM decision_exit"):
        exits[row["decision_id"]] += 1
        if row["kind"] not in EXIT_KINDS:
            yield Violation(Invariant.SIGNAL, row["decision_id"], f"unknown kind of exit {row['kind']!r}")
    said_filled = {decision for decision, rows in outcomes.items() if any(outcome == "FILLED" for outcome, _ in rows)}
    for decision in sorted(said_filled - filled):
        yield Violation(Invariant.SIGNAL, decision, "signal outcome FILLED without a fill")
    for decision in sorted(filled - said_filled if finished else ()):
        yield Violation(Invariant.SIGNAL, decision, "fills, but the signal outcome is not FILLED")
    for decision in sorted(filled | set(exits)):
        expected = 1 if decision in filled and held[decision] == 0 else 0
        if exits[decision] != expected and (finished or exits[decision] > expected):
            state = "flat" if expected else f"open with {held[decision]}"
            yield Violation(Invariant.SIGNAL, decision, f"{exits[decision]} exits of a decision that is {state}")
