"""What we would do about a scored candidate: entry above the high since the open, stop at the low, size from the risk."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from finagent.domain.decision import SignalOutcome
from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.gap import Direction, GapCandidate
from finagent.domain.jobs import Job
from finagent.domain.money import CENT, SUB_DOLLAR_TICK, Rounding, to_tick
from finagent.domain.orders import Side
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.runs import Stage, SymbolState
from finagent.domain.trade_plan import TradePlan
from finagent.services.pipeline.allocation import RiskShare, risk_share
from finagent.services.pipeline.outcome import ended, has_ended, settled, stage, story


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """`risk_fraction` of equity at risk a trade, `entry_limit_fraction` above the trigger, `target_multiple` of the risk."""

    risk_fraction: Decimal
    entry_limit_fraction: Decimal
    target_multiple: Decimal
    valid_minutes: int
    short_selling: bool


@dataclass(frozen=True, slots=True)
class PlannerService:
    clock: Clock
    policy: PlanPolicy

    async def plan(self, job: Job, reads: Reads) -> Effect:
        decision = job.payload["decision_id"]
        candidate = reads.get(GapCandidate, decision)
        if candidate is None:
            raise Permanent(f"plan {decision}: its candidate is not stored")
        if has_ended(candidate, reads):
            return Effect()
        opened = reads.get(AccountSnapshot, candidate.session_date, "OPEN")
        if opened is None:
            raise Permanent(f"plan {decision}: no account snapshot of the open of {candidate.session_date}")
        now = self.clock.now()
        if candidate.direction is Direction.DOWN and not self.policy.short_selling:
            return ended(
                candidate, Stage.PLAN, SignalOutcome.NO_TRADE, "SHORT_SELLING: a gap down, and short selling is off", now
            )
        share = risk_share(job)
        plan = self.draft(candidate, opened.equity, candidate.as_of, share)
        if isinstance(plan, str):
            return ended(candidate, Stage.PLAN, SignalOutcome.NO_TRADE, plan, now)
        event = story(
            candidate,
            "trade_planned",
            now,
            side=plan.side.value,
            quantity=plan.quantity,
            entry=str(plan.entry),
            limit=str(plan.entry_limit),
            stop=str(plan.stop),
            target=str(plan.target),
            size=plan.reason,
            **(share.payload() if share else {}),
        )
        return Effect((plan, stage(candidate, Stage.PLAN, SymbolState.RUNNING)), (settled(candidate.run_id),), (event,))

    def draft(self, candidate: GapCandidate, equity: Decimal, as_of: datetime, share: RiskShare | None = None) -> TradePlan | str:
        """The plan, or why there is none. A short plan mirrors the long one around the range since the open. Without a share of
        its own it risks an equal one."""
        facts, policy = candidate.facts, self.policy
        if candidate.direction is Direction.UP:
            side, sign = Side.BUY, 1
            edge, stop = to_tick(facts.high, Rounding.DOWN), to_tick(facts.low, Rounding.DOWN)
            outward = Rounding.UP
        else:
            side, sign = Side.SELL, -1
            edge, stop = to_tick(facts.low, Rounding.UP), to_tick(facts.high, Rounding.UP)
            outward = Rounding.DOWN
        entry = edge + sign * (CENT if edge >= 1 else SUB_DOLLAR_TICK)
        limit = to_tick(entry * (1 + sign * policy.entry_limit_fraction), outward)
        risk = sign * (entry - stop)
        target = to_tick(entry + sign * policy.target_multiple * risk)
        budget, scaled = policy.risk_fraction * equity, ""
        if share is not None:
            budget, scaled = budget * share.multiple, f" ({share.multiple} of an equal part: {share.reason})"
        quantity = int(budget // risk)
        if quantity <= 0:
            return f"SIZE_ZERO: {budget:.2f} USD at risk{scaled}, {risk} a share"
        if not sign * (target - limit) > 0 or target <= 0:
            return f"RANGE_TOO_NARROW: target {target} is inside the entry limit {limit}"
        return TradePlan(
            candidate.decision_id,
            candidate.run_id,
            candidate.symbol,
            side,
            quantity,
            entry,
            limit,
            stop,
            target,
            as_of + timedelta(minutes=policy.valid_minutes),
            f"{budget:.2f} USD at risk{scaled} / {risk} a share = {quantity}",
        )
