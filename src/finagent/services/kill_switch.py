"""May new risk leave? The persisted trading state, the start gate and the HALT file, read together right before a send."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from finagent.domain.decision import DecisionEvent, ExitKind, SubjectType
from finagent.domain.effect import Effect, Set
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.gap import GapCandidate
from finagent.domain.identity import trace_id
from finagent.domain.jobs import Job, Next
from finagent.domain.orders import BrokerOrder, Leg, OrderState
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.store import JobQueue, Reads
from finagent.domain.runs import PipelineRun
from finagent.domain.time import to_text
from finagent.domain.trading_state import LockState, StartGate, StrategyLock, TradingState, TradingStateRecord
from finagent.services.failpoints import Failpoints, around, unarmed

STATE_KEY = 1
UNFILLED = [
    OrderState.PENDING,
    OrderState.HELD,
    OrderState.ACCEPTED,
]  # what is filled in part is protected, what is parked looked up


def state_change(reads: Reads, state: TradingState, reason: str, by: str, at: datetime) -> Effect:
    """The trading state moves, as part of whatever else is committed with it. Entries that wait at the broker would be new risk
    when they fill: a halt publishes their cancels."""
    before = reads.get(TradingStateRecord, STATE_KEY)
    if before is None:
        raise InvariantViolated("the database holds no trading state")
    body = {"from": before.state.value, "to": state.value, "reason": reason, "by": by}
    return Effect(
        records=(Set(TradingStateRecord, (STATE_KEY,), {"state": state, "reason": reason, "by": by, "at": at}),),
        next=_cancels(reads.find(BrokerOrder, leg=Leg.ENTRY, state=UNFILLED), at) if state is TradingState.HALTED else (),
        events=(DecisionEvent(SubjectType.TRADING_STATE, "account", "trading_state_changed", at, body=body),),
    )


def state_at(reads: Reads, at: datetime) -> TradingStateRecord | None:
    """The record as it stood: the last change by then, else what it was before the first one."""
    record = reads.get(TradingStateRecord, STATE_KEY)
    changes = sorted(reads.find(DecisionEvent, subject_type=SubjectType.TRADING_STATE), key=lambda event: event.at)
    earlier = [event for event in changes if event.at <= at]
    if record is None or record.at <= at or not changes:
        return record
    if not earlier:
        return TradingStateRecord(STATE_KEY, TradingState(changes[0].body["from"]), "first start", "finagent", at)
    body = earlier[-1].body
    return TradingStateRecord(STATE_KEY, TradingState(body["to"]), body["reason"], body["by"], earlier[-1].at)


def strategies_locked_at(reads: Reads, at: datetime) -> dict[str, str]:
    """Those that took no new risk then, each with the reason."""
    locked: dict[str, str] = {}
    for event in reads.find(DecisionEvent, kind=["strategy_locked", "strategy_released"]):
        if event.at <= at and event.kind == "strategy_locked":
            locked[event.body["strategy"]] = event.body["reason"]
        elif event.at <= at:
            locked.pop(event.body["strategy"], None)
    return locked


def strategy_lock(run_id: str, reads: Reads) -> str:
    """Why the strategy of a run takes no new risk; empty when it may."""
    run = reads.get(PipelineRun, run_id)
    known = reads.get(StrategyLock, run.entry) if run is not None else None
    return "" if known is None or known.state is not LockState.LOCKED else f"{known.strategy} is locked: {known.reason}"


def strategy_locked(strategy: str, reason: str, by: str, reads: Reads, at: datetime) -> Effect:
    """The strategy takes no new risk from here on; those of its entries that wait at the broker are cancelled, as by a halt."""
    runs = {run.run_id for run in reads.find(PipelineRun, entry=strategy)}
    waiting = [
        order
        for order in reads.find(BrokerOrder, leg=Leg.ENTRY, state=UNFILLED)
        if (candidate := reads.get(GapCandidate, order.decision_id)) is not None and candidate.run_id in runs
    ]
    return _lock_change(strategy, LockState.LOCKED, reason, by, reads, at) + Effect(next=_cancels(waiting, at))


def strategy_released(strategy: str, reason: str, by: str, reads: Reads, at: datetime) -> Effect:
    """The strategy may take new risk again. BadInput where it may already."""
    known = reads.get(StrategyLock, strategy)
    if known is None or known.state is not LockState.LOCKED:
        raise BadInput(f"{strategy} is not locked")
    return _lock_change(strategy, LockState.RELEASED, reason, by, reads, at)


def _lock_change(strategy: str, state: LockState, reason: str, by: str, reads: Reads, at: datetime) -> Effect:
    known, lock = reads.get(StrategyLock, strategy), StrategyLock(strategy, state, reason, by, at)
    values = {"state": state, "reason": reason, "by": by, "at": at}
    record = lock if known is None else Set(StrategyLock, (strategy,), values, {"state": known.state})
    body = {"strategy": strategy, "reason": reason, "by": by}
    kind = f"strategy_{state.value.lower()}"
    return Effect((record,), (), (DecisionEvent(SubjectType.ACCOUNT, "account", kind, at, body=body),))


def _cancels(orders: Iterable[BrokerOrder], at: datetime) -> tuple[Next, ...]:
    return tuple(
        Next(
            "expire",
            f"expire:{order.client_order_id}:halted:{to_text(at)}",
            {"client_order_id": order.client_order_id, "decision_id": order.decision_id},
            at,
            trace_id=trace_id(order.decision_id),
        )
        for order in orders
    )


@dataclass(slots=True)
class KillSwitch:
    """`halt_requested` looks for the HALT file: it works on a process that answers nothing else. `held_back` says why the store
    is not to be traded on; empty when it is. `flat_by`: the close by which a flattening that begins at an instant has to end.
    `hand_on` takes the jobs that a change published and that are due."""

    reads: Reads
    queue: JobQueue
    clock: Clock
    halt_requested: Callable[[], bool]
    gate: StartGate = StartGate.STARTING
    failpoints: Failpoints = unarmed
    held_back: Callable[[], str] = lambda: ""
    flat_by: Callable[[datetime], datetime] | None = None
    hand_on: Callable[[list[Job]], Awaitable[None]] | None = None

    def state(self) -> TradingStateRecord:
        """The persisted trading state; raises InvariantViolated for a database without one."""
        record = self.reads.get(TradingStateRecord, STATE_KEY)
        if record is None:
            raise InvariantViolated("the database holds no trading state")
        return record

    def effective_state(self) -> TradingState:
        """The state that binds now: HALTED while the HALT file stands, the store is held back or the start gate is not open."""
        if self.halt_requested() or self.held_back() or self.gate is not StartGate.OPEN:
            return TradingState.HALTED
        return self.state().state

    def objection(self) -> str:
        """Why no new risk may leave now; empty when it may."""
        if self.halt_requested():
            return "HALT file"
        if self.held_back():
            return self.held_back()
        if self.gate is not StartGate.OPEN:
            return f"start gate {self.gate.value}"
        record = self.state()
        return "" if record.state.new_risk else f"{record.state.value}: {record.reason}"

    async def halt(self, reason: str, by: str, *, flatten: bool = False) -> None:
        """Stop new risk until a person re-arms; cancels, protective legs and reducing exits still go. To `flatten` closes out
        everything as well: cancel, wait for the end, close."""
        now = self.clock.now()
        effect = Effect()
        if flatten:
            if self.flat_by is None:
                raise InvariantViolated("nobody here knows when the session closes")
            payload = {"until": to_text(self.flat_by(now)), "reason": ExitKind.MANUAL.value}
            effect = Effect(next=(Next("flatten", f"flatten:halted@{to_text(now)}", payload, now),))
        with around(self.failpoints, "halt"):
            await self._move(TradingState.HALTED, reason, by, effect)

    async def arm(self, reason: str, by: str) -> None:
        """A person's act: allow new risk again."""
        with around(self.failpoints, "arm"):
            await self._move(TradingState.ACTIVE, reason, by, Effect())

    async def lock_strategy(self, strategy: str, reason: str, by: str) -> None:
        """No new risk by one strategy until a person releases it; the others go on."""
        await self._commit(strategy_locked(strategy, reason, by, self.reads, self.clock.now()))

    async def release_strategy(self, strategy: str, reason: str, by: str) -> None:
        """A person's act. BadInput where the strategy is not locked."""
        await self._commit(strategy_released(strategy, reason, by, self.reads, self.clock.now()))

    async def _move(self, state: TradingState, reason: str, by: str, also: Effect) -> None:
        await self._commit(state_change(self.reads, state, reason, by, self.clock.now()) + also)

    async def _commit(self, effect: Effect) -> None:
        await (self.hand_on or self.queue.release)(await self.queue.submit(effect))
