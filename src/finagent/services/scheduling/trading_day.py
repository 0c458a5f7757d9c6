"""A session's timetable as durable jobs: each session publishes its scans, its flattening, its report and the next session."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from finagent.domain.decision import DecisionEvent, SignalOutcome, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import Permanent
from finagent.domain.gap import GapCandidate
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import Reads
from finagent.domain.runs import Stage, SymbolRun
from finagent.domain.sessions import Session
from finagent.domain.time import to_text
from finagent.services.kill_switch import KillSwitch
from finagent.services.market_data.feed import Feed
from finagent.services.pipeline.outcome import ended, has_ended
from finagent.services.portfolio import portfolio
from finagent.services.risk_watch import unlocked, watch_job
from finagent.services.scheduling.cron import CronEntry, fire_times
from finagent.services.scheduling.scheduled_training import training_jobs

ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class DayPolicy:
    """`flat_minutes` before the close everything is closed out; `reconcile_seconds` between comparisons with the
    broker, `watch_seconds` between looks at the account; `trainings` begin on days with a session."""

    entries: tuple[CronEntry, ...]
    flat_minutes: int
    reconcile_seconds: int
    watch_seconds: int
    trainings: tuple[CronEntry, ...] = ()


def session_job(session: Session) -> Next:
    """The job that opens a session; publishing it twice does nothing."""
    return Next("session", f"session:{session.date.isoformat()}", {"date": session.date.isoformat()}, session.opens_at)


def scan_minutes(entries: tuple[CronEntry, ...], session: Session, late_minutes: int = 0) -> tuple[int, ...]:
    """The minutes after the open at which the session may be scanned: each fire time, and up to `late_minutes` after it."""
    fired = {session.minute_of(at) for entry in entries for at in fire_times(entry, session)}
    return tuple(sorted({min(minute + late, session.minutes) for minute in fired for late in range(late_minutes + 1)}))


@dataclass(frozen=True, slots=True)
class TradingDay:
    """`session_of` finds a session by its date, `next_session` the one after it (None at the end of a window)."""

    clock: Clock
    feed: Feed
    policy: DayPolicy
    kill_switch: KillSwitch
    session_of: Callable[[date], Session]
    next_session: Callable[[date], Session | None]

    async def open(self, job: Job, reads: Reads) -> Effect:
        """The account at the open, and everything that the session has to do."""
        session = self.session_of(date.fromisoformat(job.payload["date"]))
        jobs = [
            Next("scan", f"scan:{entry.name}:{to_text(at)}", {"entry": entry.name, "fired_at": to_text(at)}, at)
            for entry in self.policy.entries
            for at in fire_times(entry, session)
        ]
        first = session.opens_at + timedelta(seconds=self.policy.reconcile_seconds)
        jobs.append(Next("reconcile", f"reconcile:{to_text(first)}", {"until": to_text(session.closes_at)}, first))
        jobs.append(watch_job(session.opens_at, session.closes_at, self.policy.watch_seconds))
        flat_at = session.closes_at - timedelta(minutes=self.policy.flat_minutes)
        until = to_text(session.closes_at)
        jobs.append(Next("flatten", f"flatten:{session.date.isoformat()}", {"until": until}, flat_at))
        if portfolio(reads).open:  # an exit failed the day before
            left_over = {"until": until, "entered_before": to_text(session.opens_at)}
            jobs.append(Next("flatten", f"flatten:{session.date.isoformat()}:left over", left_over))
        jobs.append(Next("report", f"report:{session.date.isoformat()}", dict(job.payload), session.closes_at))
        jobs += training_jobs(self.policy.trainings, session)
        following = self.next_session(session.date)
        if following is not None:
            jobs.append(session_job(following))
        snapshot = self._snapshot(session, "OPEN", reads)
        body = {"equity": str(snapshot.equity), "cash": str(snapshot.cash), "scans": sum(1 for n in jobs if n.type == "scan")}
        told = DecisionEvent(SubjectType.ACCOUNT, ACCOUNT, "session_opened", self.clock.now(), body=body)
        return Effect((snapshot,), tuple(jobs), (told,)) + unlocked(reads, self.kill_switch, self.clock.now())

    async def close(self, job: Job, reads: Reads) -> Effect:
        """The account at the close: the day's result. A candidate that nothing speaks for any more ends here: its run's jobs
        died, and it must not be lost."""
        session = self.session_of(date.fromisoformat(job.payload["date"]))
        snapshot = self._snapshot(session, "CLOSE", reads)
        opened = reads.get(AccountSnapshot, session.date, "OPEN")
        if opened is None:
            raise Permanent(f"report {session.date}: the session was never opened")
        body = {
            "equity": str(snapshot.equity),
            "pnl": str(snapshot.equity - opened.equity),
            "orders": snapshot.orders,
            "fills": snapshot.fills,
        }
        event = DecisionEvent(SubjectType.ACCOUNT, ACCOUNT, "session_closed", self.clock.now(), body=body)
        return Effect((snapshot,), (), (event,)) + self._forgotten(session, reads)

    def _forgotten(self, session: Session, reads: Reads) -> Effect:
        effect = Effect()
        for candidate in reads.find(GapCandidate, session_date=session.date):
            if has_ended(candidate, reads) or reads.count(BrokerOrder, decision_id=candidate.decision_id):
                continue
            at = reads.get(SymbolRun, candidate.run_id, candidate.symbol)
            reached = at.stage if at is not None else Stage.SCAN
            reason = "no decision by the close of its session"
            effect += ended(candidate, reached, SignalOutcome.EXPIRED, reason, self.clock.now())
        return effect

    def _snapshot(self, session: Session, kind: str, reads: Reads) -> AccountSnapshot:
        holdings = portfolio(reads)
        marks = {position.symbol: self.feed.mark(position.symbol) for position in holdings.open}
        known = {symbol: price for symbol, price in marks.items() if price is not None}
        equity = holdings.equity(known) if len(known) == len(marks) else holdings.cash
        orders = [i for i in reads.find(OrderIntent, leg=[Leg.ENTRY, Leg.EXIT]) if i.committed_at >= session.opens_at]
        fills = [fill for fill in reads.find(Fill) if fill.filled_at >= session.opens_at]
        return AccountSnapshot(session.date, kind, self.clock.now(), holdings.cash, equity, len(orders), len(fills))
