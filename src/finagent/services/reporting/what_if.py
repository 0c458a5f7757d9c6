"""What the gate would say to one more trade, at the account, its trading state and its locks as they stood at an instant. Nothing
is committed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from math import isfinite

from finagent.domain.errors import BadInput
from finagent.domain.money import ZERO
from finagent.domain.orders import Leg, OrderIntent, Side
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.store import Reads
from finagent.domain.risk import Past, RankedPlan, RiskDecision, RiskProfile, RiskSnapshot
from finagent.domain.risk_checks import Question, decide, warnings
from finagent.domain.trade_plan import PRICE_USD_MAX, SHARES_MAX, TradePlan
from finagent.domain.trading_state import TradingState
from finagent.services.execution.symbol_locks import locked_at
from finagent.services.kill_switch import state_at, strategies_locked_at
from finagent.services.market_data.return_history import ReturnHistory
from finagent.services.pipeline.account_past import account_past
from finagent.services.pipeline.risk import UNKNOWN_SECTOR, book_of, figures_after, trade_risk
from finagent.services.reporting.book_at import BookAt, book_at
from finagent.services.risk_watch import peak_equity

_TICK = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Wish:
    """A trade that somebody thinks of; `price` USD a share at worst, None: the last one."""

    symbol: str
    side: Side
    quantity: int
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict with every check, what the book becomes with what is allowed, and what a person should know."""

    wish: Wish
    at: datetime
    verdict: RiskDecision
    after: dict[str, str]
    warnings: tuple[str, ...]


async def what_if(
    reads: Reads,
    market: MarketDataPort,
    at: datetime,
    wish: Wish,
    profile: RiskProfile,
    sectors: Mapping[str, str],
    bad_bars_max: int,
    returns: ReturnHistory,
    held_back: str = "",
) -> Answer:
    """As `services.pipeline.risk` asks it of a run of one plan. `held_back` says what stops new risk beside the store. BadInput
    for a symbol that the market does not have, a quantity below one, or a price that cannot be one."""
    if wish.symbol not in market.symbols:
        raise BadInput(f"{wish.symbol}: not in the universe of {len(market.symbols)}: {', '.join(market.symbols[:20])}")
    if not 1 <= wish.quantity <= SHARES_MAX:
        raise BadInput(f"{wish.quantity} shares of {wish.symbol}: between 1 and {SHARES_MAX:,} can be asked for")
    if wish.price is not None and not (wish.price.is_finite() and 2 * _TICK <= wish.price < PRICE_USD_MAX):
        raise BadInput(f"{wish.symbol} at {wish.price} USD: a price of cents below {PRICE_USD_MAX:,} can be asked for")
    book = await book_at(reads, market, at, sectors, bad_bars_max)
    last, age = book.last.usd.get(wish.symbol), book.last.age_seconds.get(wish.symbol, float("inf"))
    price = (wish.price if wish.price is not None else last or _TICK * 2).quantize(_TICK)
    below, above = price - _TICK, price + _TICK
    stop, target = (below, above) if wish.side is Side.BUY else (above, below)
    plan = TradePlan("what-if", "what-if", wish.symbol, wish.side, wish.quantity, price, price, stop, target, at, "asked by hand")
    line = RankedPlan("what-if", wish.symbol, sectors.get(wish.symbol, UNKNOWN_SECTOR), 0.0, last, age)
    snapshot = _snapshot(reads, book, line, held_back)
    facts = await market.prior_facts(book.session, ())
    dollars = float(facts.dollar_volume_mean[market.symbols.index(wish.symbol)])
    account = account_past(reads, book.session.date, at)
    sent = [one for one in reads.find(OrderIntent, leg=Leg.ENTRY) if book.session.opens_at <= one.committed_at <= at]
    found = await returns.of(book.session, frozenset([one.symbol for one in snapshot.exposures] + [wish.symbol]))
    held = None if found is None else book_of(found.history, snapshot.exposures)
    question = Question(plan, line, snapshot, profile, ())
    past = Past(
        peak_equity=peak_equity(reads, at, snapshot.equity),
        day_trades=account.day_trades,
        entries_today=sum(1 for intent in sent if intent.symbol == wish.symbol),
        dollar_volume_mean=dollars if isfinite(dollars) else None,
        sold_at_loss=wish.symbol in account.sold_at_loss,
        trade=trade_risk(held, question, wish.quantity),
    )
    question = replace(question, past=past)
    verdict = decide(question, 0, at)
    said = (*warnings(question, verdict), *_notes(reads, book, wish, held_back))
    return Answer(wish, at, verdict, figures_after(question, verdict, held), said)


def _notes(reads: Reads, book: BookAt, wish: Wish, held_back: str) -> tuple[str, ...]:
    """What the verdict of one trade does not say."""
    notes = [f"nothing new passes: {held_back}"] if held_back else []
    notes += [] if book.open_equity is not None else ["the account at the session's open is not known: nor is the day's loss"]
    shares = sum(one.shares for one in book.held if one.symbol == wish.symbol)
    if shares * wish.side.sign < 0:
        notes.append(f"{shares} shares of {wish.symbol} are held: to close them is an exit, which no limit stops")
    locked = strategies_locked_at(reads, book.at)
    return (*notes, *(f"strategy {name} is locked: {reason}; its own plans are refused" for name, reason in locked.items()))


def _snapshot(reads: Reads, book: BookAt, line: RankedPlan, held_back: str) -> RiskSnapshot:
    """Unknown equity is zero, on which nothing may be risked."""
    state = state_at(reads, book.at)
    return RiskSnapshot(
        run_id="what-if",
        at=book.at,
        trading_state=state.state if state is not None and not held_back else TradingState.HALTED,
        equity=book.equity or ZERO,
        session_open_equity=book.open_equity or ZERO,
        cash=book.cash,
        exposures=book.exposures,
        locked_symbols=tuple(sorted(locked_at(reads, book.at))),
        orders_today=book.orders_today,
        messages_last_minute=book.messages_last_minute,
        ranked=(line,),
    )
