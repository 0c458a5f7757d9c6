"""From any id to its story: everything that led to it and followed from it, in order."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import BadInput
from finagent.domain.gap import GapCandidate
from finagent.domain.identity import trace_id as trace_of
from finagent.domain.orders import BrokerOrder
from finagent.domain.ports.store import Reads
from finagent.domain.risk import RiskSnapshot
from finagent.domain.runs import PipelineRun, SymbolRun, SymbolState
from finagent.services.forensics.job_history import JobHistory, JobRecord
from finagent.services.forensics.steps import Step, decision_steps
from finagent.services.reporting.day_report import decision_row
from finagent.services.reporting.provenance import data_notice
from finagent.services.reporting.stories import Story, collect


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event of an audit chain, in the order of its commits."""

    at: datetime
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The story behind an id. `steps` in order of market time; `focus` is the step kind that the id itself names, if any;
    `related` are ids that lead on, `notice` is what is to be said of
    the data."""

    asked: str
    subject: str
    subject_id: str
    trace_id: str
    title: str
    ending: str
    focus: str
    steps: tuple[Step, ...]
    events: tuple[EventLine, ...]
    jobs: tuple[JobRecord, ...]
    related: dict[str, tuple[str, ...]]
    notice: str


def explain(reads: Reads, jobs: JobHistory, asked: str) -> Explanation:
    """The story of a decision, order (ours or the broker's id), job number, run or trace; a unique beginning of a decision, run
    or order id is enough. Raises BadInput that says what may stand there."""
    asked = asked.strip()
    decision = _unique("decision", asked, [one.decision_id for one in reads.find(GapCandidate)]) if asked else None
    if decision:
        return _of_decision(reads, jobs, asked, decision, "")
    order = _order(reads, asked)
    if order:
        return _of_decision(reads, jobs, asked, order.decision_id, f"order {order.client_order_id}")
    runs = reads.find(PipelineRun)
    run = _unique("run", asked, [one.run_id for one in runs]) if asked else None
    if run:
        return _of_run(reads, jobs, asked, run)
    job = jobs.job(int(asked)) if asked.isdigit() and len(asked) < 19 else None
    if job:
        return _of_job(reads, jobs, asked, job)
    for candidate in reads.find(GapCandidate, trace_id=asked):
        return _of_decision(reads, jobs, asked, candidate.decision_id, "")
    for one in runs:
        if trace_of(one.run_id) == asked:
            return _of_run(reads, jobs, asked, one.run_id)
    raise BadInput(f"nothing is known of {asked!r}: {_hint(reads)}")


def _unique(kind: str, asked: str, ids: list[str]) -> str | None:
    if asked in ids:
        return asked
    found = sorted(one for one in ids if one.startswith(asked)) if len(asked) >= 6 else []
    if len(found) > 1:
        raise BadInput(f"{asked!r} begins {len(found)} {kind} ids, such as {found[0]} and {found[1]}: give more of it")
    return found[0] if found else None


def _order(reads: Reads, asked: str) -> BrokerOrder | None:
    own = reads.get(BrokerOrder, asked)
    if own:
        return own
    by_broker = reads.find(BrokerOrder, broker_order_id=asked)
    if by_broker:
        return by_broker[0]
    ids = {one.client_order_id: one for one in reads.find(BrokerOrder)} if asked.startswith("fa-") else {}
    name = _unique("order", asked, list(ids))
    return ids[name] if name else None


def _hint(reads: Reads) -> str:
    decisions = reads.find(GapCandidate)
    example = f" such as {decisions[-1].decision_id}" if decisions else ""
    return f"ask for a decision{example}, an order (fa-... or the broker's id), a run (run-...), a job number or a trace id"


def _of_decision(reads: Reads, jobs: JobHistory, asked: str, decision: str, focus: str) -> Explanation:
    (story,) = collect(reads, decision_id=decision)
    row = decision_row(story)
    candidate = story.candidate
    result = f", {row.pnl:+,.2f} USD" if row.pnl is not None else ""
    exit_kind = f", exit {row.exit}" if row.exit else ""
    return Explanation(
        asked=asked,
        subject="DECISION",
        subject_id=decision,
        trace_id=candidate.trace_id,
        title=f"{candidate.symbol}, session {candidate.session_date}, gap {candidate.facts.gap:+.2%}",
        ending=f"{row.outcome}: {row.reason}{exit_kind}{result}",
        focus=focus,
        steps=decision_steps(reads, story),
        events=_events(reads, SubjectType.DECISION, decision),
        jobs=tuple(jobs.of_trace(candidate.trace_id)),
        related=_related(story),
        notice=data_notice(reads),
    )


def _related(story: Story) -> dict[str, tuple[str, ...]]:
    related: dict[str, tuple[str, ...]] = {"run": (story.candidate.run_id,)}
    if story.intents:
        related["orders"] = tuple(intent.client_order_id for intent in story.intents)
    return related


def _of_run(reads: Reads, jobs: JobHistory, asked: str, run_id: str) -> Explanation:
    run = reads.get(PipelineRun, run_id)
    assert run is not None, "the id was just found"
    stories = collect(reads, run_id=run_id)
    trace = trace_of(run_id)
    return Explanation(
        asked=asked,
        subject="RUN",
        subject_id=run_id,
        trace_id=trace,
        title=f"scan {run.entry}, session {run.session_date}",
        ending=f"{run.state.value}: {run.candidates} candidates, {run.failed} with bad data. {run.reason}".rstrip(),
        focus="",
        steps=(*_run_steps(reads, run), *(_candidate_line(story) for story in stories)),
        events=_events(reads, SubjectType.RUN, run_id),
        jobs=tuple(jobs.of_trace(trace)),
        related={"decisions": tuple(story.decision_id for story in stories)} if stories else {},
        notice=data_notice(reads),
    )


def _run_steps(reads: Reads, run: PipelineRun) -> list[Step]:
    steps = [Step("scan", run.fired_at, f"fired, {run.symbols} symbols", {"turned_away": run.reasons})]
    kept_out = reads.find(SymbolRun, run_id=run.run_id, state=[SymbolState.NEAR_MISS, SymbolState.FAILED])
    steps += [Step(one.state.value.lower(), run.fired_at, f"{one.symbol}: {one.reason}", {}) for one in kept_out]
    snapshot = reads.get(RiskSnapshot, run.run_id)
    if snapshot:
        facts = {"equity": snapshot.equity, "trading_state": snapshot.trading_state, "orders_today": snapshot.orders_today}
        order = ", ".join(f"{line.symbol} {line.score:.3f}" for line in snapshot.ranked)
        steps.append(Step("risk snapshot", snapshot.at, f"ranked: {order}", facts))
    return steps


def _candidate_line(story: Story) -> Step:
    row = decision_row(story)
    return Step("candidate", row.scanned_at, f"{row.symbol}: {row.outcome}, {row.reason}", {"decision_id": row.decision_id})


def _of_job(reads: Reads, jobs: JobHistory, asked: str, job: JobRecord) -> Explanation:
    """The story that the job belongs to, with the job in focus; a job of no story alone."""
    focus = f"job {job.id}"
    decision = job.payload.get("decision_id")
    client = job.payload.get("client_order_id")
    order = reads.get(BrokerOrder, client) if client else None
    if order or (decision and reads.get(GapCandidate, decision)):
        return _of_decision(reads, jobs, asked, order.decision_id if order else str(decision), focus)
    by_trace = reads.find(GapCandidate, trace_id=job.trace_id) if job.trace_id else []
    if by_trace:
        return _of_decision(reads, jobs, asked, by_trace[0].decision_id, focus)
    run = job.payload.get("run_id")
    if run and reads.get(PipelineRun, run):
        return _of_run(reads, jobs, asked, str(run))
    return Explanation(
        asked=asked,
        subject="JOB",
        subject_id=str(job.id),
        trace_id=job.trace_id,
        title=f"{job.type} {job.dedup_key}",
        ending=f"{job.status.value} {job.last_error}".strip(),
        focus=focus,
        steps=(),
        events=(),
        jobs=(job,),
        related={},
        notice=data_notice(reads),
    )


def _events(reads: Reads, subject: SubjectType, subject_id: str) -> tuple[EventLine, ...]:
    found = reads.find(DecisionEvent, subject_type=subject, subject_id=subject_id)
    return tuple(EventLine(one.at, one.kind, dict(one.body)) for one in found)
