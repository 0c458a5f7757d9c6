"""A backtest of what the catalogue knows at the open, made to be looked at with suspicion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.backtest_alarms import SESSIONS_MIN, BacktestFigures, figures, probe
from finagent.quant.features.candidate_features import gap_features
from finagent.services.market_data.daily_features import DailyFeatures


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
    of the sessions; `done` is called after each. Intraday features are left out: minutes may be simulated, and then they lead to
    the close of their day. BadInput for too few sessions."""
    if len(sessions) <= 2 * SESSIONS_MIN:
        raise BadInput(
            f"{len(sessions)} sessions from {sessions[0].date} to {sessions[-1].date}: {2 * SESSIONS_MIN + 1} are needed, half "
            "of them to learn from"
        )
    rows, returns = [], []
    for session, following in pairwise(sessions):
        row, gained = await _at_the_open(market, session, following, days)
        rows.append(row)
        returns.append(gained)
        done()
    dates = [session.date for session in sessions[:-1]]
    told = figures(probe(np.stack(rows), np.stack(returns), dates))
    return BacktestReport(dates[0], dates[-1], market.symbols, rows[0].shape[1], len(dates) - told.sessions, told)


async def _at_the_open(
    market: MarketDataPort, session: Session, following: Session, days: DailyFeatures
) -> tuple[Floats, Floats]:
    """Features [symbols, features] as known at the open, and the return to the close as told by the next open; NaN for symbols
    that are out for the session."""
    prior, own = await market.prior_facts(session, ()), await market.daily_history(following, session.date)
    known = await days.before(session)
    open_, close = np.full((2, len(market.symbols)), np.nan)
    if own.sessions and own.sessions[0] == session.date:
        open_, close = own.open[0], own.close[0]
    out = np.asarray([symbol in prior.excluded for symbol in market.symbols])
    with np.errstate(all="ignore"):
        gap = np.where(out, np.nan, open_ / prior.previous_close - 1.0)
        return np.concatenate((gap_features(gap, known), known), axis=1), np.where(out, np.nan, close / open_ - 1.0)
