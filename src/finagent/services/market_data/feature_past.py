"""Features of past sessions, each as it was known at its open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import BARS
from finagent.services.market_data.daily_features import DailyFeatures


@dataclass(frozen=True, slots=True)
class FeaturePast:
    """`values` [sessions, symbols, features] of BARS, as of the close before each session."""

    sessions: tuple[Session, ...]
    symbols: tuple[str, ...]
    values: Floats


async def feature_past(
    market: MarketDataPort, sessions: Sequence[Session], days: DailyFeatures, progress: Callable[[Session], None] = lambda _: None
) -> FeaturePast:
    """One session after the other; `progress` is told of each that is done."""
    values = np.empty((len(sessions), *BARS.shape(len(market.symbols))))
    for place, session in enumerate(sessions):
        values[place] = await days.before(session)
        progress(session)
    return FeaturePast(tuple(sessions), market.symbols, values)


def sessions_between(market: MarketDataPort, first: date | None, last: date | None) -> tuple[Session, ...]:
    """Those of the market's window; BadInput where there is none."""
    known = market.sessions()
    found = tuple(each for each in known if (first is None or each.date >= first) and (last is None or each.date <= last))
    if not found:
        raise BadInput(f"no session from {first} to {last}: the window is {known[0].date} to {known[-1].date}")
    return found


async def days_between(market: MarketDataPort, sessions: Sequence[Session]) -> DailyHistory:
    """The daily bars from the first of the sessions to the one before the last."""
    return await market.daily_history(sessions[-1], sessions[0].date)
