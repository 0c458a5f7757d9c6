"""A backtest of what the catalogue knows at the open, made to be looked at with suspicion."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from finagent.domain.bars import DailyHistory, Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.quant.features.backtest_alarms import SESSIONS_MIN, BacktestFigures, figures, probe
from finagent.quant.features.bar_features import BarFeatures, over_history
from finagent.quant.features.candidate_features import gap_features
from finagent.quant.features.catalogue import BARS, CANDIDATE
from finagent.services.market_data.daily_features import adjusted

WARMUP = max(feature.warmup for feature in BARS.features)


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """`trained` sessions were learned from, those of `figures` traded."""

    first: date
    last: date
    symbols: tuple[str, ...]
    features: int
    trained: int
    figures: BacktestFigures


async def backtest_catalogue(market: MarketDataPort, first: date, last: date, hole_max: int) -> BacktestReport:
    """Every feature that is known at the open, against the return from the open to the close of its session. Intraday features
    are left out: minutes may be simulated, and then they lead to the close of their day. BadInput for too few sessions."""
    after = next((session for session in market.sessions() if session.date > last), market.sessions()[-1])
    history = await market.daily_history(after, first - timedelta(days=2 * WARMUP))
    rows, returns = _at_the_open(history, hole_max)
    chosen = [number for number, day in enumerate(history.sessions) if first <= day <= last]
    if len(chosen) < 2 * SESSIONS_MIN:
        raise BadInput(
            f"{len(chosen)} sessions from {first} to {last}: {2 * SESSIONS_MIN} are needed, half of them to learn from"
        )
    days = [history.sessions[number] for number in chosen]
    backtest = probe(rows[chosen], returns[chosen], days)
    told = figures(backtest)
    return BacktestReport(days[0], days[-1], market.symbols, rows.shape[2], len(days) - told.sessions, told)


def _at_the_open(history: DailyHistory, hole_max: int) -> tuple[Floats, Floats]:
    """Features [sessions, symbols, features] known at each open, and the return to its close."""
    bars = adjusted(history)
    days = over_history(BarFeatures(len(history.symbols), index=None, hole_bars_max=hole_max), bars)
    known = np.concatenate((np.full_like(days[:1], np.nan), days[:-1]))
    open_, close = (np.stack([getattr(row, name) for row in bars]) for name in ("open", "close"))
    usable = np.stack([row.usable for row in bars])
    before = np.concatenate((np.full_like(close[:1], np.nan), close[:-1]))
    with np.errstate(all="ignore"):
        gaps = np.where(usable, open_ / before - 1.0, np.nan)
        returns = np.where(usable, close / open_ - 1.0, np.nan)
        of_gaps = np.stack([gap_features(gap, each) for gap, each in zip(gaps, known, strict=True)])
    assert of_gaps.shape[2] + known.shape[2] == sum(feature.available_at.value != "INTRADAY" for feature in CANDIDATE.features)
    return np.concatenate((of_gaps, known), axis=2), returns
