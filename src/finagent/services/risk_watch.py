"""Watches the account between the gate's questions: breakers that trip are committed as the trading state."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from finagent.domain.circuit_breakers import Breaker, BreakerLimits, Readings, tripped
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.gap import GapCandidate
from finagent.domain.jobs import Job, Next
from finagent.domain.money import ZERO
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent, SendOutcome
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.time import from_text, to_text
from finagent.domain.trade_plan import TradePlan
from finagent.domain.trading_state import TradingState
from finagent.services.kill_switch import KillSwitch, state_change
from finagent.services.market_data.feed import Feed
from finagent.services.portfolio import portfolio

DAY_LOCK = f"breaker {Breaker.DAILY_LOSS.value}"
NEXT_DAY = "session"
BASIS_POINTS = 10_000
_GRAVITY = (TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED)


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """`interval_seconds` between two looks."""

    interval_seconds: int
    limits: BreakerLimits


def watch_job(opens_at: datetime, closes_at: datetime, interval_seconds: int) -> Next:
    """The first look of a session."""
    first = opens_at + timedelta(seconds=interval_seconds)
    return Next("watch", f"watch:{to_text(first)}", {"until": to_text(closes_at)}, first)


def unlocked(reads: Reads, kill_switch: KillSwitch, at: datetime) -> Effect:
    """The end of a lock that was for the day: a new session begins."""
    if kill_switch.state().by != DAY_LOCK:
        return Effect()
    return state_change(reads, TradingState.ACTIVE, "the day that was locked is over", NEXT_DAY, at)


def armed_at(reads: Reads, by: datetime) -> datetime:
    """When a person last armed; the end of a day's lock is nobody's look at the account."""
    told = [event for event in reads.find(DecisionEvent, subject_type=SubjectType.TRADING_STATE) if event.at <= by]
    armed = (event.at for event in told if event.body["to"] == TradingState.ACTIVE.value and event.body["by"] != NEXT_DAY)
    return max(armed, default=datetime.min.replace(tzinfo=UTC))


def peak_equity(reads: Reads, by: datetime, equity: Decimal) -> Decimal:
    """The highest equity at an open or a close since a person last armed, and then; USD."""
    armed = armed_at(reads, by)
    return max([equity, *(snapshot.equity for snapshot in reads.find(AccountSnapshot) if armed <= snapshot.at <= by)])


@dataclass(frozen=True, slots=True)
class RiskWatch:
    """When a person re-arms, refusals, slippage and the peak begin anew; the loss of the day does not."""

    feed: Feed
    clock: Clock
    policy: WatchPolicy
    kill_switch: KillSwitch

    async def watch(self, job: Job, reads: Reads) -> Effect:
        """One look; publishes the next one until the session's close. The state only ever gets stricter."""
        now = self.clock.now()
        at = now + timedelta(seconds=self.policy.interval_seconds)
        following = (Next("watch", f"watch:{to_text(at)}", job.payload, at),) if at < from_text(job.payload["until"]) else ()
        known = self.feed.follows(now)  # a process that has just started may not have opened the session yet
        return (self._judged(reads, now) if known else Effect()) + Effect(next=following)

    def _judged(self, reads: Reads, now: datetime) -> Effect:
        held = self.kill_switch.state()
        for trip in tripped(self.readings(reads), self.policy.limits):
            stricter = _GRAVITY.index(trip.state) - _GRAVITY.index(held.state)
            outlasts = held.by == DAY_LOCK and trip.breaker is not Breaker.DAILY_LOSS  # the end of the day must not end this one
            if stricter > 0 or (stricter == 0 and outlasts):
                return state_change(reads, trip.state, str(trip), f"breaker {trip.breaker.value}", now)
        return Effect()

    def readings(self, reads: Reads) -> Readings:
        """The account now, with everything since the session's open or since a person last armed."""
        armed, session = armed_at(reads, self.clock.now()), self.feed.session
        since, holdings = max(session.opens_at, armed), portfolio(reads)
        marks = {position.symbol: self.feed.mark(position.symbol) for position in holdings.open}
        known = {symbol: price for symbol, price in marks.items() if price is not None}
        equity = holdings.equity(known) if len(known) == len(marks) else None
        opened = reads.get(AccountSnapshot, session.date, "OPEN")
        decisions = [candidate.decision_id for candidate in reads.find(GapCandidate, session_date=session.date)]
        slippage = slipped(reads, decisions, since, self.clock.now())
        total = sum((value for _, value in slippage), ZERO)
        refused = reads.find(BrokerOrder, decision_id=decisions, outcome=SendOutcome.REFUSED)
        return Readings(
            equity=equity,
            session_open_equity=opened.equity if opened is not None else ZERO,
            peak_equity=peak_equity(reads, self.clock.now(), equity or ZERO),
            slippage_bps=sum((bps * value for bps, value in slippage), ZERO) / total if total else ZERO,
            fills=len(slippage),
            refusals=sum(1 for order in refused if order.updated_at >= since),
            unusable_fraction=Decimal(repr(self.feed.unusable_fraction)),
        )


def slipped(reads: Reads, decisions: list[str], since: datetime, until: datetime) -> list[tuple[Decimal, Decimal]]:
    """Basis points by which each fill of an entry or a stop was worse than its trigger, with its value in USD."""
    found = []
    for fill in reads.find(Fill, decision_id=decisions):
        intent = reads.get(OrderIntent, fill.client_order_id) if since <= fill.filled_at <= until else None
        asked = _trigger(intent, reads) if intent is not None else None
        if asked:
            worse = fill.side.sign * (fill.price - asked)
            found.append((worse / asked * BASIS_POINTS, fill.price * fill.quantity))
    return found


def _trigger(intent: OrderIntent, reads: Reads) -> Decimal | None:
    if intent.leg is not Leg.ENTRY:
        return intent.stop_price if intent.leg is Leg.STOP else None
    plan = reads.get(TradePlan, intent.decision_id)
    return plan.entry if plan is not None else None
