"""What an account has done in the sessions before the one at hand, and in it: what day-trading and wash-sale rules ask."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from finagent.domain.gap import GapCandidate
from finagent.domain.money import ZERO
from finagent.domain.orders import Fill
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.ports.store import Reads

DAY_TRADE_SESSIONS = 5  # FINRA rule 4210 (f)(8)(B): in five business days, today among them
WASH_SALE_DAYS = 30  # 26 U.S.C. 1091 (a)


@dataclass(frozen=True, slots=True)
class AccountPast:
    """`day_trades`: decisions that traded in the last DAY_TRADE_SESSIONS, each of which is flat by its close; symbols that were
    `sold_at_loss` within WASH_SALE_DAYS."""

    day_trades: int
    sold_at_loss: frozenset[str]


def account_past(reads: Reads, today: date, until: datetime | None = None) -> AccountPast:
    """As committed by now, or from what had been filled by an instant."""
    opened = sorted(snapshot.session_date for snapshot in reads.find(AccountSnapshot, kind="OPEN"))
    since = today - timedelta(days=WASH_SALE_DAYS)
    recent = [day for day in opened if since <= day <= today] or [today]
    counted = set(recent[-DAY_TRADE_SESSIONS:])
    candidates = {one.decision_id: one for one in reads.find(GapCandidate, session_date=recent)}
    fills: dict[str, list[Fill]] = defaultdict(list)
    for fill in reads.find(Fill, decision_id=list(candidates)):
        if until is None or fill.filled_at <= until:
            fills[fill.decision_id].append(fill)
    traded = [candidates[decision] for decision in fills]
    return AccountPast(
        day_trades=sum(1 for candidate in traded if candidate.session_date in counted),
        sold_at_loss=frozenset(candidate.symbol for candidate in traded if _lost(fills[candidate.decision_id])),
    )


def _lost(fills: Iterable[Fill]) -> bool:
    quantity, cash = 0, ZERO
    for fill in fills:
        quantity += fill.side.sign * fill.quantity
        cash -= fill.side.sign * Decimal(fill.quantity) * fill.price + fill.fee
    return quantity == 0 and cash < 0
