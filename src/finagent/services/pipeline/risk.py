"""The one gate: a run's plans are ranked over one snapshot and judged one after the other. Only here a plan becomes Approved."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from math import isfinite

from finagent.domain.decision import DecisionEvent, DecisionOutcome, SignalOutcome, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, Permanent
from finagent.domain.gap import GapCandidate
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Job, Next
from finagent.domain.money import ZERO, rounded
from finagent.domain.orders import BrokerOrder, Leg, OrderIntent, OrderState, SendOutcome
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.prediction import Prediction
from finagent.domain.risk import (
    Approved,
    Exposure,
    Past,
    RankedPlan,
    RiskCode,
    RiskDecision,
    RiskProfile,
    RiskSnapshot,
    TradeRisk,
    Verdict,
)
from finagent.domain.risk_checks import Held, Question, decide, warnings
from finagent.domain.runs import PipelineRun, RunState, Stage, SymbolState
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState
from finagent.quant.risk.exposure import Book, BookLimits, History
from finagent.services.execution.symbol_locks import locked_symbols
from finagent.services.kill_switch import KillSwitch, state_change, strategy_lock
from finagent.services.market_data.feed import Feed
from finagent.services.market_data.return_history import ReturnHistory
from finagent.services.pipeline.account_past import account_past
from finagent.services.pipeline.outcome import ended, stage, story
from finagent.services.portfolio import portfolio
from finagent.services.risk_watch import peak_equity

UNKNOWN_SECTOR = "unknown"
LIVE = [state for state in OrderState if state.live]


def approve(plan: TradePlan, verdict: RiskDecision) -> Approved[TradePlan]:
    """The seal, from a committed verdict that let the plan pass."""
    if verdict.verdict is Verdict.REFUSED or verdict.decision_id != plan.decision_id:
        raise Permanent(f"{plan.decision_id}: no verdict that lets it pass")
    return Approved(plan, verdict.quantity, verdict.rank)


@dataclass(frozen=True, slots=True)
class MeasuredBook:
    """The book before a run's first verdict; None where something in it has no history. `history` names the returns it was
    measured on, `days` of them; empty where there are none. `held` is what it adds up to."""

    held: Held
    book: Book | None
    history: str
    days: int


@dataclass(frozen=True, slots=True)
class RiskService:
    """Without `returns` nothing that needs a past is asked."""

    feed: Feed
    clock: Clock
    profile: RiskProfile
    sectors: Mapping[str, str]
    kill_switch: KillSwitch
    returns: ReturnHistory | None = None
    _books: dict[str, MeasuredBook] = field(default_factory=dict)  # of the last run: whoever starts again measures it anew

    # -- gather: one snapshot and the ranked list ----------------------------------------------------------------------------

    async def gather(self, job: Job, reads: Reads) -> Effect:
        """Commit the snapshot that all verdicts of the run read; a second gathering changes nothing.

        Runs take turns: while another one is being judged this one asks again after each of its verdicts, at the latest when
        its own time is over.
        """
        run_id = job.payload["run_id"]
        if reads.get(RiskSnapshot, run_id) is not None:
            return Effect()
        ahead = self._being_judged(reads)
        if ahead and "last_call" not in job.payload:
            after = f"{ahead[0].run_id}:{reads.count(RiskDecision, run_id=ahead[0].run_id)}"
            return Effect(next=(Next("gather", f"gather:{run_id}:after:{after}", job.payload, trace_id=trace_id(run_id)),))
        now = self.clock.now()
        ranked = self._ranked(run_id, reads)
        late = self._too_late(run_id, {line.decision_id for line in ranked}, reads)
        for snapshot in ahead:
            late += self._overtaken(snapshot, reads)
        if not ranked:
            return late + self._finished(run_id, reads)
        snapshot = self._snapshot(run_id, ranked, reads)
        body: dict[str, object] = {"equity": str(snapshot.equity), "plans": len(ranked)}
        body["trading_state"] = snapshot.trading_state.value
        if self.returns is not None:
            snapshot = self._with_past(snapshot, reads)
            measured = await self._measured(self.returns, snapshot)
            body |= {"history": measured.history, "history_days": measured.days}
        told = DecisionEvent(SubjectType.RUN, run_id, "risk_gathered", now, trace_id(run_id), body=body)
        return late + Effect((snapshot,), (self._judge(run_id, 0),), (told,))

    def _being_judged(self, reads: Reads) -> list[RiskSnapshot]:
        """Of gathered runs that have verdicts to come."""
        running = reads.find(PipelineRun, state=RunState.RUNNING, session_date=self.feed.session.date)
        found = [snapshot for run in running if (snapshot := reads.get(RiskSnapshot, run.run_id)) is not None]
        return [one for one in found if reads.count(RiskDecision, run_id=one.run_id) < len(one.ranked)]

    def _overtaken(self, snapshot: RiskSnapshot, reads: Reads) -> Effect:
        """What a run has not judged when another one can wait no longer expires: its snapshot does not know what that one will be
        allowed, and both would fill the same room."""
        effect = Effect()
        for line in snapshot.ranked:
            candidate = reads.get(GapCandidate, line.decision_id)
            judged = reads.get(RiskDecision, line.decision_id) is not None
            if candidate is not None and not judged and not self._over(line.decision_id, reads):
                reason = "not judged when the next run could wait no longer"
                outcome = ended(candidate, Stage.RISK, SignalOutcome.EXPIRED, reason, self.clock.now())
                effect += Effect(outcome.records, (), outcome.events)
        return effect

    def _ranked(self, run_id: str, reads: Reads) -> tuple[RankedPlan, ...]:
        lines = []
        for plan in reads.find(TradePlan, run_id=run_id):
            prediction = reads.get(Prediction, plan.decision_id)
            if prediction is None or reads.get(DecisionOutcome, plan.decision_id) is not None:
                continue
            price, age = self.feed.last_price(plan.symbol)
            sector = self.sectors.get(plan.symbol, UNKNOWN_SECTOR)
            lines.append(RankedPlan(plan.decision_id, plan.symbol, sector, prediction.score, price, age))
        return tuple(sorted(lines, key=lambda line: (-line.score, line.symbol)))

    def _too_late(self, run_id: str, ranked: set[str], reads: Reads) -> Effect:
        """Candidates of the run that are neither planned nor ended when the gate stops waiting expire."""
        effect = Effect()
        for candidate in reads.find(GapCandidate, run_id=run_id):
            if candidate.decision_id not in ranked and reads.get(DecisionOutcome, candidate.decision_id) is None:
                reason = "not planned when the gate stopped waiting"
                outcome = ended(candidate, Stage.PLAN, SignalOutcome.EXPIRED, reason, self.clock.now())
                effect += Effect(outcome.records, (), outcome.events)
        return effect

    def _snapshot(self, run_id: str, ranked: tuple[RankedPlan, ...], reads: Reads) -> RiskSnapshot:
        now, holdings = self.clock.now(), portfolio(reads)
        marks = {position.symbol: self.feed.last_price(position.symbol)[0] for position in holdings.open}
        known = {symbol: price for symbol, price in marks.items() if price is not None}
        exposures = [self._exposure(p.symbol, p.quantity, p.quantity * known.get(p.symbol, ZERO)) for p in holdings.open]
        locked = locked_symbols(reads)
        for order in reads.find(BrokerOrder, leg=Leg.ENTRY, state=LIVE):
            intent = reads.get(OrderIntent, order.client_order_id)
            if intent is None or order.outcome is SendOutcome.DENIED:
                continue
            left = intent.side.sign * (intent.quantity - order.filled_quantity)
            exposures.append(self._exposure(order.symbol, left, left * self._worst_price(intent)))
            if order.state is OrderState.PARKED:
                locked.add(order.symbol)
        unsent = self._unsent(run_id, reads)
        for plan, verdict in unsent:
            sign = plan.side.sign
            exposures.append(self._exposure(plan.symbol, sign * verdict.quantity, sign * verdict.notional))
        opened = reads.get(AccountSnapshot, self.feed.session.date, "OPEN")
        sent = [i for i in reads.find(OrderIntent, leg=[Leg.ENTRY, Leg.EXIT]) if i.committed_at >= self.feed.session.opens_at]
        return RiskSnapshot(
            run_id=run_id,
            at=now,
            trading_state=self.kill_switch.effective_state(),
            equity=holdings.equity(known) if len(known) == len(marks) else ZERO,  # unknown: nothing may be risked on it
            session_open_equity=opened.equity if opened is not None else ZERO,
            cash=holdings.cash,
            exposures=tuple(sorted(exposures, key=lambda e: (e.symbol, e.quantity))),
            locked_symbols=tuple(sorted(locked)),
            orders_today=sum(1 for intent in sent if intent.leg is Leg.ENTRY) + len(unsent),
            messages_last_minute=sum(1 for intent in sent if intent.committed_at > now - timedelta(minutes=1)) + len(unsent),
            ranked=ranked,
            strategy_lock=strategy_lock(run_id, reads) or None,
        )

    def _worst_price(self, intent: OrderIntent) -> Decimal:
        """USD a share that an entry may bind at most; NaN where nobody can say, on which nothing passes."""
        prices = (intent.limit_price or intent.stop_price, self.feed.last_price(intent.symbol)[0])
        return max((price for price in prices if price is not None), default=Decimal("NaN"))

    def _with_past(self, snapshot: RiskSnapshot, reads: Reads) -> RiskSnapshot:
        """Each line with what the checks of the past ask of account and symbol."""
        today = self.feed.session
        account, peak = account_past(reads, today.date), peak_equity(reads, snapshot.at, snapshot.equity)
        sent = [i for i in reads.find(OrderIntent, leg=Leg.ENTRY) if i.committed_at >= today.opens_at]
        entered = [intent.symbol for intent in sent] + [plan.symbol for plan, _ in self._unsent(snapshot.run_id, reads)]

        def past(line: RankedPlan) -> Past:
            candidate = reads.get(GapCandidate, line.decision_id)
            dollars = candidate.facts.dollar_volume_mean if candidate is not None else float("nan")
            return Past(
                peak_equity=peak,
                day_trades=account.day_trades,
                entries_today=entered.count(line.symbol),
                dollar_volume_mean=dollars if isfinite(dollars) else None,
                sold_at_loss=line.symbol in account.sold_at_loss,
                trade=None,
            )

        return replace(snapshot, ranked=tuple(replace(line, past=past(line)) for line in snapshot.ranked))

    def _unsent(self, run_id: str, reads: Reads) -> list[tuple[TradePlan, RiskDecision]]:
        """What other runs of the session were allowed and have not committed as an order yet."""
        found = []
        for run in reads.find(PipelineRun, session_date=self.feed.session.date):
            for verdict in reads.find(RiskDecision, run_id=run.run_id) if run.run_id != run_id else ():
                plan = reads.get(TradePlan, verdict.decision_id)
                known = reads.count(BrokerOrder, decision_id=verdict.decision_id)
                if verdict.quantity and plan is not None and not known and not self._over(verdict.decision_id, reads):
                    found.append((plan, verdict))
        return found

    def _over(self, decision_id: str, reads: Reads) -> bool:
        return reads.get(DecisionOutcome, decision_id) is not None

    def _exposure(self, symbol: str, quantity: int, notional: Decimal) -> Exposure:
        return Exposure(symbol, self.sectors.get(symbol, UNKNOWN_SECTOR), quantity, notional)

    # -- verdicts: serial, in rank order -------------------------------------------------------------------------------------

    async def check(self, job: Job, reads: Reads) -> Effect:
        """The verdict on the plan of one rank; publishes the next rank."""
        run_id, rank = job.payload["run_id"], job.payload["rank"]
        snapshot = reads.get(RiskSnapshot, run_id)
        if snapshot is None:
            raise Permanent(f"risk {run_id}: no snapshot is stored")
        line = snapshot.ranked[rank]
        plan, candidate = reads.get(TradePlan, line.decision_id), reads.get(GapCandidate, line.decision_id)
        if plan is None or candidate is None:
            raise Permanent(f"risk {line.decision_id}: its plan or candidate is not stored")
        earlier = tuple(sorted(reads.find(RiskDecision, run_id=run_id), key=lambda decision: decision.rank))
        book = await self._book(line, snapshot, earlier, reads)
        measured = self._books.get(run_id)
        held = measured.held if measured is not None else None
        question = Question(plan, line, snapshot, self.profile, earlier, line.past, held)
        if line.past is not None:
            question = replace(question, past=replace(line.past, trade=trade_risk(book, question, plan.quantity)))
        verdict = decide(question, rank, self.clock.now())
        told = story(
            candidate,
            "risk_decided",
            verdict.at,
            verdict=verdict.verdict.value,
            code=verdict.code.value,
            limit=str(verdict.limit_value),
            value=str(verdict.value),
            quantity=verdict.quantity,
            planned=plan.quantity,
            rank=rank,
            **self._after(question, verdict, book),
        )
        effect = Effect((verdict,), (), (told,))
        effect += Effect() if self._over(line.decision_id, reads) else self._consequence(candidate, verdict)
        runaway = verdict.verdict is Verdict.REFUSED and verdict.code is RiskCode.MESSAGE_RATE
        if runaway and self.kill_switch.state().state.new_risk:
            reason = f"runaway: {verdict.value} orders in a minute, limit {verdict.limit_value}"
            effect += state_change(reads, TradingState.HALTED, reason, "risk", verdict.at)
        last = rank + 1 == len(snapshot.ranked)
        return effect + (self._finished(run_id, reads) if last else Effect(next=(self._judge(run_id, rank + 1),)))

    async def _measured(self, returns: ReturnHistory, snapshot: RiskSnapshot) -> MeasuredBook:
        if snapshot.run_id not in self._books:
            symbols = frozenset([one.symbol for one in snapshot.exposures] + [line.symbol for line in snapshot.ranked])
            found = await returns.of(self.feed.session, symbols)
            self._books.clear()
            self._books[snapshot.run_id] = MeasuredBook(
                Held.of(snapshot.exposures),
                None if found is None else book_of(found.history, snapshot.exposures),
                "" if found is None else found.digest,
                0 if found is None else found.days,
            )
        return self._books[snapshot.run_id]

    async def _book(self, line: RankedPlan, snapshot: RiskSnapshot, earlier: Sequence[RiskDecision], reads: Reads) -> Book | None:
        """With the run's approvals so far; None where it cannot be measured: nothing may be risked on that."""
        if line.past is None or self.returns is None:
            return None
        book = (await self._measured(self.returns, snapshot)).book
        for verdict in earlier:
            plan = reads.get(TradePlan, verdict.decision_id) if verdict.quantity else None
            if book is not None and plan is not None:
                book = book.with_trade(plan.symbol, float(plan.side.sign * verdict.notional))
        return book

    def _after(self, question: Question, verdict: RiskDecision, book: Book | None) -> dict[str, object]:
        """Nothing where no past is asked."""
        if question.past is None:
            return {}
        return {"after": figures_after(question, verdict, book), "warnings": list(warnings(question, verdict))}

    def _consequence(self, candidate: GapCandidate, verdict: RiskDecision) -> Effect:
        if verdict.verdict is Verdict.REFUSED:
            reason = f"{verdict.code.value}: {verdict.value} against a limit of {verdict.limit_value}"
            refused = ended(candidate, Stage.RISK, SignalOutcome.RISK_DENIED, reason, verdict.at)
            return Effect(refused.records, (), refused.events)
        following = Next(
            "execute", f"execute:{candidate.decision_id}", {"decision_id": candidate.decision_id}, trace_id=candidate.trace_id
        )
        return Effect((stage(candidate, Stage.RISK, SymbolState.RUNNING, verdict.verdict.value),), (following,))

    def _judge(self, run_id: str, rank: int) -> Next:
        return Next("risk", f"risk:{run_id}:{rank}", {"run_id": run_id, "rank": rank}, trace_id=trace_id(run_id))

    def _finished(self, run_id: str, reads: Reads) -> Effect:
        """Every candidate of the run has its verdict or its outcome."""
        run = reads.get(PipelineRun, run_id)
        if run is None or run.state is not RunState.RUNNING:
            return Effect()
        now = self.clock.now()
        change = Set(PipelineRun, (run_id,), {"state": RunState.SUCCESS, "finished_at": now}, {"state": RunState.RUNNING})
        return Effect((change,), (), (DecisionEvent(SubjectType.RUN, run_id, "run_finished", now, trace_id(run_id)),))


def book_of(history: History, exposures: Sequence[Exposure]) -> Book | None:
    """None where something in it has no history."""
    signed: dict[str, float] = defaultdict(float)
    for exposure in exposures:
        signed[exposure.symbol] += float(exposure.notional)
    try:
        return Book.of(history, signed)
    except BadInput:
        return None


def trade_risk(book: Book | None, question: Question, quantity: int) -> TradeRisk | None:
    """What so many shares make of the book; None where that cannot be measured."""
    limits, equity = question.profile.portfolio, float(question.snapshot.equity)
    bounds = BookLimits(
        float(limits.value_at_risk_fraction_max) * equity, float(limits.beta_max) * equity, float(limits.correlation_max)
    )
    try:
        price = float(question.plan.side.sign * question.price)
        return None if book is None else book.trade_risk(question.plan.symbol, price, quantity, bounds)
    except BadInput:
        return None


def figures_after(question: Question, verdict: RiskDecision, book: Book | None) -> dict[str, str]:
    """What the book becomes with what was allowed, USD; of value at risk and its like where they can be measured."""
    bound, usd = question.bound, verdict.notional
    told = {"position": bound.symbol + usd, "sector": bound.sector + usd, "gross": bound.gross + usd}
    trade = trade_risk(book, question, verdict.quantity)
    if trade is not None:
        amounts = {"value_at_risk": trade.value_at_risk, "expected_shortfall": trade.expected_shortfall, "beta": trade.beta}
        told |= {name: rounded(Decimal(repr(value)), 2) for name, value in amounts.items()}
        told["correlation"] = rounded(Decimal(repr(trade.correlation)), 6)
    return {name: str(value) for name, value in (told | {"equity": question.snapshot.equity}).items()}
