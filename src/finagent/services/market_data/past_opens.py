"""Past sessions, each as it was known at its open, and what its day brought."""

from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.candidate_features import gap_features
from finagent.quant.features.catalogue import BARS, CANDIDATE, GAP
from finagent.services.market_data.daily_features import DailyFeatures

AT_THE_OPEN = CANDIDATE.select("candidate at the open", (*(row[0] for row in GAP), *BARS.names))


@dataclass(frozen=True, slots=True)
class PastOpen:
    """`features` [symbols, features] of AT_THE_OPEN as known then; the bar of the day in USD [symbols], `change` its close over
    the close before less one, NaN for symbols that are out for the session."""

    features: Floats
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    change: Floats


async def past_open(market: MarketDataPort, session: Session, following: Session, days: DailyFeatures) -> PastOpen:
    """The bar as it is told at the open of the session that follows. Intraday features are left out: minutes may be simulated,
    and then they lead to the close of their day."""
    prior, own = await market.prior_facts(session, ()), await market.daily_history(following, session.date)
    known = await days.before(session)
    bar = np.full((4, len(market.symbols)), np.nan)
    if own.sessions and own.sessions[0] == session.date:
        bar[:] = own.open[0], own.high[0], own.low[0], own.close[0]
    bar[:, [symbol in prior.excluded for symbol in market.symbols]] = np.nan
    open_, high, low, close = bar
    with np.errstate(all="ignore"):
        gap, change = open_ / prior.previous_close - 1.0, close / prior.previous_close - 1.0
        return PastOpen(np.concatenate((gap_features(gap, known), known), axis=1), open_, high, low, close, change)
