"""Commits as sentences: what an onlooker wants to hear of an effect, in the words of the trade."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from finagent.domain.decision import DecisionExit, DecisionOutcome, SignalOutcome
from finagent.domain.effect import Effect, Set
from finagent.domain.gap import GapCandidate
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent, OrderState, SendOutcome
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.store import Reads
from finagent.domain.risk import RiskDecision, Verdict
from finagent.domain.runs import PipelineRun, RunState, SymbolRun, SymbolState
from finagent.domain.time import EXCHANGE_ZONE
from finagent.domain.trading_state import TradingState, TradingStateRecord
from finagent.services.forensics.steps import amount, order_terms
from finagent.services.reporting.stories import collect

_QUIET_ENDINGS = (SignalOutcome.FILLED,)  # the fills have been told already


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing worth a line. `tone` is good, bad, warn, or empty; `decision_id` empty where it is about no single candidate."""

    at: datetime
    kind: str
    symbol: str
    text: str
    tone: str = ""
    decision_id: str = ""


class Narrator:
    """Turns effects into happenings. Once it was given `reads`, it also knows what an earlier process committed."""

    def __init__(self) -> None:
        self.reads: Reads | None = None
        self._now: datetime | None = None
        self._candidates: dict[str, GapCandidate] = {}
        self._told: set[tuple[object, str, str]] = set()

    def time_is(self, now: datetime) -> None:
        """Market time, for records that carry none."""
        self._now = now

    def tell(self, effect: Effect) -> Iterator[Happening]:
        """What the effect says, in its own order; each near miss once a session."""
        for record in effect.records:
            if isinstance(record, PipelineRun):
                self._now = record.fired_at
        for record in effect.records:
            yield from self._changed(record) if isinstance(record, Set) else self._inserted(record)

    def _inserted(self, record: object) -> Iterator[Happening]:
        if isinstance(record, GapCandidate):
            self._candidates[record.decision_id] = record
            facts = record.facts
            text = f"gap {facts.gap:+.2%}, volume {facts.relative_volume:.2f}x, last {facts.last:,.2f}"
            yield Happening(record.as_of, "candidate", record.symbol, text, "", record.decision_id)
        elif isinstance(record, RiskDecision):
            yield self._verdict(record)
        elif isinstance(record, OrderIntent) and record.leg in (Leg.ENTRY, Leg.EXIT):
            yield self._intent(record)
        elif isinstance(record, Fill):
            text = f"{record.side.value.lower()} {record.quantity} at {record.price:,.2f}"
            yield Happening(record.filled_at, "fill", record.symbol, text, "", record.decision_id)
        elif isinstance(record, DecisionOutcome) and record.outcome not in _QUIET_ENDINGS:
            yield self._ending(record)
        elif isinstance(record, DecisionExit):
            yield self._exit(record)
        elif isinstance(record, SymbolRun) and record.state in (SymbolState.NEAR_MISS, SymbolState.FAILED):
            yield from self._left_out(record)
        elif isinstance(record, PipelineRun) and record.state is RunState.EXPIRED:
            yield Happening(record.fired_at, "scan", "", f"{record.entry} EXPIRED: {record.reason}", "warn")
        elif isinstance(record, AccountSnapshot) and record.kind == "CLOSE":
            yield self._close(record)

    def _changed(self, change: Set) -> Iterator[Happening]:
        if change.record_type is BrokerOrder:
            yield from self._order(str(change.key[0]), change)
        elif change.record_type is TradingStateRecord and isinstance(change.values.get("state"), TradingState):
            state, reason = change.values["state"], change.values.get("reason", "")
            tone = "good" if state is TradingState.ACTIVE else "bad"
            yield from self._at_market_time("trading state", "", f"{state.value}: {reason}", tone)

    def _order(self, client_order_id: str, change: Set) -> Iterator[Happening]:
        outcome, state = change.values.get("outcome"), change.values.get("state")
        order = self.reads.get(BrokerOrder, client_order_id) if self.reads else None
        self._now = change.values.get("updated_at") or self._now
        symbol, leg = (order.symbol, order.leg.value.lower()) if order else ("", "order")
        if outcome in (SendOutcome.UNRESOLVED, SendOutcome.REFUSED, SendOutcome.DENIED):
            what = {SendOutcome.UNRESOLVED: "no usable answer, looking it up", SendOutcome.REFUSED: "refused by the broker"}
            reason = change.values.get("reason") or what.get(outcome, "")
            tone = "warn" if outcome is SendOutcome.UNRESOLVED else "bad"
            yield from self._at_market_time("order", symbol, f"{leg} {outcome.value}: {reason}", tone)
        elif state is OrderState.PARKED:
            yield from self._at_market_time("order", symbol, f"{leg} PARKED: a person must look it up", "bad")

    def _verdict(self, verdict: RiskDecision) -> Happening:
        symbol = self._symbol(verdict.decision_id)
        measured = f"{verdict.code.value}, limit {amount(verdict.limit_value)}, would be {amount(verdict.value)}"
        if verdict.verdict is Verdict.APPROVED:
            text, tone, kind = f"{verdict.quantity} shares, rank {verdict.rank + 1}", "good", "taken"
        elif verdict.verdict is Verdict.REDUCED:
            text, tone, kind = f"reduced to {verdict.quantity} shares: {measured}", "good", "taken"
        else:
            text, tone, kind = measured, "bad", "refused"
        return Happening(verdict.at, kind, symbol, text, tone, verdict.decision_id)

    def _intent(self, intent: OrderIntent) -> Happening:
        text = f"{intent.leg.value.lower()}: {intent.side.value.lower()} {intent.quantity} {order_terms(intent)} {intent.reason}"
        return Happening(intent.committed_at, "order", intent.symbol, text.rstrip(), "", intent.decision_id)

    def _ending(self, ending: DecisionOutcome) -> Happening:
        kind = {SignalOutcome.RISK_DENIED: "refused", SignalOutcome.NO_TRADE: "refused"}.get(ending.outcome, "ended")
        text = f"{ending.outcome.value}: {ending.reason}"
        return Happening(ending.at, kind, self._symbol(ending.decision_id), text, "bad", ending.decision_id)

    def _exit(self, ending: DecisionExit) -> Happening:
        text, tone = ending.kind.value, ""
        stories = collect(self.reads, decision_id=ending.decision_id) if self.reads else []
        if stories:
            text, tone = f"{text} {stories[0].cash_flow:+,.2f} USD", "good" if stories[0].cash_flow >= 0 else "bad"
        return Happening(ending.at, "exit", self._symbol(ending.decision_id), text, tone, ending.decision_id)

    def _close(self, close: AccountSnapshot) -> Happening:
        opened = self.reads.get(AccountSnapshot, close.session_date, "OPEN") if self.reads else None
        change = f" ({close.equity - opened.equity:+,.2f})" if opened else ""
        text = f"{close.session_date} closed, equity {close.equity:,.2f} USD{change}"
        return Happening(close.at, "session", "", text, "good" if not opened or close.equity >= opened.equity else "bad")

    def _left_out(self, record: SymbolRun) -> Iterator[Happening]:
        kind = "near miss" if record.state is SymbolState.NEAR_MISS else "bad data"
        rule = record.reason.split(":")[0]
        already = (self._now.date() if self._now else None, record.symbol, rule)
        if already not in self._told:
            self._told.add(already)
            yield from self._at_market_time(kind, record.symbol, record.reason, "warn" if kind == "bad data" else "")

    def _at_market_time(self, kind: str, symbol: str, text: str, tone: str) -> Iterator[Happening]:
        if self._now is not None:
            yield Happening(self._now, kind, symbol, text, tone)

    def _symbol(self, decision_id: str) -> str:
        known = self._candidates.get(decision_id)
        if known is None and self.reads is not None:
            known = self.reads.get(GapCandidate, decision_id)
        return known.symbol if known else "?"


def exchange_time(at: datetime) -> str:
    """`2008-10-01 09:35` on the exchange's clock."""
    return f"{at.astimezone(EXCHANGE_ZONE):%Y-%m-%d %H:%M}"
