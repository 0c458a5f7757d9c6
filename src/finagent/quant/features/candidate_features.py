"""The row of features of each candidate of a scan: the gap, the session so far, its quote, what is written about it, and its days
as of the previous close."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats, Quotes
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import BARS, CANDIDATE, GAP, NEWS, QUOTES, SESSION
from finagent.quant.features.cross_section import ranks
from finagent.quant.features.gap_scan import ScanResult

_NATR, _OVERNIGHT = BARS.columns["natr_14"], BARS.columns["overnight_volatility_20"]
_NEUTRAL = np.asarray([np.nan if feature.neutral is None else feature.neutral for feature in CANDIDATE.features])


def _places(*families: Iterable[object]) -> tuple[slice, ...]:
    """Where each family stands in the row."""
    ends = np.cumsum([len(list(family)) for family in families]).tolist()
    return tuple(slice(start, end) for start, end in zip((0, *ends), ends, strict=False))


_GAP, _SESSION, _QUOTES, _NEWS, _DAYS = _places(GAP, SESSION, QUOTES, NEWS, BARS.features)
_TODAY = slice(0, _DAYS.start)


def candidate_rows(found: ScanResult, session: Session, days: Floats, quotes: Quotes, news: Floats) -> Floats:
    """Rows [candidates, features] of CANDIDATE, best candidate first, NaN where unknown. `days` [symbols, features] of BARS and
    `quotes` are of the universe, `news` [candidates, features] of NEWS."""
    columns = found.ranked.columns
    rows = np.full((len(columns), len(CANDIDATE.features)), np.nan)
    rows[:, _DAYS] = days[columns]
    with np.errstate(all="ignore"):
        rows[:, _GAP] = gap_features(found.gap, days)[columns]
        _session(found, session, rows[:, _SESSION], days[columns])
        _quotes(found, quotes, columns, rows[:, _QUOTES])
        rows[:, _NEWS] = news
        known = rows[:, _TODAY]
        np.copyto(known, _NEUTRAL[_TODAY], where=~np.isfinite(known))
        _forget_unquoted(quotes, found.minute, columns, rows[:, _QUOTES])
    return rows


def gap_features(gap: Floats, days: Floats) -> Floats:
    """[symbols, features] of catalogue.GAP, of the gaps [symbols] of a session and the days before it [symbols, BARS]."""
    rows = np.stack((gap, np.abs(gap), gap / (days[:, _NATR] / 100.0), gap / days[:, _OVERNIGHT], ranks(gap)))
    return rows.T


def _session(found: ScanResult, session: Session, rows: Floats, days: Floats) -> None:
    ranked = found.ranked
    up = found.gap[ranked.columns] > 0.0
    place = (ranked.last - ranked.low) / (ranked.high - ranked.low)
    rows[:, 0] = np.log(ranked.relative_volume)
    rows[:, 1] = np.where(up, place, 1.0 - place)
    rows[:, 2] = ranked.last / ranked.open - 1.0
    rows[:, 3] = (ranked.high - ranked.low) / ranked.previous_close
    rows[:, 4] = rows[:, 3] / (days[:, _NATR] / 100.0)
    rows[:, 5] = ranked.last / ranked.previous_close - 1.0
    rows[:, 6] = (ranked.open - np.where(up, ranked.low, ranked.high)) / (ranked.open - ranked.previous_close)
    rows[:, 7] = ranked.last * ranked.cumulative_volume / ranked.cumulative_dollars - 1.0
    rows[:, 8] = ranked.age
    rows[:, 9], rows[:, 10], rows[:, 11] = found.minute, session.minutes - found.minute, session.date.weekday()


def _quotes(found: ScanResult, quotes: Quotes, columns: NDArray[np.intp], rows: Floats) -> None:
    bid, ask, bid_size, ask_size = (each[columns] for each in (quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size))
    mid, sizes = (bid + ask) / 2.0, bid_size + ask_size
    rows[:, 0] = (ask - bid) / mid
    rows[:, 1] = (bid_size - ask_size) / sizes
    rows[:, 2] = (ask * bid_size + bid * ask_size) / sizes / mid - 1.0
    rows[:, 3] = found.ranked.last / mid - 1.0
    rows[:, (0, 2, 3)] *= 10_000.0
    rows[:, 4] = quotes.age_seconds[columns]


def _forget_unquoted(quotes: Quotes, minute: int, columns: NDArray[np.intp], rows: Floats) -> None:
    """A quote without a side, one whose sides cross, or one from before the open is none: nothing is neutral about it."""
    bid, ask, age = (each[columns] for each in (quotes.bid, quotes.ask, quotes.age_seconds))
    rows[~((bid > 0.0) & (bid <= ask) & (ask < np.inf) & (age <= 60.0 * minute))] = np.nan
    sizes = quotes.bid_size[columns] + quotes.ask_size[columns]
    rows[~np.isfinite(sizes), 1:3] = np.nan
