"""A backtest of what the catalogue knows at the open, made to be looked at with suspicion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np

from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.backtest_alarms import SESSIONS_MIN, BacktestFigures, figures, probe
from finagent.services.market_data.daily_features import DailyFeatures
from finagent.services.market_data.past_opens import past_open


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """`trained` sessions were learned from, those of `figures` traded."""

    first: date
    last: date
    symbols: tuple[str, ...]
    features: int
    trained: int
    figures: BacktestFigures


async def backtest_catalogue(
    market: MarketDataPort, sessions: Sequence[Session], days: DailyFeatures, done: Callable[[], None] = lambda: None
) -> BacktestReport:
    """Every feature that is known at the open, against the return from the open to the close of its session, for all but the last
    of the sessions; `done` is called after each. BadInput for too few sessions."""
    if len(sessions) <= 2 * SESSIONS_MIN:
        raise BadInput(
            f"{len(sessions)} sessions from {sessions[0].date} to {sessions[-1].date}: {2 * SESSIONS_MIN + 1} are needed, half "
            "of them to learn from"
        )
    rows, returns = [], []
    for session, following in pairwise(sessions):
        past = await past_open(market, session, following, days)
        rows.append(past.features)
        returns.append(past.close / past.open - 1.0)
        done()
    dates = [session.date for session in sessions[:-1]]
    told = figures(probe(np.stack(rows), np.stack(returns), dates))
    return BacktestReport(dates[0], dates[-1], market.symbols, rows[0].shape[1], len(dates) - told.sessions, told)
