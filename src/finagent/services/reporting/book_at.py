"""The account as it stood at an instant: what the fills until then made of it, at the prices of that minute."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np

from finagent.domain.bars import BarQuality
from finagent.domain.errors import BadInput
from finagent.domain.money import ZERO, exact
from finagent.domain.orders import BrokerOrder, Fill, Leg, OrderIntent, SendOutcome
from finagent.domain.portfolio import AccountSnapshot, Position, flat
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.store import Reads
from finagent.domain.risk import Exposure
from finagent.domain.sessions import MINUTE, Session
from finagent.services.pipeline.risk import UNKNOWN_SECTOR
from finagent.services.portfolio import Portfolio, ledger

_USABLE = (BarQuality.OK, BarQuality.FILLED)


@dataclass(frozen=True, slots=True)
class Held:
    """What a symbol binds, signed: `shares` and their worth in USD, and `ordered_usd` of entries that wait, at the worse price.
    `price` is the last of the session, before its first the close before it."""

    symbol: str
    sector: str
    shares: int
    price: Decimal
    position_usd: Decimal
    ordered_usd: Decimal

    @property
    def exposure_usd(self) -> Decimal:
        return self.position_usd + self.ordered_usd


@dataclass(frozen=True, slots=True)
class LastPrices:
    """By symbol, of the session or before its first the close before it: `usd`, and `age_seconds`, infinity for that close.
    `unusable_fraction` of the universe is out for the session or has refused bars."""

    usd: Mapping[str, Decimal]
    age_seconds: Mapping[str, float]
    unusable_fraction: float


@dataclass(frozen=True, slots=True)
class BookAt:
    """USD. `unpriced`: open symbols without a price; then `equity` is not known. `orders_today`, `messages_last_minute` as the
    gate counts them."""

    at: datetime
    session: Session
    held: tuple[Held, ...]
    unpriced: tuple[str, ...]
    cash: Decimal
    equity: Decimal | None
    open_equity: Decimal | None
    orders_today: int
    messages_last_minute: int
    last: LastPrices

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """As the gate counts them: positions and waiting entries, each its own."""
        return tuple(
            Exposure(one.symbol, one.sector, one.shares, usd)
            for one in self.held
            for usd in (one.position_usd, one.ordered_usd)
            if usd
        )


async def book_at(reads: Reads, market: MarketDataPort, at: datetime, sectors: Mapping[str, str], bad_bars_max: int) -> BookAt:
    """BadInput before the first session of the market data."""
    session = _session(market, at)
    last = await _prices(market, session, at, bad_bars_max)
    prices = last.usd
    fills = [fill for fill in reads.find(Fill) if fill.filled_at <= at]
    holdings = _holdings(reads, fills)
    ordered = _ordered(reads, fills, at, prices)
    unpriced = sorted(one.symbol for one in holdings.open if one.symbol not in prices)
    shares = {one.symbol: one.quantity for one in holdings.open}
    symbols = sorted((shares.keys() | ordered.keys()) & prices.keys())
    held = tuple(
        Held(
            symbol,
            sectors.get(symbol, UNKNOWN_SECTOR),
            shares.get(symbol, 0),
            prices[symbol],
            shares.get(symbol, 0) * prices[symbol],
            ordered.get(symbol, ZERO),
        )
        for symbol in symbols
    )
    opened = reads.get(AccountSnapshot, session.date, "OPEN")
    sent = [one for one in reads.find(OrderIntent, leg=[Leg.ENTRY, Leg.EXIT]) if session.opens_at <= one.committed_at <= at]
    return BookAt(
        at=at,
        session=session,
        held=held,
        unpriced=tuple(unpriced),
        cash=holdings.cash,
        equity=None if unpriced else holdings.equity(prices),
        open_equity=opened.equity if opened is not None and opened.at <= at else None,
        orders_today=sum(one.leg is Leg.ENTRY for one in sent),
        messages_last_minute=sum((at - one.committed_at).total_seconds() < 60 for one in sent),
        last=last,
    )


def largest_at(reads: Reads) -> datetime | None:
    """When the positions had cost most: an instant worth asking for where the book is empty now."""
    cost: dict[str, Decimal] = {}
    most, when = ZERO, None
    shares: dict[str, int] = {}
    for fill in sorted(reads.find(Fill), key=lambda one: (one.filled_at, one.execution_id)):
        shares[fill.symbol] = shares.get(fill.symbol, 0) + fill.side.sign * fill.quantity
        cost[fill.symbol] = abs(shares[fill.symbol]) * fill.price
        if (total := sum(cost.values(), ZERO)) > most:
            most, when = total, fill.filled_at
    return when


def _session(market: MarketDataPort, at: datetime) -> Session:
    sessions = market.sessions()
    begun = [session for session in sessions if session.opens_at <= at]
    if not begun:
        raise BadInput(f"--at {at.isoformat()}: the first session of the market data opens at {sessions[0].opens_at.isoformat()}")
    return begun[-1]


async def _prices(market: MarketDataPort, session: Session, at: datetime, bad_bars_max: int) -> LastPrices:
    bars, prior = await market.session_bars(session), await market.prior_facts(session, ())
    past = slice(0, session.minute_of(at))
    usable, closes = np.isin(bars.quality[past], _USABLE), bars.close[past]
    out = (bars.quality[past] == BarQuality.BAD).sum(axis=0) > bad_bars_max
    prices, ages = {}, {}
    for column, symbol in enumerate(market.symbols):
        rows = np.flatnonzero(usable[:, column])
        price = float(closes[rows[-1], column] if len(rows) else prior.previous_close[column])
        out[column] |= symbol in prior.excluded
        if np.isfinite(price) and price > 0:
            prices[symbol] = exact(price)
            told_at = session.opens_at + (int(rows[-1]) + 1) * MINUTE if len(rows) else None
            ages[symbol] = (at - told_at).total_seconds() if told_at is not None else float("inf")
    return LastPrices(prices, ages, float(out.mean()))


def _holdings(reads: Reads, fills: list[Fill]) -> Portfolio:
    positions: dict[str, Position] = {}
    for fill in fills:
        positions[fill.symbol] = positions.get(fill.symbol, flat(fill.symbol, fill.filled_at)).apply(fill)
    return Portfolio(Decimal(ledger(reads).start_cash), tuple(positions.values()))


def _ordered(reads: Reads, fills: list[Fill], at: datetime, prices: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Signed USD by symbol of the entries that had been committed and had not come to an end."""
    filled: dict[str, int] = {}
    for fill in fills:
        filled[fill.client_order_id] = filled.get(fill.client_order_id, 0) + fill.quantity
    found: dict[str, Decimal] = {}
    for order in reads.find(BrokerOrder, leg=Leg.ENTRY):
        intent = reads.get(OrderIntent, order.client_order_id)
        if intent is None or intent.committed_at > at or order.outcome is SendOutcome.DENIED:
            continue
        left = intent.quantity - filled.get(order.client_order_id, 0)
        if left > 0 and (order.state.live or order.updated_at > at):
            worse = max(intent.limit_price or ZERO, prices.get(order.symbol, ZERO))
            found[order.symbol] = found.get(order.symbol, ZERO) + intent.side.sign * left * worse
    return found
