"""A book of positions and one more trade: what the trade would do to value at risk, beta and correlation, and how much fits.

The history is measured once a session, off the path; a book is measured once for all its trades; a trade costs a pass over the
scenarios of one symbol.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.risk import TradeRisk
from finagent.quant.risk.components import betas, component_risk
from finagent.quant.risk.covariance import shrunk_covariance
from finagent.quant.risk.value_at_risk import CONFIDENCE, Tail, filtered, tail, tail_rank

_SYMBOLS_MIN = 2


@dataclass(frozen=True, slots=True)
class History:
    """What past returns say of each symbol: `scenarios` of tomorrow [symbols, days], shrunk `covariance` a day
    [symbols, symbols], `betas` on the market [symbols]; `column` is the place of a symbol."""

    column: Mapping[str, int]
    scenarios: Floats
    covariance: Floats
    betas: Floats

    @classmethod
    def measured(cls, symbols: tuple[str, ...], returns: Floats, market: Floats) -> "History":
        """From daily `returns` [days, symbols], oldest first, and those of the market [days]. BadInput for what is not finite, a
        symbol that never moves, or other shapes."""
        if returns.shape != (len(market), len(symbols)) or len(symbols) < _SYMBOLS_MIN or len(set(symbols)) != len(symbols):
            raise BadInput(f"a history of {len(symbols)} symbols and {len(market)} days has returns of shape {returns.shape}")
        slopes = betas(returns, market)
        scenarios = np.ascontiguousarray(filtered(returns).T)
        columns = {symbol: column for column, symbol in enumerate(symbols)}
        return cls(columns, scenarios, shrunk_covariance(returns).matrix, slopes)


@dataclass(frozen=True, slots=True)
class BookLimits:
    """In USD but for the correlation: value at risk, beta times exposure (either sign), and correlation with what is held."""

    value_at_risk: float
    beta: float
    correlation: float


@dataclass(frozen=True, slots=True)
class Book:
    """Signed `exposures` in USD [symbols] with what every trade asks of them: `profits` of each scenario [days], `product`
    covariance times exposures [symbols], `variance`, and `beta` in USD."""

    history: History
    exposures: Floats
    profits: Floats
    product: Floats
    variance: float
    beta: float

    @classmethod
    def of(cls, history: History, exposures: Mapping[str, float]) -> "Book":
        """BadInput for a symbol without history, or an exposure that is not finite: nothing may be risked on it."""
        held = np.zeros(len(history.column))
        for symbol, usd in exposures.items():
            held[_column(history, symbol)] += usd
        if not np.isfinite(held).all():
            raise BadInput("an exposure of the book is not finite")
        product = history.covariance @ held
        return cls(history, held, held @ history.scenarios, product, float(held @ product), float(held @ history.betas))

    def with_trade(self, symbol: str, usd: float) -> "Book":
        """The book with so many more signed USD in a symbol: an approval is exposure for the next plan."""
        if not np.isfinite(usd):
            raise BadInput(f"{symbol}: a trade of {usd} USD is not finite")
        history, column = self.history, _column(self.history, symbol)
        held, profits = self.exposures.copy(), self.profits + usd * history.scenarios[column]
        held[column] += usd
        variance = self.variance + 2 * usd * float(self.product[column]) + usd**2 * float(history.covariance[column, column])
        product = self.product + usd * history.covariance[column]
        return Book(history, held, profits, product, variance, self.beta + usd * float(history.betas[column]))

    def tail(self) -> Tail:
        """Value at risk and expected shortfall in USD of one day."""
        return tail(self.profits)

    def components(self) -> Floats:
        """The value at risk split over the symbols [symbols], USD."""
        return component_risk(self.exposures, self.history.covariance, self.tail().value_at_risk)

    def trade_risk(self, symbol: str, price: float, quantity: int, limits: BookLimits) -> TradeRisk:
        """The book after `quantity` shares more, and the largest quantities up to it that meet each limit. `price` is signed, USD
        a share: negative for a short sale. BadInput for a symbol without history or a price that is not finite."""
        if not (np.isfinite(price) and price):
            raise BadInput(f"{symbol}: {price} is no price")
        column = _column(self.history, symbol)
        scenario = price * self.history.scenarios[column]
        worst = np.partition(self.profits + quantity * scenario, rank := tail_rank(len(scenario), CONFIDENCE))[: rank + 1]
        beta = price * float(self.history.betas[column])
        scale = float(self.history.covariance[column, column]) * self.variance
        correlation = float(np.sign(price) * self.product[column] / np.sqrt(scale)) if scale > 0 else 0.0
        return TradeRisk(
            value_at_risk=float(-worst[rank]),
            expected_shortfall=float(-worst.mean()),
            value_at_risk_quantity=_first_breach(self.profits, scenario, quantity, limits.value_at_risk, rank) - 1,
            beta=self.beta + quantity * beta,
            beta_quantity=_within(self.beta, beta, quantity, limits.beta),
            correlation=correlation,
            correlation_quantity=quantity if correlation <= limits.correlation else 0,
        )


def _column(history: History, symbol: str) -> int:
    try:
        return history.column[symbol]
    except KeyError:
        raise BadInput(f"{symbol} has no price history: its risk is not known") from None


def _first_breach(profits: Floats, share: Floats, quantity: int, limit: float, rank: int) -> int:
    """The smallest quantity of 1 to `quantity` with more than `rank` losses above the limit; `quantity` + 1 where none has.

    Exact, since each scenario loses more than the limit from one quantity on or up to one: these are put in order and counted.
    So no search is needed, and every smaller quantity meets the limit too.
    """
    losses, slope = -profits, -share
    room = limit - losses
    over = room < 0
    if np.count_nonzero(over | (room < quantity * slope)) <= rank:  # those that ever breach are too few: the common case
        return quantity + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        turns = room / slope  # the quantity at which the loss is the limit
    enters, leaves = ~over & (slope > 0), over & (slope < 0)
    first = np.floor(turns[enters]) + 1.0  # the first whole quantity above the limit
    last = np.ceil(turns[leaves])  # the first whole quantity within it
    count = int(over.sum()) + np.searchsorted(np.sort(first), (tries := np.unique(np.append(first, 1.0))), "right")
    if len(last):
        count = count - np.searchsorted(np.sort(last), tries, "right")
    breached = tries[(count > rank) & (tries <= quantity)]
    return int(breached[0]) if len(breached) else quantity + 1


def _within(held: float, share: float, quantity: int, limit: float) -> int:
    """The largest quantity with every smaller one, zero included, between -limit and limit."""
    if not -limit <= held <= limit:
        return 0
    if not share:
        return quantity
    room = (limit - held) / share if share > 0 else (-limit - held) / share
    return quantity if room >= quantity else int(room)
