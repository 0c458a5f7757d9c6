"""Features of intraday bars: the catalogue of days, driven by bars of some minutes."""

import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import numpy as np

from finagent.domain.bars import BarQuality, DailyHistory, Floats, SessionBars
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.features.bar_features import BarFeatures
from finagent.quant.features.bar_soundness import sound_bars
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS

WARMUP = max(feature.warmup for feature in BARS.features)


@dataclass(frozen=True, slots=True)
class IntradayPast:
    """Complete bars of one session: `ends_at` [bars] in minutes after the open, `bars` in USD and shares of that session, and
    `values` [bars, symbols, features] of BARS as of the end of each."""

    ends_at: tuple[int, ...]
    bars: tuple[BarRows, ...]
    values: Floats


async def intraday_features(
    market: MarketDataPort, session: Session, minute: int, timeframe_minutes: int, index: int | None = None
) -> Floats:
    """Values [symbols, features] of BARS over bars of `timeframe_minutes` that are complete `minute` minutes after the open of
    the session, NaN where unknown; `index` is the column of the symbol that stands for the market.

    They are counted from as many sessions before as a warm-up needs (fewer where the market has no more): whoever asks computes
    the same. A bar is what traded in its minutes, the last of a session may be shorter, and a symbol that did not trade for a
    session begins anew. BadInput for a timeframe that is not from 1 minute to a session.
    """
    features = BarFeatures(len(market.symbols), index=index, hole_bars_max=_bars_a_session(session, timeframe_minutes))
    async for _, rows in _adjusted(market, session, minute, timeframe_minutes):
        for row in rows:
            features.push(row)
    return features.values().T.copy()


async def intraday_past(
    market: MarketDataPort, session: Session, minute: int, timeframe_minutes: int, index: int | None = None
) -> IntradayPast:
    """What `intraday_features` says at the end of each bar of the session that is complete by then."""
    features = BarFeatures(len(market.symbols), index=index, hole_bars_max=_bars_a_session(session, timeframe_minutes))
    found: list[Floats] = []
    async for each, rows in _adjusted(market, session, minute, timeframe_minutes):
        for row in rows:
            features.push(row)
            if each is session:
                found.append(features.values().T.copy())
    bars = tuple(_rows(await market.session_bars(session), minute, timeframe_minutes, np.ones(len(market.symbols))))
    ends_at = tuple(min((place + 1) * timeframe_minutes, session.minutes) for place in range(len(bars)))
    return IntradayPast(ends_at, bars, np.stack(found) if found else np.empty((0, *BARS.shape(len(market.symbols)))))


def _bars_a_session(session: Session, timeframe_minutes: int) -> int:
    if not 1 <= timeframe_minutes <= session.minutes:
        raise BadInput(f"timeframe {timeframe_minutes} minutes: from 1 to the {session.minutes} of a session are possible")
    return math.ceil(session.minutes / timeframe_minutes)


async def _adjusted(
    market: MarketDataPort, session: Session, minute: int, timeframe_minutes: int
) -> AsyncIterator[tuple[Session, Iterator[BarRows]]]:
    """The sessions that a warm-up needs and this one up to `minute`, with their bars in shares of the first one."""
    sessions_before = math.ceil(WARMUP / _bars_a_session(session, timeframe_minutes))
    before = [each for each in market.sessions() if each.date < session.date][-sessions_before:]
    for each, factor in zip((*before, session), await _factors(market, before, session), strict=True):
        bars = await market.session_bars(each)
        yield each, _rows(bars, minute if each is session else each.minutes, timeframe_minutes, factor)


async def _factors(market: MarketDataPort, before: list[Session], session: Session) -> list[Floats]:
    """Of each session, what its prices are multiplied with to be in shares of the first one."""
    ones = np.ones(len(market.symbols))
    if not before:
        return [ones]
    history, prior = await market.daily_history(session, before[0].date), await market.prior_facts(session, ())
    factors = _known(history, before)
    with np.errstate(all="ignore"):  # a split of today shows in the close before it, as counted in the shares of today
        today = _last_close(history) / prior.previous_close
    return [*factors, factors[-1] * np.where(np.isfinite(today) & (today > 0.0), today, 1.0)]


def _known(history: DailyHistory, before: list[Session]) -> list[Floats]:
    factor, found = np.ones(len(history.symbols)), []
    split = dict(zip(history.sessions, history.split, strict=True))
    for place, session in enumerate(before):
        if place and session.date in split:
            factor = factor * split[session.date]
        found.append(factor)
    return found


def _last_close(history: DailyHistory) -> Floats:
    return history.close[-1] if len(history.close) else np.full(len(history.symbols), np.nan)


def _rows(bars: SessionBars, minutes: int, timeframe: int, factor: Floats) -> Iterator[BarRows]:
    """The bars that are complete by then, adjusted."""
    whole = bars.session.minutes
    for start in range(0, minutes, timeframe):
        stop = min(start + timeframe, whole)
        if stop > minutes:
            return
        traded = bars.quality[start:stop] == BarQuality.OK
        some = traded.any(axis=0)
        columns = np.arange(traded.shape[1])
        first, last = traded.argmax(axis=0), traded.shape[0] - 1 - traded[::-1].argmax(axis=0)
        open_ = np.where(some, bars.open[start:stop][first, columns], np.nan) * factor
        close = np.where(some, bars.close[start:stop][last, columns], np.nan) * factor
        high = np.where(traded, bars.high[start:stop], -np.inf).max(axis=0) * factor
        low = np.where(traded, bars.low[start:stop], np.inf).min(axis=0) * factor
        volume = np.where(traded, bars.volume[start:stop], 0.0).sum(axis=0) / factor
        yield BarRows(open_, high, low, close, volume, some & sound_bars(open_, high, low, close, volume))
