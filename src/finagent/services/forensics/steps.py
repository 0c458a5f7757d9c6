"""The steps of one decision, each with the numbers that it was taken on."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.orders import Fill, OrderIntent, OrderType
from finagent.domain.ports.store import Reads
from finagent.domain.risk import RiskDecision, RiskSnapshot, Verdict
from finagent.domain.runs import PipelineRun
from finagent.services.reporting.stories import Story


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; `text` for people, `facts` for those who check."""

    kind: str
    at: datetime | None
    text: str
    facts: dict[str, Any]


def decision_steps(reads: Reads, story: Story) -> tuple[Step, ...]:
    """Scan to exit in order of time; steps of one instant in the order of the pipeline."""
    steps = [*_found(reads, story), *_decided(reads, story), *_traded(story), *_ended(story)]
    order = {id(step): number for number, step in enumerate(steps)}
    first = story.candidate.as_of
    return tuple(sorted(steps, key=lambda step: (step.at or first, order[id(step)])))


def _found(reads: Reads, story: Story) -> list[Step]:
    candidate, facts = story.candidate, story.candidate.facts
    run = reads.get(PipelineRun, candidate.run_id)
    steps = []
    if run:
        steps.append(
            Step("scan", run.fired_at, f"{run.entry}: {run.symbols} symbols, {run.candidates} candidates", {"run_id": run.run_id})
        )
    text = (
        f"{candidate.symbol} opened {facts.open:,.2f} after {facts.previous_close:,.2f} ({facts.gap:+.2%}), "
        f"volume {facts.relative_volume:.2f}x the usual, last {facts.last:,.2f}"
    )
    steps.append(Step("candidate", candidate.as_of, text, _fields(facts)))
    return steps


def _package(reads: Reads, decision_id: str) -> str:
    """Digest of the package that scored; empty for a formula."""
    told = reads.find(DecisionEvent, subject_type=SubjectType.DECISION, subject_id=decision_id, kind="candidate_scored")
    return str(told[-1].body.get("model_sha256", "")) if told else ""


def _decided(reads: Reads, story: Story) -> list[Step]:
    steps = []
    if story.prediction:
        one = story.prediction
        facts = {"model_version": one.model_version, "data_spec_hash": one.data_spec_hash, "score": one.score}
        text = f"score {one.score:.4f} by {one.model_version}"
        if sha256 := _package(reads, one.decision_id):
            facts, text = facts | {"model_sha256": sha256}, f"{text} (sha256 {sha256[:16]})"
        steps.append(Step("prediction", one.created_at, text, facts))
    planned_at = story.prediction.created_at if story.prediction else None
    if story.plan:
        plan = story.plan
        text = (
            f"{plan.side.value} {plan.quantity} at {plan.entry:,.2f} (limit {plan.entry_limit:,.2f}), stop {plan.stop:,.2f}, "
            f"target {plan.target:,.2f}; {plan.reason}"
        )
        steps.append(Step("plan", planned_at, text, {"valid_until": plan.valid_until}))
    if story.verdict:
        snapshot = reads.get(RiskSnapshot, story.verdict.run_id)
        steps.append(Step("verdict", story.verdict.at, _verdict(story.verdict), _gate_facts(story.verdict, snapshot)))
    return steps


def _verdict(verdict: RiskDecision) -> str:
    if verdict.verdict is Verdict.APPROVED:
        text = f"APPROVED, rank {verdict.rank + 1}, {verdict.quantity} shares, {len(verdict.checks)} checks passed"
        used = [(one.utilisation, one.code.value) for one in verdict.checks if one.utilisation is not None]
        return f"{text}, nearest {max(used)[1]} at {max(used)[0]:.0%}" if used else text
    measured = f"{verdict.code.value}, limit {amount(verdict.limit_value)}, would be {amount(verdict.value)}"
    return f"{verdict.verdict.value}: {measured}; {verdict.quantity} shares allowed"


def asked(verdict: RiskDecision) -> dict[str, dict[str, Any]]:
    """What the gate asked, by code: each limit, what was measured against it, the part that is used, the largest quantity."""
    return {
        one.code.value: {
            "limit": one.limit,
            "value": one.value,
            "utilisation": None if one.utilisation is None else float(one.utilisation),
            "allowed": one.allowed_quantity,
        }
        for one in verdict.checks
    }


def _gate_facts(verdict: RiskDecision, snapshot: RiskSnapshot | None) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    if snapshot is not None:
        seen = {"equity": snapshot.equity, "cash": snapshot.cash, "trading_state": snapshot.trading_state}
        seen |= {"strategy_lock": snapshot.strategy_lock} if snapshot.strategy_lock else {}
    return {"rank": verdict.rank, "notional": verdict.notional, **seen, "checks": asked(verdict)}


def _traded(story: Story) -> list[Step]:
    legs = {intent.client_order_id: intent.leg.value for intent in story.intents}
    steps = []
    for intent in story.intents:
        steps.append(Step("intent", intent.committed_at, _intent(intent), {"client_order_id": intent.client_order_id}))
        order = story.orders.get(intent.client_order_id)
        if order and order.outcome:
            facts: dict[str, Any] = {"client_order_id": order.client_order_id, "broker_order_id": order.broker_order_id}
            facts |= {"sends": order.sends} if order.sends else {}  # a leg travels with its parent
            known = f"{intent.leg.value} {order.outcome.value}" + (f", {order.reason}" if order.reason else "")
            steps.append(Step("send", order.sent_at or intent.committed_at, known, facts))
        if order:
            text = f"{intent.leg.value} is {order.state.value}, {order.filled_quantity} of {intent.quantity} filled"
            steps.append(Step("order", order.updated_at, text, {"client_order_id": order.client_order_id}))
    steps += [_fill(fill, legs.get(fill.client_order_id, "unknown")) for fill in story.fills]
    return steps


def _intent(intent: OrderIntent) -> str:
    return f"{intent.leg.value} committed: {intent.side.value} {intent.quantity} {order_terms(intent)} {intent.reason}".rstrip()


def order_terms(intent: OrderIntent) -> str:
    """Type and prices in the words of the trade: `stop-limit trigger 104.01 limit 104.28`."""
    prices = [f"trigger {intent.stop_price:,.2f}"] if intent.stop_price is not None else []
    prices += [f"limit {intent.limit_price:,.2f}"] if intent.limit_price is not None else []
    kind = [] if intent.type is OrderType.LIMIT else [intent.type.value.lower().replace("_", "-")]
    return " ".join([*kind, *prices])


def amount(value: Decimal) -> str:
    """A limit or what was measured against it: money with cents, a fraction with four digits."""
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"


def _fill(fill: Fill, leg: str) -> Step:
    text = f"{leg} {fill.side.value} {fill.quantity} at {fill.price:,.4f}, fee {fill.fee:,.2f}"
    return Step("fill", fill.filled_at, text, {"execution_id": fill.execution_id, "client_order_id": fill.client_order_id})


def _ended(story: Story) -> list[Step]:
    steps = []
    if story.outcome:
        steps.append(Step("outcome", story.outcome.at, f"{story.outcome.outcome.value}: {story.outcome.reason}", {}))
    if story.exit:
        result = f", {story.cash_flow:+,.2f} USD after fees" if story.open_quantity == 0 else ""
        steps.append(Step("exit", story.exit.at, f"{story.exit.kind.value}{result}", {}))
    return steps


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
