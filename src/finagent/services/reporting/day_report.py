"""The result figures: each session, each decision and why it ended as it did, from committed records alone."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from finagent.domain.money import ZERO
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderState, Side
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.store import Reads
from finagent.domain.risk import Verdict
from finagent.domain.runs import PipelineRun, SymbolRun, SymbolState
from finagent.domain.trading_state import LedgerIdentity
from finagent.services.reporting.canonical import outcome_hash
from finagent.services.reporting.stories import Story, collect


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One candidate in one line. Prices in USD; `pnl` after fees, None while shares are held or none were ever bought.

    `quantity` is what the gate allowed, `entered_quantity` what was bought (or sold short).
    `outcome` is the signal outcome, PARKED where an order waits for a person, OPEN where the story goes on.
    """

    decision_id: str
    session_date: date
    scanned_at: datetime
    symbol: str
    gap: float
    relative_volume: float
    score: float | None
    planned_quantity: int | None
    entry: Decimal | None
    stop: Decimal | None
    target: Decimal | None
    verdict: str
    code: str
    limit: Decimal | None
    value: Decimal | None
    quantity: int | None
    entered_quantity: int
    order_state: str
    fills: int
    entry_price: Decimal | None
    entry_at: datetime | None
    exit_price: Decimal | None
    exit_at: datetime | None
    exit: str
    pnl: Decimal | None
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session; equities in USD, None until the account was read at its close."""

    session_date: date
    close_equity: Decimal | None
    pnl: Decimal | None
    candidates: int
    entries: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A symbol that did not become a candidate and the rule or fault that kept it out."""

    session_date: date
    scanned_at: datetime
    symbol: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class DayReport:
    """Everything that a result table, an HTML page or a JSON document says. Money in USD, fractions as fractions."""

    source_id: str
    notice: str
    ledger_id: str
    sessions: tuple[SessionRow, ...]
    decisions: tuple[DecisionRow, ...]
    outcomes: dict[str, int]
    exits: dict[str, int]
    refusals: dict[str, int]
    turned_away: dict[str, int]
    near_misses: tuple[Aside, ...]
    bad_data: tuple[Aside, ...]
    orders: int
    fills: int
    fees: Decimal
    start_equity: Decimal
    end_equity: Decimal
    drawdown_max: float
    outcome_hash: str

    @property
    def pnl(self) -> Decimal:
        return self.end_equity - self.start_equity

    @property
    def trades(self) -> tuple[DecisionRow, ...]:
        """The decisions whose entry filled, in part or in whole."""
        return tuple(row for row in self.decisions if row.entry_price is not None)


def day_report(reads: Reads, source_id: str, notice: str) -> DayReport:
    """The report of everything in the store."""
    decisions = tuple(decision_row(story) for story in collect(reads))
    runs = {run.run_id: run for run in reads.find(PipelineRun)}
    identity = reads.find(LedgerIdentity)
    sessions = _session_rows(reads, decisions, runs)
    start = Decimal(identity[0].start_cash) if identity else ZERO
    curve = [start, *(row.close_equity for row in sessions if row.close_equity is not None)]
    turned_away: Counter[str] = Counter()
    for run in runs.values():
        turned_away.update(run.reasons)
    fills = reads.find(Fill)
    return DayReport(
        source_id=source_id,
        notice=notice,
        ledger_id=identity[0].ledger_id if identity else "",
        sessions=sessions,
        decisions=decisions,
        outcomes=_counted(row.outcome for row in decisions),
        exits=_counted(row.exit for row in decisions if row.exit),
        refusals=_counted(_refusal(row) for row in decisions if row.outcome in ("RISK_DENIED", "NO_TRADE", "REJECTED")),
        turned_away=dict(sorted(turned_away.items())),
        near_misses=_asides(reads, runs, SymbolState.NEAR_MISS),
        bad_data=_asides(reads, runs, SymbolState.FAILED),
        orders=reads.count(BrokerOrder),
        fills=len(fills),
        fees=sum((fill.fee for fill in fills), ZERO),
        start_equity=start,
        end_equity=curve[-1],
        drawdown_max=_drawdown(curve),
        outcome_hash=outcome_hash(reads),
    )


def decision_row(story: Story) -> DecisionRow:
    """One story as a line."""
    candidate, plan, verdict = story.candidate, story.plan, story.verdict
    entry_side = plan.side if plan else Side.BUY
    exit_side = Side.SELL if entry_side is Side.BUY else Side.BUY
    entries = [fill for fill in story.fills if fill.side is entry_side]
    exits = [fill for fill in story.fills if fill.side is exit_side]
    outcome, reason = _ending(story)
    return DecisionRow(
        decision_id=story.decision_id,
        session_date=candidate.session_date,
        scanned_at=candidate.as_of,
        symbol=candidate.symbol,
        gap=candidate.facts.gap,
        relative_volume=candidate.facts.relative_volume,
        score=story.prediction.score if story.prediction else None,
        planned_quantity=plan.quantity if plan else None,
        entry=plan.entry if plan else None,
        stop=plan.stop if plan else None,
        target=plan.target if plan else None,
        verdict=verdict.verdict.value if verdict else "",
        code=verdict.code.value if verdict else "",
        limit=verdict.limit_value if verdict else None,
        value=verdict.value if verdict else None,
        quantity=verdict.quantity if verdict else None,
        entered_quantity=sum(fill.quantity for fill in story.fills if fill.side is plan.side) if plan else 0,
        order_state=_entry_state(story),
        fills=len(story.fills),
        entry_price=story.average_price(entry_side),
        entry_at=entries[0].filled_at if entries else None,
        exit_price=story.average_price(exit_side),
        exit_at=exits[-1].filled_at if exits else None,
        exit=story.exit.kind.value if story.exit else "",
        pnl=story.cash_flow if story.fills and story.open_quantity == 0 else None,
        outcome=outcome,
        reason=reason,
    )


def _entry_state(story: Story) -> str:
    states = [
        story.orders[one.client_order_id].state
        for one in story.intents
        if one.leg is Leg.ENTRY and one.client_order_id in story.orders
    ]
    return states[-1].value if states else ""


def _ending(story: Story) -> tuple[str, str]:
    if story.outcome:
        return story.outcome.outcome.value, story.outcome.reason
    parked = [order for order in story.orders.values() if order.state is OrderState.PARKED]
    if parked:
        return "PARKED", parked[0].reason or "what became of the order is unknown: a person looks it up"
    return "OPEN", "not ended yet"


def _refusal(row: DecisionRow) -> str:
    if row.verdict == Verdict.REFUSED.value:
        return row.code
    rule = re.match(r"[^:\d<>=]+", row.reason)
    return rule.group().strip() if rule else row.outcome


def _session_rows(reads: Reads, decisions: tuple[DecisionRow, ...], runs: dict[str, PipelineRun]) -> tuple[SessionRow, ...]:
    snapshots = {(one.session_date, one.kind): one.equity for one in reads.find(AccountSnapshot)}
    days = sorted(
        {day for day, _ in snapshots} | {row.session_date for row in decisions} | {run.session_date for run in runs.values()}
    )
    rows = []
    for day in days:
        opened, closed = snapshots.get((day, "OPEN")), snapshots.get((day, "CLOSE"))
        own = [row for row in decisions if row.session_date == day]
        rows.append(
            SessionRow(
                session_date=day,
                close_equity=closed,
                pnl=closed - opened if opened is not None and closed is not None else None,
                candidates=len(own),
                entries=sum(row.entry_price is not None for row in own),
            )
        )
    return tuple(rows)


def _asides(reads: Reads, runs: dict[str, PipelineRun], state: SymbolState) -> tuple[Aside, ...]:
    found = [
        Aside(runs[one.run_id].session_date, runs[one.run_id].fired_at, one.symbol, state.value, one.reason)
        for one in reads.find(SymbolRun, state=state)
        if one.run_id in runs
    ]
    return tuple(sorted(found, key=lambda one: (one.scanned_at, one.symbol, one.reason)))


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _drawdown(curve: list[Decimal]) -> float:
    """The deepest fall from an earlier high, as a fraction of that high."""
    peak, deepest = curve[0], 0.0
    for value in curve:
        peak = max(peak, value)
        if peak > 0:
            deepest = max(deepest, float((peak - value) / peak))
    return deepest
