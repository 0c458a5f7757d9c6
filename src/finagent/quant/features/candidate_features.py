"""The row of features of each candidate of a scan: the gap, the session so far, and its days as of the previous close."""

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.sessions import Session
from finagent.quant.features.catalogue import BARS, CANDIDATE, GAP, SESSION
from finagent.quant.features.cross_section import ranks
from finagent.quant.features.gap_scan import ScanResult

_NATR, _OVERNIGHT = BARS.columns["natr_14"], BARS.columns["overnight_volatility_20"]
_DAYS = len(GAP) + len(SESSION)
_NEUTRAL = np.asarray([np.nan if feature.neutral is None else feature.neutral for feature in CANDIDATE.features[:_DAYS]])


def candidate_rows(found: ScanResult, session: Session, days: Floats) -> Floats:
    """Rows [candidates, features] of CANDIDATE, best candidate first, NaN where unknown; `days` [symbols, features] of BARS."""
    columns = found.ranked.columns
    rows = np.full((len(columns), len(CANDIDATE.features)), np.nan)
    rows[:, _DAYS:] = days[columns]
    with np.errstate(all="ignore"):
        _gap(found, columns, rows[:, : len(GAP)], days[columns])
        _session(found, session, rows[:, len(GAP) : _DAYS], days[columns])
        known = rows[:, :_DAYS]
        np.copyto(known, _NEUTRAL, where=~np.isfinite(known))
    return rows


def _gap(found: ScanResult, columns: NDArray[np.intp], rows: Floats, days: Floats) -> None:
    gap = found.gap[columns]
    rows[:, 0], rows[:, 1] = gap, np.abs(gap)
    rows[:, 2] = gap / (days[:, _NATR] / 100.0)
    rows[:, 3] = gap / days[:, _OVERNIGHT]
    rows[:, 4] = ranks(found.gap[np.newaxis])[0, columns]


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
