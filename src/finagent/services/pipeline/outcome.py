"""How a candidate ends before the broker ever hears of it."""

from dataclasses import replace
from datetime import datetime

from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.gap import GapCandidate
from finagent.domain.jobs import Next, RunSettled
from finagent.domain.ports.store import Reads
from finagent.domain.runs import Stage, SymbolRun, SymbolState


def settled(run_id: str) -> Next:
    """The gathering of a run, published by whichever commit settles its last candidate."""
    return Next("gather", f"gather:{run_id}:settled", {"run_id": run_id}, when=RunSettled(run_id))


def has_ended(candidate: GapCandidate, reads: Reads) -> bool:
    """It has its outcome: whoever still has a job for it comes too late."""
    return reads.get(DecisionOutcome, candidate.decision_id) is not None


def story(candidate: GapCandidate, kind: str, at: datetime, **body: object) -> DecisionEvent:
    """The next event in a candidate's story."""
    return DecisionEvent(SubjectType.DECISION, candidate.decision_id, kind, at, candidate.trace_id, candidate.decision_id, body)


def stage(candidate: GapCandidate, reached: Stage, state: SymbolState, reason: str = "") -> Set:
    """Where the candidate's symbol stands in its run."""
    return Set(SymbolRun, (candidate.run_id, candidate.symbol), {"stage": reached, "state": state, "reason": reason})


def ended(candidate: GapCandidate, reached: Stage, outcome: SignalOutcome, reason: str, at: datetime) -> Effect:
    """The candidate's one signal outcome, with its run's gathering if it was the last one open.

    Conflict when something else ended it meanwhile: the compare and set comes first.
    """
    moved = stage(candidate, reached, SymbolState.REFUSED, reason)
    return Effect(
        records=(
            replace(moved, expect={"state": SymbolState.RUNNING}),
            DecisionOutcome(candidate.decision_id, outcome, reason, at),
        ),
        next=(settled(candidate.run_id),),
        events=(story(candidate, "signal_ended", at, outcome=outcome.value, reason=reason, stage=reached.value),),
    )
