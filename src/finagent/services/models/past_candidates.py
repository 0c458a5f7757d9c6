"""What would have been a candidate at each open of the past, as it was known then, and what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.evaluation.labels import Barriers, Path, label_days
from finagent.quant.features.candidate_features import gap_features
from finagent.quant.features.catalogue import BARS, CANDIDATE, GAP
from finagent.quant.features.gap_scan import ScanRules
from finagent.quant.learning.learning_rows import REGIMES, LearningRows
from finagent.services.market_data.daily_features import DailyFeatures

AT_OPEN = CANDIDATE.select("known at the open", (*(row[0] for row in GAP), *BARS.names))
_NATR = AT_OPEN.columns["natr_14"]


@dataclass(frozen=True, slots=True)
class PastCandidates:
    """`rows.inputs` [rows, 1, features] of AT_OPEN; `dates` of the sessions that `rows.starts` counts."""

    rows: LearningRows
    dates: tuple[date, ...]


async def past_candidates(
    market: MarketDataPort,
    sessions: Sequence[Session],
    days: DailyFeatures,
    rules: ScanRules,
    barriers: Barriers,
    done: Callable[[], None] = lambda: None,
) -> PastCandidates:
    """Of all but the last of the sessions, whose day is not known; `done` is called after each.

    The rules of the scan that can be judged at the open: gap, price, dollar volume, and who is out. Volume of the first minutes
    is not asked, since days do not tell it. Regimes are not told apart: each is as likely. BadInput where there is no candidate.
    """
    inputs, outcomes, targets, starts = [], [], [], []
    for place, (session, following) in enumerate(pairwise(sessions)):
        prior, own = await market.prior_facts(session, ()), await market.daily_history(following, session.date)
        known = await days.before(session)
        done()
        if not own.sessions or own.sessions[0] != session.date:
            continue
        open_ = own.open[0]
        out = np.asarray([symbol in prior.excluded for symbol in market.symbols])
        with np.errstate(all="ignore"):
            gap = np.where(out, np.nan, open_ / prior.previous_close - 1.0)
            features = np.concatenate((gap_features(gap, known), known), axis=1)
            passed = np.flatnonzero(
                (np.abs(gap) >= rules.gap_fraction_min)
                & (open_ >= rules.price_usd_min)
                & (prior.dollar_volume_mean >= rules.dollar_volume_usd_min)
            )
        path = Path(own.high[0][passed], own.low[0][passed], own.close[0][passed])
        at = np.full(len(passed), place, dtype=np.int64)
        labels = label_days(open_[passed], path, features[passed, _NATR] / 100.0, at, barriers, np.sign(gap[passed]))
        inputs.append(features[passed][labels.known])
        outcomes.append(labels.outcome[labels.known])
        targets.append(labels.target_atr[labels.known])
        starts.append(at[labels.known])
    if not sum(map(len, outcomes)):
        raise BadInput(f"no candidate from {sessions[0].date} to {sessions[-1].date}: name a longer window, or lower scan.*")
    return PastCandidates(
        _rows(np.concatenate(inputs), np.concatenate(outcomes), np.concatenate(targets), np.concatenate(starts)),
        tuple(session.date for session in sessions[:-1]),
    )


def _rows(inputs: Floats, outcomes: NDArray[np.int8], targets: Floats, starts: NDArray[np.int64]) -> LearningRows:
    with np.errstate(over="ignore"):
        single = inputs.astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    alike = np.full((len(outcomes), REGIMES), 1.0 / REGIMES)
    return LearningRows(single[:, np.newaxis, :], outcomes, targets, starts, starts.copy(), alike)
