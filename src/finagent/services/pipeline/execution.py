"""An approved plan becomes intents, committed before anything is sent."""

from dataclasses import dataclass

from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.gap import GapCandidate
from finagent.domain.jobs import Job
from finagent.domain.orders import BrokerOrder, Leg
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.risk import RiskDecision
from finagent.domain.runs import Stage, SymbolState
from finagent.domain.trade_plan import TradePlan
from finagent.services.execution.intents import IntentWriter
from finagent.services.pipeline.outcome import has_ended, stage, story
from finagent.services.pipeline.risk import approve
from finagent.services.portfolio import ledger


@dataclass(frozen=True, slots=True)
class ExecutionService:
    clock: Clock
    brackets: bool  # the broker takes ours; where not, stop and target follow the entry's fill

    async def execute(self, job: Job, reads: Reads) -> Effect:
        """The intents of one approved plan, and the job that sends them. A second call changes nothing."""
        decision = job.payload["decision_id"]
        plan, verdict, candidate = (
            reads.get(TradePlan, decision),
            reads.get(RiskDecision, decision),
            reads.get(GapCandidate, decision),
        )
        if plan is None or verdict is None or candidate is None:
            raise Permanent(f"execute {decision}: its candidate, plan or verdict is not stored")
        if has_ended(candidate, reads) or reads.find(BrokerOrder, decision_id=decision, leg=Leg.ENTRY):
            return Effect()
        now = self.clock.now()
        told = story(
            candidate, "intent_committed", now, quantity=verdict.quantity, entry=str(plan.entry), limit=str(plan.entry_limit)
        )
        moved = stage(candidate, Stage.EXECUTE, SymbolState.SUCCESS)
        intents = IntentWriter(ledger(reads)).entry(approve(plan, verdict), now, bracket=self.brackets)
        return intents + Effect((moved,), (), (told,))
